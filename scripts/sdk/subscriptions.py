"""subscriptions.*: reading and searching."""

import datetime

from journey import SUBSCRIPTION, SUBSCRIPTION_LINE
from shop import check_page, has


def check(shop):
    search = shop.subscriptions.query_subscription
    customer, plan, other = shop.customer("subscribes"), shop.plan("subscribed"), shop.plan("other")
    first = subscription_of(shop, shop.new_session(customer.external_id, plan.id))
    second = subscription_of(shop, shop.new_session(customer.external_id, other.id))
    mine = {"customer_id": customer.id}
    check_page(search(**mine), [second.id, first.id], limit=50, offset=0)
    (newest, _) = search(**mine).items
    has(newest, *(field for field in SUBSCRIPTION if field != "line_items"), subscription_status="draft")
    assert newest.line_items is None and newest.plan is None and newest.customer is None
    check_page(search(**mine, order="asc"), [first.id, second.id])
    check_page(search(**mine, limit=1, offset=1), [first.id], total=2, limit=1, offset=1)
    check_page(search(customer_ids=[customer.id, "cust_unknown"]), [second.id, first.id])
    check_page(search(external_customer_id=customer.external_id), [second.id, first.id])
    check_page(search(invoicing_customer_ids=[customer.id]), [second.id, first.id])
    check_page(search(plan_id=plan.id), [first.id])
    check_page(search(subscription_ids=[first.id, "subs_unknown"]), [first.id])
    check_page(search(**mine, subscription_status=["active", "draft"]), [second.id, first.id])
    check_page(search(**mine, subscription_status=["active", "cancelled", "trialing"]), [])
    check_page(search(**mine, billing_period=["MONTHLY"], billing_cadence=["RECURRING"]), [second.id, first.id])
    check_page(search(**mine, billing_period=["ANNUAL"]), [])
    check_page(search(**mine, subscription_type=["standalone"]), [second.id, first.id])
    check_page(search(**mine, subscription_type=["parent"]), [])
    check_page(search(**mine, parent_subscription_ids=[first.id]), [])
    check_page(search(**mine, active_at=second.start_date), [second.id, first.id])
    check_page(search(**mine, active_at=first.start_date - datetime.timedelta(days=1)), [])
    check_page(search(**mine, trial_end_due_lte=second.start_date + datetime.timedelta(days=90)), [])
    check_page(search(**mine, start_time=second.created_at), [second.id])
    check_page(search(**mine, end_time=first.created_at), [first.id])
    check_page(search(**mine, status="archived"), [])
    by_start = [{"field": "start_date", "direction": "asc"}]
    check_page(search(**mine, sort=by_start), [first.id, second.id])
    by_plan = [{"field": "plan_id", "operator": "in", "data_type": "array", "value": {"array": [plan.id]}}]
    check_page(search(**mine, filters=by_plan), [first.id])
    (expanded,) = search(plan_id=plan.id, with_line_items=True, expand="plan,customer,prices").items
    (line,) = expanded.line_items
    has(line, *SUBSCRIPTION_LINE, plan_display_name="Pro")
    has(line.price, id=line.price_id, amount="499")
    has(expanded.plan, id=plan.id)
    has(expanded.customer, id=customer.id, external_id=customer.external_id)
    shop.refused(400, "validation_error", search, limit=0)
    shop.refused(400, "validation_error", search, subscription_status=["sleeping"])
    shop.refused(404, "not_found", shop.subscriptions.get_subscription, id="subs_unknown")


def subscription_of(shop, session):
    invoice = shop.invoices.get_invoice(id=session.checkout_invoice_id)
    return shop.subscriptions.get_subscription(id=invoice.subscription_id)
