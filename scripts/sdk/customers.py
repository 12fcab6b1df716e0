"""customers.*: every field, names with slashes, spaces and @, searches."""

import datetime

from flexprice import models
from shop import check_page, has, is_id, is_now

CUSTOMER = (
    "id external_id name timezone tax_treatment contact_persons integrations metadata status tenant_id environment_id "
    "created_at updated_at"
).split()
FIELDS = {
    "name": "Jane Smith",
    "email": "jane@example.com",
    "contact": "+919999999999",
    "address_line1": "1 MG Road",
    "address_line2": "Camp",
    "address_city": "Pune",
    "address_state": "MH",
    "address_postal_code": "411001",
    "address_country": "IN",
    "billing_currency": "INR",
    "timezone": "Asia/Kolkata",
    "tax_treatment": "exempt",
    "metadata": {"a": "b"},
}
PERSON = {
    "id": "p1",
    "first_name": "Ann",
    "last_name": "Lee",
    "email": "ann@example.com",
    "mobile": "+911",
    "designation": "CFO",
    "department": "Finance",
    "salutation": "Ms",
    "is_primary": True,
}
MAPPING = {"entity_id": "x", "entity_type": "customer", "provider_entity_id": "cus_1", "provider_type": "stripe"}


def check(shop):
    check_fields(shop)
    check_names(shop)
    check_update(shop)
    check_delete(shop)
    check_search(shop)


def check_fields(shop):
    name = shop.name("every field")
    customer = shop.customers.create_customer(
        external_id=name,
        **FIELDS,
        contact_persons=[PERSON],
        # Without effect here, and accepted.
        skip_onboarding_workflow=True,
        onboarding_workflow_name="none",
        integration_entity_mapping=[MAPPING],
    )
    has(customer, *CUSTOMER, external_id=name, **FIELDS | {"billing_currency": "inr"}, status="published")
    (person,) = customer.contact_persons
    has(person, **PERSON)
    is_id(customer.id, "cust")
    is_now(customer.created_at)
    assert shop.customers.get_customer(id=customer.id) == customer
    assert shop.customers.get_customer_by_external_id(external_id=name) == customer
    small = shop.customers.create_customer(external_id=shop.name("small"), name="J")
    has(small, *CUSTOMER, email=None, timezone="UTC", tax_treatment="taxable", metadata={}, contact_persons=[])
    create = shop.customers.create_customer
    shop.refused(409, "already_exists", create, external_id=name, name="J")
    for wrong in (
        {"email": "nobody"},
        {"name": ""},
        {"name": "n" * 256},
        {"contact": "1" * 21},
        {"address_country": "IND"},
        {"timezone": "Mars/Olympus"},
        {"billing_currency": "rupees"},
        {"tax_treatment": "never"},
        {"metadata": {"k" * 41: "v"}},
        {"contact_persons": [{"first_name": ""}]},
    ):
        (field,) = wrong
        request = {"external_id": shop.name("wrong"), "name": "J"} | wrong
        details = shop.refused(400, "validation_error", create, **request)["details"]
        assert any(named.startswith(field) for named in details), (field, details)


def check_names(shop):
    """The SDK sends slashes of a name as they are."""
    for name in ("a/b c@d", "acme/eu west/jane@example.com", "50% & more?#x", "ünïcödé/日本", "search", "a/b/"):
        name = f"{shop.run}/{name}"
        customer = shop.customers.create_customer(external_id=name, name="J")
        found = shop.customers.query_customer(external_id=name)
        check_page(found, [customer.id])
        updated = shop.customers.update_customer(external_customer_id=name, name="K")
        has(updated, id=customer.id, external_id=name, name="K")
        # Of these, httpx itself takes a question mark for the query's start.
        if "?" not in name:
            assert shop.customers.get_customer_by_external_id(external_id=name) == updated
    shop.refused(404, "not_found", shop.customers.get_customer_by_external_id, external_id="no/such one@all")


def check_update(shop):
    customer = shop.customer("update")
    update = shop.customers.update_customer
    fields = FIELDS | {"external_id": shop.name("renamed"), "contact_persons": [models.CustomerContactPerson(**PERSON)]}
    changed = update(id=customer.id, **fields)
    has(changed, *CUSTOMER, id=customer.id, **fields | {"billing_currency": "inr"})
    has(update(id=customer.id, email="z@e.com"), email="z@e.com", name="Jane Smith", metadata={"a": "b"})
    has(update(external_customer_id=fields["external_id"], metadata={"c": "d"}), id=customer.id, metadata={"c": "d"})
    has(update(id=customer.id), id=customer.id, email="z@e.com")
    shop.refused(400, "validation_error", update, name="J")
    shop.refused(400, "validation_error", update, id=customer.id, email="nobody")
    shop.refused(404, "not_found", update, id="cust_unknown", name="J")
    shop.refused(404, "not_found", update, external_customer_id="nobody", name="J")
    shop.refused(409, "already_exists", update, id=customer.id, external_id=shop.customer("taken").external_id)


def check_delete(shop):
    customer = shop.customer("delete")
    shop.customers.delete_customer(id=customer.id)
    shop.refused(404, "not_found", shop.customers.get_customer_by_external_id, external_id=customer.external_id)
    shop.refused(404, "not_found", shop.customers.delete_customer, id=customer.id)
    check_page(shop.customers.query_customer(external_id=customer.external_id, status="archived"), [customer.id])
    # The name is free again.
    shop.customers.create_customer(external_id=customer.external_id, name="J")
    subscriber, plan = shop.customer("subscriber"), shop.plan("subscriber")
    session = shop.new_session(subscriber.external_id, plan.id)
    shop.refused(400, "invalid_operation", shop.customers.delete_customer, id=subscriber.id)
    shop.checkout.delete_checkout_session(id=session.id)
    shop.refused(404, "not_found", shop.customers.get_customer, id="cust_unknown")


def check_search(shop):
    run = shop.run
    made = [
        shop.customers.create_customer(
            external_id=f"{run} search {number}",
            name=f"{name} {run}",
            email=f"{number}{run}@example.com",
            metadata={"run": run, "number": str(number % 2)},
        )
        for number, name in enumerate(("Jane", "Kai", "Lee"))
    ]
    jane, kai, lee = (customer.id for customer in made)
    search, mine = shop.customers.query_customer, {"metadata": {"run": run}}
    # Newest first, unless asked otherwise.
    check_page(search(**mine), [lee, kai, jane], limit=50, offset=0)
    check_page(search(**mine, order="asc"), [jane, kai, lee])
    check_page(search(**mine, limit=1, offset=1), [kai], total=3, limit=1, offset=1)
    check_page(search(**mine, offset=3), [], total=3)
    check_page(search(customer_ids=[jane, lee, "cust_unknown"]), [lee, jane])
    check_page(search(external_ids=[made[1].external_id, "nobody"]), [kai])
    check_page(search(external_id=made[0].external_id), [jane])
    check_page(search(email=made[2].email), [lee])
    check_page(search(metadata={"run": run, "number": "0"}), [lee, jane])
    check_page(search(**mine, sort=[{"field": "name", "direction": "asc"}]), [jane, kai, lee])
    check_page(search(**mine, sort=[models.SortCondition(field="name", direction="desc")]), [lee, kai, jane])
    check_page(search(**mine, status="archived"), [])
    check_page(search(**mine, start_time=made[1].created_at), [lee, kai])
    check_page(search(**mine, end_time=made[1].created_at), [kai, jane])
    check_page(search(**mine, expand="nothing"), [lee, kai, jane])

    def filtered(field, operator, data_type, **value):
        return search(filters=[{"field": field, "operator": operator, "data_type": data_type, "value": value}], **mine)

    check_page(filtered("name", "contains", "string", string="Ka"), [kai])
    check_page(filtered("name", "not_contains", "string", string="Ka"), [lee, jane])
    check_page(filtered("name", "eq", "string", string=f"Lee {run}"), [lee])
    check_page(filtered("email", "in", "array", array=[made[0].email, made[1].email]), [kai, jane])
    check_page(filtered("external_id", "not_in", "array", array=[made[0].external_id]), [lee, kai])
    check_page(filtered("created_at", "before", "date", date=made[1].created_at.isoformat()), [jane])
    check_page(filtered("created_at", "after", "date", date=made[1].created_at.isoformat()), [lee])
    future = datetime.datetime(2100, 1, 1, tzinfo=datetime.timezone.utc)
    check_page(filtered("created_at", "after", "date", date=future.isoformat()), [])
    typed = models.FilterCondition(
        field="name", operator="contains", data_type="string", value=models.Value(string="Jane")
    )
    check_page(search(**mine, filters=[typed]), [jane])
    for wrong in ({"limit": 0}, {"limit": 1001}, {"offset": -1}, {"status": "gone"}):
        (field,) = wrong
        assert field in shop.refused(400, "validation_error", search, **wrong)["details"]
    shop.refused(400, "validation_error", search, sort=[{"field": "secret", "direction": "asc"}])
    shop.refused(400, "validation_error", search, filters=[{"field": "secret", "operator": "eq"}])
