"""What can be done with subscriptions, invoices and payments: little, because payments at Razorpay decide."""

import datetime

from journey import INVOICE, PAYMENT, SUBSCRIPTION, poll
from shop import check_page, has, is_now

DAY = datetime.timedelta(days=1)


def check(shop):
    customer = shop.customers.create_customer(external_id=f"{shop.run}/acts on@all", name="Jane")
    plan = shop.plan("acted on")
    draft, paid, third = (shop.new_session(customer.external_id, plan.id) for _ in range(3))
    for session in (paid, third):
        shop.pay(session.id)
        has(poll(shop, session.id), checkout_status="completed")
    check_invoices(shop, draft, paid)
    check_payments(shop, draft, paid)
    subscriptions = [
        shop.invoices.get_invoice(id=session.checkout_invoice_id).subscription_id for session in (draft, paid, third)
    ]
    check_reads(shop, customer, plan, subscriptions)
    check_endings(shop, subscriptions)


def check_invoices(shop, draft, paid):
    update = shop.invoices.update_invoice
    due = datetime.datetime(2030, 1, 1, tzinfo=datetime.timezone.utc)
    for session in (draft, paid):
        id = session.checkout_invoice_id
        has(update(id=id, metadata={"po": "1"}, due_date=due), *INVOICE, id=id, metadata={"po": "1"}, due_date=due)
        has(update(id=id, metadata={}), metadata={}, due_date=due)
        shop.refused(400, "validation_error", update, id=id, invoice_pdf_url="https://a.example/i.pdf")
        shop.refused(400, "validation_error", update, id=id, apply_discount=True)
    set_status, finalize, void = (
        shop.invoices.update_invoice_payment_status,
        shop.invoices.finalize_invoice,
        shop.invoices.void_invoice,
    )
    has(set_status(id=draft.checkout_invoice_id, payment_status="PENDING"), *INVOICE, invoice_status="DRAFT")
    has(set_status(id=paid.checkout_invoice_id, payment_status="SUCCEEDED", amount="499.00"), *INVOICE, amount_paid="499")
    shop.refused(400, "invalid_operation", set_status, id=draft.checkout_invoice_id, payment_status="SUCCEEDED")
    shop.refused(400, "invalid_operation", set_status, id=paid.checkout_invoice_id, payment_status="REFUNDED")
    # POSTs without a body.
    for call in (finalize, void):
        envelope = shop.refused(400, "invalid_operation", call, id=draft.checkout_invoice_id)
        assert envelope["details"]["checkout_session_id"] == draft.id, envelope
    shop.refused(400, "validation_error", finalize, id=paid.checkout_invoice_id)
    shop.refused(400, "invalid_operation", void, id=paid.checkout_invoice_id)
    for call, more in ((update, {}), (set_status, {"payment_status": "PENDING"}), (finalize, {}), (void, {})):
        shop.refused(404, "not_found", call, id="inv_unknown", **more)


def check_payments(shop, draft, paid):
    update, process = shop.payments.update_payment, shop.payments.process_payment
    open_one, done = draft.checkout_payment_id, paid.checkout_payment_id
    has(update(id=open_one, metadata={"k": "v"}), *PAYMENT, id=open_one, metadata={"k": "v"}, payment_status="INITIATED")
    recorded = shop.payments.get_payment(id=done)
    same = update(
        id=done,
        payment_status="SUCCEEDED",
        payment_gateway="razorpay",
        gateway_payment_id=recorded.gateway_payment_id,
        gateway_tracking_id=recorded.gateway_tracking_id,
        succeeded_at=recorded.succeeded_at,
    )
    has(same, *PAYMENT, id=done, payment_status="SUCCEEDED", succeeded_at=recorded.succeeded_at)
    for change in ({"payment_status": "SUCCEEDED"}, {"gateway_payment_id": "pay_1"}, {"error_message": "no"}):
        shop.refused(400, "invalid_operation", update, id=open_one, **change)
    shop.refused(400, "validation_error", update, id=open_one, metadata={"k" * 41: "v"})
    has(process(id=open_one), *PAYMENT, id=open_one, payment_status="INITIATED")
    has(process(id=done), *PAYMENT, id=done, payment_status="SUCCEEDED")
    for call in (update, process):
        shop.refused(404, "not_found", call, id="pay_unknown")


def check_reads(shop, customer, plan, subscriptions):
    draft, paid, third = subscriptions
    # The name has slashes, a space and an @.
    listed = shop.customers.get_subscriptions_for_customer
    check_page(listed(external_id=customer.external_id), [third, paid, draft], limit=50, offset=0)
    (newest, *_) = listed(external_id=customer.external_id, expand="plan,customer,subscription_line_items").items
    has(newest, "line_items", *SUBSCRIPTION, plan_id=plan.id, subscription_status="active")
    has(newest.plan, id=plan.id)
    has(newest.customer, id=customer.id)
    shop.refused(404, "not_found", listed, external_id="no/such one@all")
    read = shop.subscriptions.get_subscription_v2
    plain = read(id=paid)
    has(plain, *(field for field in SUBSCRIPTION if field != "line_items"), id=paid, subscription_status="active")
    assert plain.plan is None and plain.customer is None and plain.line_items is None, plain
    full = read(id=paid, expand="plan,customer,subscription_line_items,prices")
    has(full.plan, id=plan.id)
    has(full.customer, external_id=customer.external_id)
    has(full.line_items[0], quantity="1", plan_display_name="Pro")
    has(full.line_items[0].price, amount="499", currency="inr")
    shop.refused(404, "not_found", read, id="subs_unknown")


def check_endings(shop, subscriptions):
    draft, paid, third = subscriptions
    cancel, activate, read = (
        shop.subscriptions.cancel_subscription,
        shop.subscriptions.activate_subscription,
        shop.subscriptions.get_subscription,
    )
    now = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
    shop.refused(400, "invalid_operation", cancel, id=draft, cancellation_type="immediate")
    for id in (draft, paid):
        shop.refused(400, "invalid_operation", activate, id=id, start_date=now)
    for wrong in (
        {"cancellation_type": "scheduled_date"},
        {"cancellation_type": "some day"},
        {"cancellation_type": "immediate", "proration_behavior": "create_prorations"},
        {"cancellation_type": "immediate", "cancel_immediately_invoice_policy": "generate_invoice"},
    ):
        shop.refused(400, "validation_error", cancel, id=paid, **wrong)

    planned = cancel(id=paid, cancellation_type="end_of_period", reason="Too dear", proration_behavior="none")
    end = read(id=paid).current_period_end
    has(planned, "message", "processed_at", subscription_id=paid, status="active", effective_date=end, reason="Too dear")
    has(planned, cancellation_type="end_of_period", proration_details=[], total_credit_amount="0")
    has(read(id=paid), subscription_status="active", cancel_at=end, cancel_at_period_end=True, cancelled_at=None)
    dated = cancel(id=paid, cancellation_type="scheduled_date", cancel_at=now + DAY)
    has(dated, status="active", effective_date=now + DAY)
    has(read(id=paid), cancel_at=now + DAY, cancel_at_period_end=False)
    ended = cancel(id=third, cancellation_type="immediate", cancel_immediately_invoice_policy="skip")
    has(ended, "message", subscription_id=third, status="cancelled", cancellation_type="immediate")
    is_now(ended.effective_date)
    has(read(id=third), subscription_status="cancelled", cancelled_at=ended.effective_date)
    shop.refused(400, "invalid_operation", cancel, id=third, cancellation_type="immediate")
    shop.refused(404, "not_found", cancel, id="subs_unknown", cancellation_type="immediate")
    shop.refused(404, "not_found", activate, id="subs_unknown", start_date=now)
