"""prices.*: every billing model, replacing, ending."""

import datetime

from flexprice import models
from shop import check_page, has, is_id, is_now

PRICE = (
    "id entity_type entity_id type billing_model billing_period billing_period_count billing_cadence currency "
    "display_name invoice_cadence price_unit_type start_date metadata status tenant_id environment_id created_at updated_at"
).split()
UTC = datetime.timezone.utc


def check(shop):
    plan = shop.plans.create_plan(name="Priced")
    check_fields(shop, plan)
    check_models(shop, plan)
    check_refusals(shop, plan)
    check_update(shop, plan)
    check_delete(shop, plan)
    check_search(shop)


def check_fields(shop, plan):
    start = datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.timezone(datetime.timedelta(hours=5, minutes=30)))
    fields = {
        "billing_period_count": 2,
        "description": "Each seat",
        "display_name": "Seats",
        "group_id": "group_1",
        "lookup_key": shop.name("seats"),
        "metadata": {"k": "v"},
        "trial_period_days": 7,
        "start_date": start,
        "end_date": start.replace(year=2030),
    }
    price = shop.price(plan.id, amount="1499.00", min_quantity=3, filter_values={}, **fields)
    has(price, *PRICE, **fields, amount="1499", currency="inr", min_quantity="3", entity_type="PLAN", entity_id=plan.id)
    has(price, type="FIXED", billing_model="FLAT_FEE", billing_period="MONTHLY", invoice_cadence="ADVANCE")
    has(price, price_unit_type="FIAT", billing_cadence="RECURRING", display_amount="₹1499", status="published")
    is_id(price.id, "price")
    assert shop.prices.get_price(id=price.id) == price
    small = shop.price(plan.id)
    has(small, *PRICE, billing_period_count=1, display_name="Priced", min_quantity=None, end_date=None, metadata={})
    is_now(small.start_date)


def check_models(shop, plan):
    for period in ("MONTHLY", "ANNUAL", "WEEKLY", "DAILY", "QUARTERLY", "HALF_YEARLY", "ONETIME"):
        has(shop.price(plan.id, billing_period=period), *PRICE, billing_period=period, billing_cadence="RECURRING")
    has(shop.price(plan.id, invoice_cadence="ARREAR"), *PRICE, invoice_cadence="ARREAR")
    has(shop.price(plan.id, currency="jpy", amount="100"), currency="jpy", amount="100")
    has(shop.price(plan.id, currency="KWD", amount="1.125"), currency="kwd", amount="1.125")
    package = shop.price(plan.id, billing_model="PACKAGE", transform_quantity={"divide_by": 10, "round": "up"})
    has(package, *PRICE, "amount", billing_model="PACKAGE")
    has(package.transform_quantity, divide_by=10, round="up")
    tiers = [models.CreatePriceTier(unit_amount="1.50", up_to=10), models.CreatePriceTier(unit_amount="1", flat_amount="5.25")]
    for mode in ("VOLUME", "SLAB"):
        tiered = shop.price(plan.id, amount=None, billing_model="TIERED", tier_mode=mode, tiers=tiers)
        has(tiered, *PRICE, billing_model="TIERED", tier_mode=mode, amount=None)
        first, rest = tiered.tiers
        has(first, unit_amount="1.5", flat_amount="0", up_to=10)
        has(rest, unit_amount="1", flat_amount="5.25", up_to=None)


def check_refusals(shop, plan):
    create = shop.prices.create_price
    for wrong in (
        {"amount": None},
        {"amount": "-1"},
        {"amount": "0.001"},
        {"amount": "many"},
        {"currency": "rupees"},
        {"billing_model": "TIERED"},
        {"billing_model": "PACKAGE"},
        {"billing_period": "ONETIME", "invoice_cadence": "ARREAR"},
        {"billing_period_count": 0},
        {"trial_period_days": -1},
        {"min_quantity": 0},
        {"type_": "USAGE", "meter_id": "meter_1"},
        {"entity_type": "ADDON"},
        {"price_unit_type": "CUSTOM", "price_unit_config": {"price_unit": "btc"}},
        {"start_date": datetime.datetime(2026, 2, 1, tzinfo=UTC), "end_date": datetime.datetime(2026, 1, 1, tzinfo=UTC)},
    ):
        shop.refused(400, "validation_error", create, **shop.price_of(plan.id) | wrong)
    key = shop.name("price taken")
    shop.price(plan.id, lookup_key=key)
    shop.refused(409, "already_exists", create, **shop.price_of(plan.id) | {"lookup_key": key})
    for id in ("plan_01ARZ3NDEKTSV4RRFFQ69G5FAV", "nonsense"):
        shop.refused(404, "not_found", create, **shop.price_of(id))
    for call in (shop.prices.get_price, shop.prices.update_price, shop.prices.delete_price):
        shop.refused(404, "not_found", call, id="price_unknown")


def check_update(shop, plan):
    update, price = shop.prices.update_price, shop.price(plan.id)
    fields = {
        "display_name": "Other",
        "description": "d",
        "lookup_key": shop.name("other"),
        "group_id": "group_2",
        "metadata": {"k": "w"},
    }
    has(update(id=price.id, **fields), *PRICE, id=price.id, amount="499", **fields)
    # New figures are a new price; the old one has an end.
    new = update(id=price.id, amount="599")
    assert new.id != price.id
    has(new, *PRICE, amount="599", display_name="Other", lookup_key=fields["lookup_key"], end_date=None)
    has(shop.prices.get_price(id=price.id), "end_date", amount="499")
    soon = datetime.datetime.now(UTC).replace(microsecond=0) + datetime.timedelta(days=1)
    tiers = [{"unit_amount": "2"}]
    later = update(
        id=new.id, billing_model="TIERED", tier_mode="SLAB", tiers=tiers, effective_from=soon.isoformat()
    )
    has(later, *PRICE, billing_model="TIERED", start_date=soon)
    has(shop.prices.get_price(id=new.id), end_date=soon)
    package = update(id=shop.price(plan.id).id, billing_model="PACKAGE", transform_quantity={"divide_by": 5, "round": "down"})
    has(package.transform_quantity, divide_by=5, round="down")
    shop.refused(400, "validation_error", update, id=later.id, effective_from=soon.isoformat())
    shop.refused(400, "validation_error", update, id=later.id, price_unit_amount="1")


def check_delete(shop, plan):
    price = shop.price(plan.id)
    # The SDK sends a body with DELETE: {} or the end.
    has(shop.prices.delete_price(id=price.id), "message")
    is_now(shop.prices.get_price(id=price.id).end_date)
    shop.refused(400, "invalid_operation", shop.prices.delete_price, id=price.id)
    price, end = shop.price(plan.id), datetime.datetime(2030, 1, 1, tzinfo=UTC)
    has(shop.prices.delete_price(id=price.id, end_date=end), "message")
    has(shop.prices.get_price(id=price.id), end_date=end)


def check_search(shop):
    search, plan, other = shop.prices.query_price, shop.plans.create_plan(name="A"), shop.plans.create_plan(name="B")
    monthly = shop.price(plan.id, display_name=shop.name("m"))
    annual = shop.price(plan.id, billing_period="ANNUAL", amount="4990")
    ended = shop.price(plan.id)
    elsewhere = shop.price(other.id)
    replaced = shop.prices.update_price(id=ended.id, amount="1")
    mine = {"entity_type": "PLAN", "entity_ids": [plan.id]}
    check_page(search(**mine), [replaced.id, annual.id, monthly.id], limit=50, offset=0)
    check_page(search(**mine, limit=1, offset=1), [annual.id], total=3, limit=1, offset=1)
    check_page(search(**mine, allow_expired_prices=True, order="asc"), [monthly.id, annual.id, ended.id, replaced.id])
    check_page(search(plan_ids=[plan.id, other.id]), [replaced.id, elsewhere.id, annual.id, monthly.id])
    check_page(search(price_ids=[annual.id, elsewhere.id, "price_unknown"]), [elsewhere.id, annual.id])
    check_page(search(**mine, billing_periods=["ANNUAL", "DAILY"]), [annual.id])
    check_page(search(parent_price_id=ended.id), [replaced.id])
    check_page(search(**mine, sort="billing_period", order="asc"), [annual.id, monthly.id, replaced.id])
    check_page(search(**mine, start_time=annual.created_at), [replaced.id, annual.id])
    check_page(search(**mine, end_time=annual.created_at), [annual.id, monthly.id])
    check_page(search(**mine, start_date_lt=annual.start_date.isoformat()), [monthly.id])
    check_page(search(**mine, updated_after=annual.updated_at.isoformat()), [replaced.id])
    check_page(search(**mine, status="archived"), [])
    check_page(search(**mine, expand="meters"), [replaced.id, annual.id, monthly.id])
    text = {"field": "display_name", "operator": "eq", "data_type": "string", "value": {"string": shop.name("m")}}
    check_page(search(filters=[text]), [monthly.id])
    # What has no prices here finds none.
    for nothing in ({"entity_type": "ADDON"}, {"subscription_id": "subs_1"}, {"meter_ids": ["meter_1"]}):
        check_page(search(**nothing), [])
    shop.refused(400, "validation_error", search, sort="secret")
    shop.refused(400, "validation_error", search, billing_periods=["FORTNIGHTLY"])
