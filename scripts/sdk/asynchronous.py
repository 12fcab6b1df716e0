"""The journey once more by the SDK's asynchronous methods."""

import asyncio

from shop import has, order


def check(shop):
    asyncio.run(check_later(shop))


async def check_later(shop):
    customer = await shop.customers.create_customer_async.later(external_id=shop.name("async"), name="Jane")
    plan = await shop.plans.create_plan_async.later(name="Pro")
    await shop.prices.create_price_async.later(**shop.price_of(plan.id))
    wish = order(customer.external_id, plan.id)
    session = await shop.checkout.create_checkout_session_async.later(**wish)
    has(session, "payment_action", checkout_status="pending", terminal=False)
    shop.pay(session.id)
    for _ in range(100):
        session = await shop.checkout.get_checkout_session_async.later(id=session.id)
        if session.terminal:
            break
        await asyncio.sleep(0.1)
    has(session, checkout_status="completed", customer_id=customer.id)
    invoice = await shop.invoices.get_invoice_async.later(id=session.checkout_invoice_id)
    has(invoice, invoice_status="FINALIZED", payment_status="SUCCEEDED")
    subscription = await shop.subscriptions.get_subscription_async.later(id=invoice.subscription_id)
    has(subscription, subscription_status="active")
    payments = await shop.payments.list_payments_async.later(payment_ids=[session.checkout_payment_id])
    has(payments.items[0], payment_status="SUCCEEDED")
    # Several at once over one client are several tasks here; none may see another's answer.
    found = await asyncio.gather(
        *(shop.sdk.customers.get_customer_async(id=customer.id) for _ in range(10)),
        *(shop.sdk.plans.get_plan_async(id=plan.id) for _ in range(10)),
    )
    assert [each.id for each in found] == [customer.id] * 10 + [plan.id] * 10
    await shop.refused_later(400, "invalid_operation", shop.checkout.cancel_checkout_session_async, id=session.id)
