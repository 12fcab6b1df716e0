"""refunds.*: money that came late goes back."""

from shop import check_page, has, is_id, until

REFUND = (
    "id payment_id invoice_id amount settled_amount currency refund_status refund_reason refund_destination "
    "payment_gateway gateway_idempotency_token attempt tenant_id environment_id created_at updated_at"
).split()


def check(shop):
    listed = shop.refunds.list_refunds
    customer, plan = shop.customer("late"), shop.plan("late")
    shop.at_sandbox("PUT", "faults", {"refund_outcome": "failed"})
    failed = late_payment(shop, customer, plan, "FAILED")
    shop.at_sandbox("PUT", "faults", {})
    back = late_payment(shop, customer, plan, "SUCCEEDED")

    has(failed, *REFUND, "failed_at", "failure_reason", settled_amount="0", succeeded_at=None)
    has(back, *REFUND, "gateway_refund_id", "initiated_at", "succeeded_at", amount="499", settled_amount="499")
    has(back, currency="inr", refund_destination="GATEWAY", payment_gateway="razorpay", refund_reason="OTHER")
    is_id(back.id, "refund")
    assert shop.refunds.get_refund(id=back.id) == back

    mine = {"payment_ids": [failed.payment_id, back.payment_id]}
    check_page(listed(**mine), [back.id, failed.id], limit=50, offset=0)
    check_page(listed(**mine, limit=1, offset=1), [failed.id], total=2, limit=1, offset=1)
    check_page(listed(payment_ids=[failed.payment_id, "pay_unknown"]), [failed.id])
    check_page(listed(invoice_ids=[back.invoice_id, failed.invoice_id]), [back.id, failed.id])
    check_page(listed(**mine, refund_statuses=["FAILED", "CANCELLED"]), [failed.id])
    check_page(listed(**mine, refund_statuses=["FAILED", "SUCCEEDED"]), [back.id, failed.id])
    check_page(listed(**mine, only_settled=True), [back.id])
    check_page(listed(**mine, only_settled=False), [back.id, failed.id])
    check_page(listed(**mine, gateway="razorpay", refund_destinations=["WALLET", "GATEWAY"]), [back.id, failed.id])
    check_page(listed(**mine, gateway="stripe"), [])
    check_page(listed(**mine, refund_destinations=["WALLET", "OUT_OF_BAND"]), [])
    check_page(listed(**mine, credit_note_ids=["cn_1"]), [])
    shop.refused(400, "validation_error", listed, limit=0)
    shop.refused(400, "validation_error", listed, refund_statuses=["LOST"])

    # A POST without a body. The new try is under a new key.
    again = shop.refunds.retry_refund(id=failed.id)
    has(again, *REFUND, id=failed.id)
    assert again.gateway_idempotency_token != failed.gateway_idempotency_token
    has(refund_of(shop, failed.payment_id, "SUCCEEDED"), id=failed.id, settled_amount="499")
    shop.refused(400, "invalid_operation", shop.refunds.retry_refund, id=back.id)
    for call in (shop.refunds.get_refund, shop.refunds.retry_refund):
        shop.refused(404, "not_found", call, id="refund_unknown")


def late_payment(shop, customer, plan, status):
    session = shop.new_session(customer.external_id, plan.id)
    shop.checkout.cancel_checkout_session(id=session.id)
    shop.pay(session.id, late=True)
    return refund_of(shop, session.checkout_payment_id, status)


def refund_of(shop, payment, status):
    """The payment's refund, once it has this status."""

    def found():
        page = shop.refunds.list_refunds(payment_ids=[payment], refund_statuses=[status])
        return page.items and page.items[0]

    return until(found, f"a refund of {payment} is {status}")
