"""invoices.*: reading and searching."""

import datetime

from journey import INVOICE, INVOICE_LINE, poll
from shop import check_page, has


def check(shop):
    search, get = shop.invoices.query_invoice, shop.invoices.get_invoice
    customer = shop.customer("invoiced")
    cheap, dear = shop.plan("cheap", amount="10.25", min_quantity=3), shop.plan("dear", amount="5000")
    sessions = [shop.new_session(customer.external_id, plan.id) for plan in (cheap, dear)]
    draft, paid = (session.checkout_invoice_id for session in sessions)
    shop.pay(sessions[1].id)
    has(poll(shop, sessions[1].id), checkout_status="completed")
    read = get(id=draft, expand="customer,subscription", expand_by_source=False, group_by=["source"])
    has(read, *INVOICE, invoice_status="DRAFT", total="30.75")
    has(read.line_items[0], *INVOICE_LINE, quantity="3", amount="30.75")
    has(read.customer, id=customer.id)

    mine, total = {"customer_id": customer.id}, read
    check_page(search(**mine), [paid, draft], limit=50, offset=0)
    newest = search(**mine).items[0]
    has(newest, *INVOICE, "invoice_number", invoice_status="FINALIZED", payment_status="SUCCEEDED", amount_paid="5000")
    check_page(search(**mine, order="asc"), [draft, paid])
    check_page(search(**mine, limit=1, offset=1), [draft], total=2, limit=1, offset=1)
    check_page(search(external_customer_id=customer.external_id), [paid, draft])
    check_page(search(subscription_id=read.subscription_id), [draft])
    check_page(search(subscription_customer_id=[customer.id, "cust_unknown"]), [paid, draft])
    check_page(search(invoice_ids=[draft, "inv_unknown"]), [draft])
    check_page(search(**mine, invoice_type="SUBSCRIPTION"), [paid, draft])
    check_page(search(**mine, invoice_type="CREDIT"), [])
    check_page(search(**mine, invoice_status=["FINALIZED", "VOIDED"]), [paid])
    check_page(search(**mine, payment_status=["PENDING"]), [draft])
    check_page(search(**mine, billing_reason="SUBSCRIPTION_CREATE"), [paid, draft])
    check_page(search(**mine, billing_reason="MANUAL"), [])
    check_page(search(**mine, currency="INR"), [paid, draft])
    check_page(search(**mine, currency="USD"), [])
    # The SDK sends these as numbers.
    check_page(search(**mine, amount_due_gt=30.75), [paid])
    check_page(search(**mine, amount_due_gt=30.5), [paid, draft])
    check_page(search(**mine, amount_remaining_gt=0), [draft])
    day = datetime.timedelta(days=1)
    start, end = total.period_start, total.period_end
    check_page(search(**mine, period_start_gte=start.isoformat()), [paid, draft])
    check_page(search(**mine, period_start_lte=(start - day).isoformat()), [])
    check_page(search(**mine, period_end_gte=(end + day).isoformat()), [])
    check_page(search(**mine, period_end_lte=(end + day).isoformat()), [paid, draft])
    check_page(search(**mine, finalized_at_gte=start), [paid])
    check_page(search(**mine, finalized_at_gte=start + day), [])
    check_page(search(**mine, voided_at_gte=start), [])
    check_page(search(**mine, start_time=newest.created_at), [paid])
    check_page(search(**mine, end_time=read.created_at), [draft])
    check_page(search(**mine, status="archived"), [])
    check_page(search(**mine, sort=[{"field": "invoice_status", "direction": "asc"}]), [draft, paid])
    text = {"field": "invoice_number", "operator": "eq", "data_type": "string", "value": {"string": newest.invoice_number}}
    check_page(search(**mine, filters=[text]), [paid])
    (bare,) = search(invoice_ids=[draft], skip_line_items=True).items
    assert bare.line_items is None and bare.customer is None
    (full,) = search(invoice_ids=[draft], expand="customer").items
    has(full.customer, external_id=customer.external_id)
    has(full.line_items[0], *INVOICE_LINE)
    shop.refused(400, "validation_error", search, limit=0)
    shop.refused(400, "validation_error", search, invoice_status=["LOST"])
    shop.refused(400, "validation_error", search, currency="rupees")
    shop.refused(404, "not_found", get, id="inv_unknown")
