"""secrets.*, users.get_user_info and integrations.get_integration_config: who the caller is."""

import datetime
import re

from shop import Shop, check_page, has, ids, is_id, is_now

KEY = "id name display_id type provider status user_type roles created_at updated_at".split()


def check(shop):
    create = shop.secrets.create_api_key
    made = create(name="Backend", type_="private_key")
    key = made.secret
    has(key, *KEY, name="Backend", type="private_key", provider="flexprice", status="published", expires_at=None)
    is_id(key.id, "secret")
    is_now(key.created_at)
    assert re.fullmatch(r"sk_test_\w+", made.api_key), "not a key of a test environment"
    shown, end = key.display_id.split("***")
    assert made.api_key.startswith(shown) and made.api_key.endswith(end), key.display_id
    expires_at = datetime.datetime(2030, 1, 1, tzinfo=datetime.timezone.utc)
    expiring = create(name="Expiring", type_="private_key", expires_at=expires_at).secret
    has(expiring, *KEY, expires_at=expires_at)
    check_list(shop, key, expiring)
    check_caller(shop, made)

    # The new key works at once, sees the same, and cannot revoke itself; revoked, it is nobody's.
    other = Shop(shop.api, made.api_key, shop.sandbox)
    assert key.id in ids(other.secrets.list_api_keys())
    other.refused(400, "invalid_operation", other.secrets.delete_api_key, id=key.id)
    shop.secrets.delete_api_key(id=key.id)
    other.refused(401, "unauthorized", other.secrets.list_api_keys)
    shop.secrets.delete_api_key(id=expiring.id)
    archived = shop.secrets.list_api_keys(status="archived")
    assert {key.id, expiring.id} <= set(ids(archived)), ids(archived)
    for id in (key.id, "secret_unknown"):
        shop.refused(404, "not_found", shop.secrets.delete_api_key, id=id)
    for wrong in (
        {"name": ""},
        {"type_": "publishable_key"},
        {"type_": "integration"},
        {"expires_at": datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)},
        {"service_account_id": "user_1"},
    ):
        shop.refused(400, "validation_error", create, **{"name": "Wrong", "type_": "private_key"} | wrong)


def check_list(shop, key, newer):
    listed = shop.secrets.list_api_keys
    everything = listed()
    assert ids(everything)[:2] == [newer.id, key.id], ids(everything)
    total = len(everything.items)
    has(everything.pagination, total=total, limit=50, offset=0)
    check_page(listed(limit=1, offset=1), [key.id], total=total, limit=1, offset=1)
    for item in everything.items:
        has(item, *KEY)
    shop.refused(400, "validation_error", listed, limit=0)
    shop.refused(400, "validation_error", listed, status="gone")


def check_caller(shop, made):
    user = shop.users.get_user_info()
    has(user, "id", "name", "email", "roles", "metadata", type="service_account")
    has(user.tenant, "id", "name", "created_at", status="published")
    other = Shop(shop.api, made.api_key, shop.sandbox).users.get_user_info()
    has(other, id=made.secret.id, name="Backend", tenant=user.tenant)
    (integration,) = shop.integrations.get_integration_config().integrations
    has(integration, "base_config", "current_config", provider="razorpay")
