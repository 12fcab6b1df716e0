"""plans.*"""

from shop import check_page, has, is_id, is_now

PLAN = (
    "id name description metadata prices entitlements credit_grants status tenant_id environment_id created_at updated_at"
).split()


def check(shop):
    key = shop.name("pro")
    fields = {"name": "Pro", "description": "For teams", "display_order": 3, "metadata": {"k": "v"}}
    plan = shop.plans.create_plan(**fields, lookup_key=key)
    has(plan, *PLAN, **fields, lookup_key=key, prices=[], status="published")
    is_id(plan.id, "plan")
    is_now(plan.created_at)
    has(shop.plans.create_plan(name="Small"), *PLAN, lookup_key=None, display_order=None, description="", metadata={})
    price = shop.price(plan.id, amount="12.50")
    read = shop.plans.get_plan(id=plan.id)
    has(read, *PLAN, **fields, lookup_key=key)
    has(read.prices[0], id=price.id, amount="12.5")
    changes = {"name": "Pro 2", "description": "", "display_order": 4, "metadata": {}, "lookup_key": f"{key} 2"}
    changed = shop.plans.update_plan(id=plan.id, **changes)
    has(changed, *PLAN, id=plan.id, **changes)
    has(shop.plans.update_plan(id=plan.id, name="Pro 3"), name="Pro 3", display_order=4, lookup_key=f"{key} 2")
    check_refusals(shop, plan, f"{key} 2")
    check_search(shop)
    check_delete(shop)


def check_refusals(shop, plan, key):
    create, update = shop.plans.create_plan, shop.plans.update_plan
    shop.refused(409, "already_exists", create, name="Again", lookup_key=key)
    shop.refused(400, "validation_error", create, name="")
    shop.refused(400, "validation_error", create, name="Pro", metadata={"k" * 41: "v"})
    shop.refused(400, "validation_error", update, id=plan.id, name="")
    other = create(name="Other")
    shop.refused(409, "already_exists", update, id=other.id, lookup_key=key)
    for call in (shop.plans.get_plan, shop.plans.update_plan, shop.plans.delete_plan):
        shop.refused(404, "not_found", call, id="plan_unknown")


def check_search(shop):
    run, search = shop.run, shop.plans.query_plan
    made = [
        shop.plans.create_plan(name=f"{name} {run}", lookup_key=f"{run} {name}", display_order=order, metadata={"run": run})
        for order, name in enumerate(("Basic", "Middle", "Top"))
    ]
    basic, middle, top = (plan.id for plan in made)
    mine = {"metadata": {"run": run}}
    check_page(search(**mine), [top, middle, basic], limit=50, offset=0)
    check_page(search(**mine, order="asc", limit=2), [basic, middle], total=3, limit=2)
    check_page(search(**mine, order="asc", limit=2, offset=2), [top], total=3, offset=2)
    check_page(search(plan_ids=[basic, top, "plan_unknown"]), [top, basic])
    check_page(search(lookup_key=made[1].lookup_key), [middle])
    check_page(search(**mine, sort=[{"field": "display_order", "direction": "asc"}]), [basic, middle, top])
    check_page(search(**mine, start_time=made[1].created_at), [top, middle])
    check_page(search(**mine, end_time=made[1].created_at), [middle, basic])
    check_page(search(**mine, status="archived"), [])
    number = {"field": "display_order", "operator": "gte", "data_type": "number", "value": {"number": 1}}
    check_page(search(**mine, filters=[number]), [top, middle])
    text = {"field": "name", "operator": "contains", "data_type": "string", "value": {"string": "iddl"}}
    check_page(search(**mine, filters=[number, text]), [middle])
    price = shop.price(basic)
    (plain,) = search(plan_ids=[basic]).items
    assert plain.prices is None, plain
    (expanded,) = search(plan_ids=[basic], expand="prices,entitlements").items
    has(expanded.prices[0], id=price.id, entity_id=basic)
    shop.refused(400, "validation_error", search, limit=0)


def check_delete(shop):
    plan = shop.plans.create_plan(name="Gone", lookup_key=shop.name("gone"))
    has(shop.plans.delete_plan(id=plan.id), "message")
    shop.refused(404, "not_found", shop.plans.delete_plan, id=plan.id)
    check_page(shop.plans.query_plan(plan_ids=[plan.id]), [])
    check_page(shop.plans.query_plan(plan_ids=[plan.id], status="archived"), [plan.id])
    # The key is free again; a plan with a subscription stays.
    shop.plans.create_plan(name="New", lookup_key=shop.name("gone"))
    customer, used = shop.customer("planned"), shop.plan("used")
    session = shop.new_session(customer.external_id, used.id)
    shop.refused(400, "invalid_operation", shop.plans.delete_plan, id=used.id)
    shop.checkout.delete_checkout_session(id=session.id)
