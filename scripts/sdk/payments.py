"""payments.*: reading and listing; lists in the query are joined by commas."""

from journey import PAYMENT, poll
from shop import check_page, has


def check(shop):
    listed = shop.payments.list_payments
    customer, plan = shop.customer("pays"), shop.plan("paid")
    sessions = [shop.new_session(customer.external_id, plan.id) for _ in range(3)]
    shop.pay(sessions[2].id)
    has(poll(shop, sessions[2].id), checkout_status="completed")
    first, second, third = (session.checkout_payment_id for session in sessions)
    payments = [shop.payments.get_payment(id=id) for id in (first, second, third)]
    has(payments[0], *PAYMENT, payment_status="INITIATED")
    has(payments[2], *PAYMENT, "succeeded_at", "gateway_payment_id", payment_status="SUCCEEDED")

    mine = {"payment_ids": [first, second, third]}
    check_page(listed(**mine), [third, second, first], limit=50, offset=0)
    check_page(listed(payment_ids=[first, "pay_unknown"]), [first])
    check_page(listed(**mine, limit=1, offset=1), [second], total=3, limit=1, offset=1)
    check_page(listed(**mine, order="asc"), [first, second, third])
    check_page(listed(**mine, sort="payment_status", order="desc"), [third, second, first])
    check_page(listed(destination_id=sessions[1].checkout_invoice_id), [second])
    check_page(listed(**mine, destination_type="INVOICE"), [third, second, first])
    check_page(listed(**mine, destination_type="CUSTOMER"), [])
    check_page(listed(**mine, payment_method_type="PAYMENT_LINK"), [third, second, first])
    check_page(listed(**mine, payment_method_type="CARD"), [])
    check_page(listed(**mine, payment_status="SUCCEEDED"), [third])
    check_page(listed(**mine, payment_status="VOIDED"), [])
    check_page(listed(**mine, payment_gateway="razorpay"), [third, second, first])
    check_page(listed(**mine, payment_gateway="stripe"), [])
    check_page(listed(gateway_payment_id=payments[2].gateway_payment_id), [third])
    check_page(listed(gateway_tracking_id=payments[0].gateway_tracking_id), [first])
    check_page(listed(**mine, currency="INR"), [third, second, first])
    check_page(listed(**mine, currency="usd"), [])
    check_page(listed(**mine, start_time=payments[1].created_at.isoformat()), [third, second])
    check_page(listed(**mine, end_time=payments[1].created_at.isoformat()), [second, first])
    check_page(listed(**mine, status="archived"), [])
    check_page(listed(**mine, expand="invoice"), [third, second, first])
    for wrong in ({"limit": 0}, {"currency": "rupees"}, {"payment_status": "LOST"}, {"sort": "secret"}):
        shop.refused(400, "validation_error", listed, **wrong)
    shop.refused(404, "not_found", shop.payments.get_payment, id="pay_unknown")
