"""checkout.*: every field of the request, and every way to be refused."""

import datetime

from flexprice import models
from journey import poll
from shop import has, is_now, order


def check(shop):
    customer = shop.customer("sessions")
    plan = shop.plan("sessions")
    check_fields(shop, customer, plan)
    check_typed_models(shop, customer, plan)
    check_open_sessions_end(shop, customer, plan)
    check_refusals(shop, customer, plan)


def check_fields(shop, customer, plan):
    start = datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.timezone(datetime.timedelta(hours=5, minutes=30)))
    params = {
        "plan_id": plan.id,
        "currency": "inr",
        "billing_period": "MONTHLY",
        "start_date": start,
        "end_date": start.replace(year=2030),
        "lookup_key": shop.name("sub"),
        "metadata": {"seat": "1"},
    }
    session = shop.checkout.create_checkout_session(
        action="create_subscription",
        customer_external_id=customer.external_id,
        payment_provider="razorpay",
        configuration={"create_subscription_params": params},
        entity_creation_options={"entity_creation_conflict_policies": {"on_existing_entity": "reject"}},
        payment_provider_config={"collection_method": "send_invoice", "payment_method": "UPI", "max_mandate_limit": "5000"},
        success_url="https://a.example/s",
        failure_url="https://a.example/f",
        cancel_url="https://a.example/c",
        idempotency_key=shop.name("all fields"),
        metadata={"order_id": "1", "ünï": "cödé €"},
    )
    has(session, success_url="https://a.example/s", failure_url="https://a.example/f", cancel_url="https://a.example/c")
    has(session, idempotency_key=shop.name("all fields"), metadata={"order_id": "1", "ünï": "cödé €"})
    invoice = shop.invoices.get_invoice(id=session.checkout_invoice_id)
    subscription = shop.subscriptions.get_subscription(id=invoice.subscription_id)
    has(subscription, start_date=start, end_date=params["end_date"], lookup_key=params["lookup_key"])
    has(subscription, metadata={"seat": "1"}, billing_anchor=start, currency="inr")
    shop.checkout.delete_checkout_session(id=session.id)


def check_typed_models(shop, customer, plan):
    """The same with the SDK's models in place of dictionaries; a plan by its lookup key."""
    session = shop.checkout.create_checkout_session(
        action="create_subscription",
        customer_external_id=customer.external_id,
        payment_provider="razorpay",
        configuration=models.CheckoutConfiguration(
            create_subscription_params=models.CreateSubscriptionParams(
                plan_id=plan.lookup_key, currency="INR", billing_period="MONTHLY"
            )
        ),
        payment_provider_config=models.CheckoutPaymentProviderConfig(collection_method="send_invoice"),
    )
    has(session, checkout_status="pending", idempotency_key=None, success_url=None, metadata=None)
    shop.checkout.delete_checkout_session(id=session.id)


def check_open_sessions_end(shop, customer, plan):
    """Deleting an open session cancels its link; a link that the provider ends fails its session."""
    session = shop.new_session(customer.external_id, plan.id)
    shop.checkout.delete_checkout_session(id=session.id)
    session = shop.checkout.get_checkout_session(id=session.id)
    has(session, "failure_reason", checkout_status="expired", terminal=True)
    is_now(session.cancelled_at)
    session = shop.new_session(customer.external_id, plan.id)
    shop.at_sandbox("POST", f"links/{session.id}/cancel", {})
    session = poll(shop, session.id)
    has(session, "failure_reason", checkout_status="failed", terminal=True, next_poll_after_ms=0)


def check_refusals(shop, customer, plan):
    create = shop.checkout.create_checkout_session
    base = order(customer.external_id, plan.id)

    def params(**changes):
        params = base["configuration"]["create_subscription_params"] | changes
        return {"configuration": {"create_subscription_params": params}}

    free = shop.plan("free", amount="0")
    once = shop.plan("once", billing_period="ONETIME")
    gone = shop.customer("gone")
    shop.customers.delete_customer(id=gone.id)
    for change in (
        *({"action": action} for action in ("modify_subscription", "wallet_topup", "add_addon", "pay_invoice")),
        {"payment_provider": "stripe"},
        {"payment_provider": "chargebee"},
        {"configuration": None},
        {"configuration": {"wallet_topup_params": {"wallet_id": "wallet_1"}}},
        {"payment_provider_config": {"collection_method": "charge_automatically"}},
        {"success_url": "not a url"},
        {"idempotency_key": ""},
        {"metadata": {"k": "v" * 501}},
        params(currency="USD"),
        params(currency="rupees"),
        params(billing_period="ANNUAL"),
        params(billing_period="FORTNIGHTLY"),
        params(plan_id=free.id),
        params(plan_id=once.id, billing_period="ONETIME"),
        params(subscription_id="subs_1"),
        params(
            start_date=datetime.datetime(2026, 2, 1, tzinfo=datetime.timezone.utc),
            end_date=datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc),
        ),
    ):
        envelope = shop.refused(400, "validation_error", create, **base | change)
        assert envelope["details"], envelope
    # Not typed by the SDK; the envelope is the same.
    for change, reason in (
        ({"customer_external_id": "nobody"}, "customer_not_found"),
        (params(plan_id="plan_unknown"), "plan_not_found"),
    ):
        assert shop.refused(404, "not_found", create, **base | change)["details"] == {"reason": reason}
    envelope = shop.refused(400, "validation_error", create, **base | {"customer_external_id": gone.external_id})
    assert envelope["details"]["reason"] == "customer_archived", envelope
    for operation in ("get_checkout_session", "cancel_checkout_session", "delete_checkout_session"):
        for id in ("chk_01ARZ3NDEKTSV4RRFFQ69G5FAV", "cs_01KBN5Y7G2D4F6H8J0K2M4N6P8", "a b"):
            shop.refused(404, "not_found", getattr(shop.checkout, operation), id=id)
