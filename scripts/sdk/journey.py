"""The journey of the implementation guide: customer, plan, price, session, payment, and what became of it."""

from flexprice import models
from shop import check_page, has, is_id, is_now, order, until

URLS = {
    "success_url": "https://app.example.com/welcome?session_id={CHECKOUT_SESSION_ID}",
    "failure_url": "https://app.example.com/pricing?error=payment_failed",
    "cancel_url": "https://app.example.com/pricing",
}
# What section 5.2 of the compatible API always sends, once the provider has answered.
SESSION = (
    "id customer_id action payment_provider checkout_status terminal next_poll_after_ms stale expires_at created_at "
    "updated_at payment_action payment checkout_invoice_id checkout_payment_id"
).split()
SUBSCRIPTION = (
    "id customer_id invoicing_customer_id plan_id subscription_status status currency billing_period "
    "billing_period_count billing_cadence billing_cycle billing_anchor start_date current_period_start "
    "current_period_end cancel_at_period_end collection_method proration_behavior pause_status subscription_type "
    "timezone version metadata line_items tenant_id environment_id created_at updated_at"
).split()
SUBSCRIPTION_LINE = (
    "id price_id price_type invoice_cadence billing_period quantity currency entity_type entity_id display_name "
    "plan_display_name start_date status"
).split()
INVOICE = (
    "id customer_id subscription_id invoice_type invoice_status payment_status currency subtotal total_discount "
    "total_tax total total_prepaid_credits_applied amount_due amount_paid amount_remaining overpaid_amount "
    "refunded_amount adjustment_amount billing_reason billing_period period_start period_end source_type version "
    "metadata taxes coupon_applications line_items status tenant_id environment_id created_at updated_at"
).split()
INVOICE_LINE = (
    "id price_id price_type display_name plan_display_name amount quantity currency period_start period_end "
    "line_item_discount invoice_level_discount prepaid_credits_applied subscription_line_item_id"
).split()
PAYMENT = (
    "id amount currency destination_type destination_id payment_method_type payment_status payment_gateway "
    "gateway_tracking_id gateway_metadata payment_url track_attempts attempts metadata tenant_id environment_id "
    "created_at updated_at"
).split()


def check(shop):
    customer = shop.customers.create_customer(
        external_id=shop.name("journey"), name="Jane Smith", email="jane@example.com", billing_currency="INR"
    )
    key = shop.name("plan_pro_monthly")
    plan = shop.plans.create_plan(name="Pro", lookup_key=key)
    price = shop.price(plan.id, amount="499.00")
    has(price, amount="499", currency="inr")

    wish = order(customer.external_id, key) | URLS | {"idempotency_key": shop.name("order_1")}
    session = shop.checkout.create_checkout_session(**wish, metadata={"order_id": "1"})
    check_pending(shop, session, customer)
    check_drafts(shop, session, customer, plan, price)

    envelope = shop.refused(409, "already_exists", shop.checkout.create_checkout_session, **wish)
    open_session = models.CheckoutSessionResponse.model_validate(envelope["details"]["checkout_session"])
    has(open_session, id=session.id, checkout_status="pending", payment_action=session.payment_action)
    has(open_session, idempotency_key=wish["idempotency_key"])

    # The first try fails; the customer tries again on the same link.
    shop.pay(session.id, method="upi", outcome="failure")
    until(lambda: shop.payments.get_payment(id=session.checkout_payment_id).attempts, "the failed try is on record")
    shop.pay(session.id, method="upi")
    session = poll(shop, session.id)
    has(session, *SESSION, checkout_status="completed", terminal=True, next_poll_after_ms=0, cancelled_at=None)
    has(session.payment, id=session.checkout_payment_id, status="SUCCEEDED", gateway="razorpay")
    is_now(session.completed_at)
    check_outcome(shop, session, customer, plan)

    shop.refused(400, "invalid_operation", shop.checkout.cancel_checkout_session, id=session.id)
    shop.refused(400, "invalid_operation", shop.checkout.delete_checkout_session, id=session.id)
    # The key is free again.
    second = shop.checkout.create_checkout_session(**wish)
    assert second.id != session.id
    check_ending(shop, second)


def check_pending(shop, session, customer):
    has(session, *SESSION, action="create_subscription", payment_provider="razorpay", checkout_status="pending")
    has(session, customer_id=customer.id, terminal=False, next_poll_after_ms=2000, metadata={"order_id": "1"})
    has(session, **URLS, idempotency_key=shop.name("order_1"), completed_at=None, failure_reason=None)
    has(session.payment_action, type="payment_link")
    has(session.payment, id=session.checkout_payment_id, status="INITIATED", gateway="razorpay")
    is_id(session.id, "chk")
    is_now(session.created_at)
    assert 14 * 60 <= (session.expires_at - session.created_at).total_seconds() <= 15 * 60
    again = shop.checkout.get_checkout_session(id=session.id)
    has(again, *SESSION, id=session.id, checkout_status="pending", payment_action=session.payment_action)


def check_drafts(shop, session, customer, plan, price):
    invoice = shop.invoices.get_invoice(id=session.checkout_invoice_id)
    has(invoice, *INVOICE, customer_id=customer.id, invoice_status="DRAFT", payment_status="PENDING")
    has(invoice, invoice_type="SUBSCRIPTION", currency="inr", subtotal="499", total="499", amount_due="499")
    has(invoice, amount_paid="0", amount_remaining="499", billing_reason="SUBSCRIPTION_CREATE", invoice_number=None)
    has(invoice, billing_period="MONTHLY", source_type="checkout", status="published")
    (line,) = invoice.line_items
    has(line, *INVOICE_LINE, price_id=price.id, price_type="FIXED", quantity="1", amount="499", currency="inr")
    subscription = shop.subscriptions.get_subscription(id=invoice.subscription_id)
    has(subscription, *SUBSCRIPTION, customer_id=customer.id, plan_id=plan.id, subscription_status="draft")
    has(subscription, currency="inr", billing_period="MONTHLY", billing_period_count=1, billing_cycle="anniversary")
    has(subscription, collection_method="send_invoice", invoicing_customer_id=customer.id, timezone="UTC")
    (line,) = subscription.line_items
    has(line, *SUBSCRIPTION_LINE, price_id=price.id, quantity="1", entity_type="plan", entity_id=plan.id)
    has(subscription.plan, id=plan.id, name="Pro")
    has(subscription.customer, id=customer.id)
    payment = shop.payments.get_payment(id=session.checkout_payment_id)
    has(payment, *PAYMENT, amount="499", currency="inr", destination_type="INVOICE", destination_id=invoice.id)
    has(payment, payment_method_type="PAYMENT_LINK", payment_status="INITIATED", payment_gateway="razorpay")
    has(payment, payment_url=session.payment_action.url, attempts=[], succeeded_at=None)


def poll(shop, id):
    """As the guide has it: the success page asks until the session is terminal."""

    def ended():
        session = shop.checkout.get_checkout_session(id=id)
        assert session.terminal == (session.next_poll_after_ms == 0), session
        return session.terminal and session

    return until(ended, f"{id} ends")


def check_outcome(shop, session, customer, plan):
    invoice = shop.invoices.get_invoice(id=session.checkout_invoice_id)
    has(invoice, *INVOICE, "finalized_at", "paid_at", "issue_date", invoice_status="FINALIZED", total="499")
    has(invoice, payment_status="SUCCEEDED", amount_paid="499", amount_remaining="0")
    assert invoice.invoice_number.startswith(f"INV-{invoice.finalized_at:%Y%m}-"), invoice.invoice_number
    subscription = shop.subscriptions.get_subscription(id=invoice.subscription_id)
    has(subscription, *SUBSCRIPTION, subscription_status="active", plan_id=plan.id, customer_id=customer.id)
    payment = shop.payments.get_payment(id=session.checkout_payment_id)
    has(payment, *PAYMENT, "gateway_payment_id", payment_status="SUCCEEDED", invoice_number=invoice.invoice_number)
    is_now(payment.succeeded_at)
    declined, succeeded = sorted(payment.attempts, key=lambda attempt: attempt.attempt_number)
    has(declined, "id", "error_message", payment_id=payment.id, attempt_number=1)
    has(succeeded, "id", payment_id=payment.id, attempt_number=2, error_message=None)
    found = shop.payments.list_payments(destination_id=invoice.id, payment_status="SUCCEEDED")
    check_page(found, [payment.id])
    found = shop.subscriptions.query_subscription(customer_id=customer.id, subscription_status=["active"])
    check_page(found, [subscription.id])


def check_ending(shop, session):
    """Cancelling twice, deleting, and reading all the same."""
    for _ in range(2):
        cancelled = shop.checkout.cancel_checkout_session(id=session.id)
        has(cancelled, *SESSION, "failure_reason", id=session.id, checkout_status="expired", terminal=True)
        is_now(cancelled.cancelled_at)
    shop.checkout.delete_checkout_session(id=session.id)
    has(shop.checkout.get_checkout_session(id=session.id), id=session.id, checkout_status="expired")
    invoice = shop.invoices.get_invoice(id=session.checkout_invoice_id)
    has(invoice, status="archived", invoice_status="DRAFT")
    has(shop.subscriptions.get_subscription(id=invoice.subscription_id), status="archived")
    has(shop.payments.get_payment(id=session.checkout_payment_id), payment_status="INITIATED")
