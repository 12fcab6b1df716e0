//! Plans and prices, as a merchant's backend sees them.

use axum::http::Method;
use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::support::{Merchant, TestApp};

fn id(object: &Value) -> &str {
    object["id"].as_str().unwrap()
}

fn ids(page: &Value) -> Vec<&str> {
    page["items"].as_array().unwrap().iter().map(id).collect()
}

/// The guide's price request for `plan`, changed by `changes`; null takes a field away.
#[expect(clippy::needless_pass_by_value, reason = "callers write the value in place")]
fn price(plan: &str, changes: Value) -> Value {
    let mut body = json!({
        "entity_type": "PLAN", "entity_id": plan, "type": "FIXED", "billing_model": "FLAT_FEE",
        "billing_period": "MONTHLY", "currency": "INR", "invoice_cadence": "ADVANCE", "price_unit_type": "FIAT",
        "amount": "499.00",
    });
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            body.as_object_mut().unwrap().remove(name);
        } else {
            body[name] = value.clone();
        }
    }
    body
}

async fn empty_plan(merchant: &Merchant) -> String {
    id(&merchant.post("/v1/plans", json!({"name": "Pro"})).await.expect(201)).to_owned()
}

#[tokio::test]
async fn a_plan_is_made_read_changed_and_archived() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let body = json!({"name": "Pro", "description": "d", "display_order": 1, "lookup_key": "pro", "metadata": {"k": "v"}});
    let plan = merchant.post("/v1/plans", body.clone()).await.expect(201);
    assert!(id(&plan).starts_with("plan_"));
    for (field, value) in body.as_object().unwrap() {
        assert_eq!(&plan[field], value, "{field}");
    }
    assert_eq!((&plan["status"], &plan["prices"]), (&json!("published"), &json!([])));
    assert_eq!(
        (&plan["tenant_id"], &plan["environment_id"]),
        (&json!(merchant.tenant_id), &json!(merchant.environment_id))
    );
    let path = format!("/v1/plans/{}", id(&plan));
    assert_eq!(merchant.get(&path).await.expect(200), plan);

    let taken = merchant.post("/v1/plans", json!({"name": "Other", "lookup_key": "pro"})).await;
    assert_eq!(taken.expect_error(409, "already_exists")["details"]["lookup_key"], "pro");
    let other = empty_plan(&merchant).await;
    let other_path = format!("/v1/plans/{other}");
    merchant.put(&other_path, json!({"lookup_key": "pro"})).await.expect_error(409, "already_exists");
    let cleared =
        merchant.put(&path, json!({"lookup_key": "", "name": "Pro2", "display_order": 2})).await.expect(200);
    assert_eq!(
        (&cleared["lookup_key"], &cleared["name"], &cleared["display_order"], &cleared["description"]),
        (&Value::Null, &json!("Pro2"), &json!(2), &json!("d"))
    );
    merchant.put(&other_path, json!({"lookup_key": "pro"})).await.expect(200);

    assert!(merchant.delete(&path).await.expect(200)["message"].is_string());
    assert_eq!(merchant.get(&path).await.expect(200)["status"], "archived");
    merchant.delete(&path).await.expect_error(404, "not_found");
    merchant.put(&path, json!({"name": "x"})).await.expect_error(404, "not_found");
    merchant.post("/v1/prices", price(id(&plan), json!({}))).await.expect_error(404, "not_found");
    // An archived plan's key is free again.
    merchant.delete(&other_path).await.expect(200);
    merchant.post("/v1/plans", json!({"name": "New", "lookup_key": "pro"})).await.expect(201);

    for (body, field) in [
        (json!({}), "name"),
        (json!({"name": ""}), "name"),
        (json!({"name": "n".repeat(256)}), "name"),
        (json!({"name": "n", "description": "d".repeat(2001)}), "description"),
        (json!({"name": "n", "lookup_key": "k".repeat(256)}), "lookup_key"),
        (json!({"name": "n", "display_order": "first"}), "display_order"),
        (json!({"name": "n", "metadata": {"k": 1}}), "metadata.k"),
    ] {
        let error = merchant.post("/v1/plans", body).await.expect_error(400, "validation_error");
        assert!(!error["details"][field].is_null(), "{field}: {error}");
    }
    app.finish().await;
}

#[tokio::test]
async fn a_plan_in_use_cannot_be_deleted() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let session = merchant.session().await;
    let plans = merchant.post("/v1/plans/search", json!({})).await.expect(200);
    let path = format!("/v1/plans/{}", ids(&plans)[0]);
    merchant.delete(&path).await.expect_error(400, "invalid_operation");
    assert_eq!(merchant.get(&path).await.expect(200)["status"], "published");
    merchant.post_empty(&format!("/v1/checkout/sessions/{}/cancel", id(&session))).await.expect(200);
    merchant.delete(&path).await.expect(200);
    app.finish().await;
}

#[tokio::test]
async fn plans_are_searched_with_their_prices_when_asked() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let pro = merchant.plan().await;
    app.advance(TimeDelta::minutes(1)).await;
    let team = id(&merchant
        .post(
            "/v1/plans",
            json!({"name": "Team", "lookup_key": "team", "display_order": 3, "metadata": {"tier": "2", "size": "l"}}),
        )
        .await
        .expect(201))
    .to_owned();
    let search = async |body: Value| merchant.post("/v1/plans/search", body).await.expect(200);
    let all = search(json!({})).await;
    assert_eq!(ids(&all), [team.as_str(), &pro]);
    assert!(all["items"][1].get("prices").is_none());
    let expanded = search(json!({"expand": "prices", "plan_ids": [pro]})).await;
    assert_eq!(ids(&expanded), [pro.as_str()]);
    assert_eq!(expanded["items"][0]["prices"][0]["amount"], "499");
    assert_eq!(ids(&search(json!({"lookup_key": "team"})).await), [team.as_str()]);
    assert_eq!(ids(&search(json!({"metadata": {"tier": "2"}})).await), [team.as_str()]);
    assert!(ids(&search(json!({"metadata": {"tier": "3"}})).await).is_empty());
    let filter =
        json!({"field": "display_order", "operator": "gte", "data_type": "number", "value": {"number": 3}});
    assert_eq!(ids(&search(json!({"filters": [filter]})).await), [team.as_str()]);
    let read = merchant.get(&format!("/v1/plans/{pro}")).await.expect(200);
    assert_eq!(read["prices"], expanded["items"][0]["prices"]);
    app.finish().await;
}

#[tokio::test]
async fn prices_of_every_model_answer_with_strings_for_money() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let plan = empty_plan(&merchant).await;
    let flat = merchant
        .post("/v1/prices", price(&plan, json!({"billing_period": "monthly", "min_quantity": 3, "trial_period_days": 7, "start_date": "2026-01-01T12:00:00+05:30"})))
        .await
        .expect(201);
    for (field, value) in [
        ("entity_type", json!("PLAN")),
        ("entity_id", json!(plan)),
        ("type", json!("FIXED")),
        ("billing_model", json!("FLAT_FEE")),
        ("billing_period", json!("MONTHLY")),
        ("billing_period_count", json!(1)),
        ("billing_cadence", json!("RECURRING")),
        ("invoice_cadence", json!("ADVANCE")),
        ("currency", json!("inr")),
        ("price_unit_type", json!("FIAT")),
        ("amount", json!("499")),
        ("display_amount", json!("₹499")),
        ("display_name", json!("Pro")),
        ("min_quantity", json!("3")),
        ("trial_period_days", json!(7)),
        ("start_date", json!("2026-01-01T06:30:00Z")),
        ("end_date", Value::Null),
        ("parent_price_id", Value::Null),
        ("status", json!("published")),
        ("tenant_id", json!(merchant.tenant_id)),
        ("environment_id", json!(merchant.environment_id)),
    ] {
        assert_eq!(flat[field], value, "{field}");
    }
    assert_eq!(merchant.get(&format!("/v1/prices/{}", id(&flat))).await.expect(200), flat);

    let package = json!({"billing_model": "PACKAGE", "currency": "jpy", "amount": "1000", "transform_quantity": {"divide_by": 10, "round": "down"}});
    let package = merchant.post("/v1/prices", price(&plan, package)).await.expect(201);
    assert_eq!(package["transform_quantity"], json!({"divide_by": 10, "round": "down"}));
    assert_eq!(
        (&package["amount"], &package["display_amount"], &package["currency"]),
        (&json!("1000"), &json!("¥1000"), &json!("jpy"))
    );

    let tiers = json!([{"unit_amount": "1.50", "up_to": 10}, {"unit_amount": "1", "flat_amount": "5.25", "up_to": null}]);
    for mode in ["VOLUME", "SLAB"] {
        let tiered = json!({"billing_model": "TIERED", "amount": null, "tiers": tiers, "tier_mode": mode});
        let tiered = merchant.post("/v1/prices", price(&plan, tiered)).await.expect(201);
        assert_eq!(tiered["tier_mode"], mode);
        assert_eq!(
            tiered["tiers"],
            json!([{"unit_amount": "1.5", "flat_amount": "0", "up_to": 10}, {"unit_amount": "1", "flat_amount": "5.25", "up_to": null}])
        );
        assert_eq!(tiered["amount"], Value::Null);
        assert_eq!(merchant.get(&format!("/v1/prices/{}", id(&tiered))).await.expect(200), tiered);
    }
    for period in ["DAILY", "WEEKLY", "MONTHLY", "QUARTERLY", "HALF_YEARLY", "ANNUAL", "ONETIME"] {
        let made = merchant
            .add_price(&plan, json!({"billing_period": period, "amount": "1", "billing_period_count": 2}))
            .await;
        // The SDK refuses an answer with another word, even of a price that is paid once.
        assert_eq!(
            (&made["billing_period"], &made["billing_cadence"]),
            (&json!(period), &json!("RECURRING"))
        );
    }
    let arrear = merchant
        .add_price(&plan, json!({"invoice_cadence": "ARREAR", "amount": "0", "currency": "KWD"}))
        .await;
    assert_eq!((&arrear["invoice_cadence"], &arrear["amount"]), (&json!("ARREAR"), &json!("0")));
    app.finish().await;
}

#[tokio::test]
async fn each_wrong_field_of_a_price_is_named() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let plan = empty_plan(&merchant).await;
    let tiered = |tiers: Value| json!({"billing_model": "TIERED", "amount": null, "tier_mode": "SLAB", "tiers": tiers});
    for (changes, field) in [
        (json!({"type": "USAGE"}), "type"),
        (json!({"type": null}), "type"),
        (json!({"entity_type": "ADDON"}), "entity_type"),
        (json!({"entity_type": null}), "entity_type"),
        (json!({"entity_id": null}), "entity_id"),
        (json!({"billing_model": "PER_UNIT"}), "billing_model"),
        (json!({"billing_model": null}), "billing_model"),
        (json!({"billing_period": "FORTNIGHTLY"}), "billing_period"),
        (json!({"billing_period": null}), "billing_period"),
        (json!({"invoice_cadence": "LATER"}), "invoice_cadence"),
        (json!({"invoice_cadence": null}), "invoice_cadence"),
        (json!({"billing_period": "ONETIME", "invoice_cadence": "ARREAR"}), "invoice_cadence"),
        (json!({"billing_period": "ONETIME", "trial_period_days": 1}), "trial_period_days"),
        (json!({"billing_period_count": 0}), "billing_period_count"),
        (json!({"billing_period_count": 4_294_967_297_i64}), "billing_period_count"),
        (json!({"billing_period_count": 1.5}), "billing_period_count"),
        (json!({"currency": null}), "currency"),
        (json!({"currency": "XXX"}), "currency"),
        (json!({"currency": "RUPEES"}), "currency"),
        (json!({"price_unit_type": "CUSTOM"}), "price_unit_type"),
        (json!({"price_unit_config": {}}), "price_unit_config"),
        (json!({"amount": null}), "amount"),
        (json!({"amount": 499}), "amount"),
        (json!({"amount": 499.5}), "amount"),
        (json!({"amount": ""}), "amount"),
        (json!({"amount": "-1"}), "amount"),
        (json!({"amount": "1.005"}), "amount"),
        (json!({"amount": "1e3"}), "amount"),
        (json!({"amount": "92233720368547758.08"}), "amount"),
        (json!({"amount": "9".repeat(500)}), "amount"),
        (json!({"amount": "10.5", "currency": "JPY"}), "amount"),
        (json!({"tiers": [{"unit_amount": "1"}]}), "tiers"),
        (json!({"tier_mode": "SLAB"}), "tier_mode"),
        (json!({"transform_quantity": {"divide_by": 1}}), "transform_quantity"),
        (json!({"billing_model": "PACKAGE"}), "transform_quantity"),
        (
            json!({"billing_model": "PACKAGE", "transform_quantity": {"divide_by": 0}}),
            "transform_quantity.divide_by",
        ),
        (
            json!({"billing_model": "PACKAGE", "transform_quantity": {"divide_by": 2, "round": "near"}}),
            "transform_quantity.round",
        ),
        (json!({"billing_model": "TIERED", "amount": null, "tier_mode": "SLAB"}), "tiers"),
        (json!({"billing_model": "TIERED", "amount": null, "tiers": [{"unit_amount": "1"}]}), "tier_mode"),
        (json!({"billing_model": "TIERED", "tier_mode": "SLAB", "tiers": [{"unit_amount": "1"}]}), "amount"),
        (tiered(json!([])), "tiers"),
        (tiered(json!([{"unit_amount": "1", "up_to": 10}])), "tiers"),
        (
            tiered(
                json!([{"unit_amount": "1", "up_to": 10}, {"unit_amount": "1", "up_to": 10}, {"unit_amount": "1"}]),
            ),
            "tiers",
        ),
        (tiered(json!([{"unit_amount": "1"}, {"unit_amount": "1"}])), "tiers"),
        (tiered(json!([{"unit_amount": "1.005"}])), "tiers[0].unit_amount"),
        (tiered(json!([{"unit_amount": 1}])), "tiers[0].unit_amount"),
        (tiered(json!([{"flat_amount": "1"}])), "tiers[0].unit_amount"),
        (tiered(json!([{"unit_amount": "1", "flat_amount": "-1"}])), "tiers[0].flat_amount"),
        (json!({"min_quantity": 0}), "min_quantity"),
        (json!({"min_quantity": "2"}), "min_quantity"),
        (json!({"trial_period_days": -1}), "trial_period_days"),
        (json!({"start_date": "today"}), "start_date"),
        (json!({"start_date": "-9999-01-01T00:00:00Z"}), "start_date"),
        (json!({"start_date": "2026-02-01T00:00:00Z", "end_date": "2026-01-01T00:00:00Z"}), "end_date"),
        (json!({"end_date": "2020-01-01T00:00:00Z"}), "end_date"),
        (json!({"display_name": "n".repeat(256)}), "display_name"),
        (json!({"description": "n".repeat(2001)}), "description"),
        (json!({"lookup_key": "n".repeat(256)}), "lookup_key"),
        (json!({"lookup_key": "a\u{0}"}), "lookup_key"),
        (json!({"group_id": "n".repeat(256)}), "group_id"),
        (json!({"metadata": {"k": []}}), "metadata.k"),
    ] {
        let reply = merchant.post("/v1/prices", price(&plan, changes.clone())).await;
        let error = reply.expect_error(400, "validation_error");
        assert!(!error["details"][field].is_null(), "{changes}: {error}");
    }
    for entity_id in ["plan_00000000000000000000000000", "pro", ""] {
        merchant.post("/v1/prices", price(entity_id, json!({}))).await.expect_error(404, "not_found");
    }
    let several =
        merchant.post("/v1/prices", json!({"amount": "x"})).await.expect_error(400, "validation_error");
    assert_eq!(several["details"].as_object().unwrap().len(), 7, "{several}");
    let made = merchant.post("/v1/prices/search", json!({"allow_expired_prices": true})).await.expect(200);
    assert_eq!(made["pagination"]["total"], 0);
    app.finish().await;
}

#[tokio::test]
async fn names_change_in_place_and_figures_make_a_successor() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let plan = empty_plan(&merchant).await;
    let old = merchant
        .add_price(&plan, json!({"amount": "499", "lookup_key": "monthly", "metadata": {"a": "b"}}))
        .await;
    let path = format!("/v1/prices/{}", id(&old));
    app.advance(TimeDelta::minutes(1)).await;

    let renamed =
        merchant.put(&path, json!({"display_name": "x", "group_id": "g", "metadata": {}})).await.expect(200);
    assert_eq!(id(&renamed), id(&old));
    assert_eq!(
        (&renamed["display_name"], &renamed["group_id"], &renamed["metadata"]),
        (&json!("x"), &json!("g"), &json!({}))
    );
    let early =
        merchant.put(&path, json!({"display_name": "y", "effective_from": "2027-01-01T00:00:00Z"})).await;
    assert!(!early.expect_error(400, "validation_error")["details"]["effective_from"].is_null());
    for (body, field) in [
        (json!({"amount": "1.005"}), "amount"),
        (json!({"amount": 5}), "amount"),
        (json!({"billing_model": "PACKAGE"}), "transform_quantity"),
        (json!({"tiers": [{"unit_amount": "1"}]}), "tiers"),
        (json!({"price_unit_type": "CUSTOM"}), "price_unit_type"),
        (json!({"price_unit_amount": "1"}), "price_unit_amount"),
        (json!({"amount": "1", "effective_from": "2020-01-01T00:00:00Z"}), "effective_from"),
    ] {
        let error = merchant.put(&path, body.clone()).await.expect_error(400, "validation_error");
        assert!(!error["details"][field].is_null(), "{body}: {error}");
    }
    assert_eq!(merchant.get(&path).await.expect(200), renamed);

    let successor = merchant.put(&path, json!({"amount": "599", "display_name": "z"})).await.expect(200);
    assert_ne!(id(&successor), id(&old));
    for (field, value) in [
        ("amount", json!("599")),
        ("display_name", json!("z")),
        ("lookup_key", json!("monthly")),
        ("parent_price_id", old["id"].clone()),
        ("start_date", json!("2026-11-23T09:31:00Z")),
        ("end_date", Value::Null),
        ("billing_period", json!("MONTHLY")),
    ] {
        assert_eq!(successor[field], value, "{field}");
    }
    let ended = merchant.get(&path).await.expect(200);
    assert_eq!(
        (&ended["end_date"], &ended["amount"], &ended["display_name"]),
        (&successor["start_date"], &json!("499"), &json!("x"))
    );
    merchant.put(&path, json!({"amount": "1"})).await.expect_error(400, "invalid_operation");

    // Later: the old one sells until then.
    let path = format!("/v1/prices/{}", id(&successor));
    let later = json!({"effective_from": "2026-12-01T00:00:00Z", "billing_model": "PACKAGE", "transform_quantity": {"divide_by": 5}});
    let package = merchant.put(&path, later).await.expect(200);
    assert_eq!(
        (&package["amount"], &package["transform_quantity"]),
        (&json!("599"), &json!({"divide_by": 5, "round": "up"}))
    );
    assert_eq!(merchant.get(&path).await.expect(200)["end_date"], "2026-12-01T00:00:00Z");
    let too_late =
        merchant.put(&path, json!({"amount": "1", "effective_from": "2026-12-02T00:00:00Z"})).await;
    assert!(!too_late.expect_error(400, "validation_error")["details"]["effective_from"].is_null());
    let tiered = json!({"billing_model": "TIERED", "tier_mode": "SLAB", "tiers": [{"unit_amount": "2"}]});
    let tiered = merchant.put(&format!("/v1/prices/{}", id(&package)), tiered).await.expect(200);
    assert_eq!((&tiered["amount"], &tiered["tiers"][0]["unit_amount"]), (&Value::Null, &json!("2")));
    let volume = merchant
        .put(&format!("/v1/prices/{}", id(&tiered)), json!({"tier_mode": "VOLUME"}))
        .await
        .expect(200);
    assert_eq!((&volume["tier_mode"], &volume["tiers"]), (&json!("VOLUME"), &tiered["tiers"]));
    app.finish().await;
}

#[tokio::test]
async fn a_price_ends_once() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let plan = empty_plan(&merchant).await;
    let made = merchant.add_price(&plan, json!({"amount": "499", "lookup_key": "k"})).await;
    let taken = merchant.post("/v1/prices", price(&plan, json!({"lookup_key": "k"}))).await;
    assert_eq!(taken.expect_error(409, "already_exists")["details"]["reason"], "lookup_key_taken");
    let path = format!("/v1/prices/{}", id(&made));
    let before = json!({"end_date": "2020-01-01T00:00:00Z"});
    merchant.request(Method::DELETE, &path, Some(before)).await.expect_error(400, "validation_error");
    merchant
        .request(Method::DELETE, &path, Some(json!({"end_date": 1})))
        .await
        .expect_error(400, "validation_error");
    merchant
        .request(Method::DELETE, &path, Some(json!({"end_date": "2026-12-01T00:00:00Z"})))
        .await
        .expect(200);
    assert_eq!(merchant.get(&path).await.expect(200)["end_date"], "2026-12-01T00:00:00Z");
    let later = json!({"end_date": "2027-01-01T00:00:00Z"});
    merchant.request(Method::DELETE, &path, Some(later)).await.expect_error(400, "validation_error");
    assert!(
        merchant.request(Method::DELETE, &path, Some(json!({}))).await.expect(200)["message"].is_string()
    );
    assert_eq!(merchant.get(&path).await.expect(200)["end_date"], "2026-11-23T09:30:00Z");
    merchant.delete(&path).await.expect_error(400, "invalid_operation");
    // Its key is free again, and a price that has not started yet ends before it starts.
    let future = merchant
        .add_price(&plan, json!({"amount": "1", "lookup_key": "k", "start_date": "2027-01-01T00:00:00Z"}))
        .await;
    let path = format!("/v1/prices/{}", id(&future));
    merchant.delete(&path).await.expect(200);
    assert_eq!(merchant.get(&path).await.expect(200)["end_date"], "2027-01-01T00:00:00Z");
    app.finish().await;
}

#[tokio::test]
async fn prices_are_searched() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let (pro, team) = (empty_plan(&merchant).await, empty_plan(&merchant).await);
    let monthly = merchant.add_price(&pro, json!({"amount": "1"})).await;
    app.advance(TimeDelta::minutes(1)).await;
    let annual = merchant
        .add_price(
            &team,
            json!({"amount": "2", "billing_period": "ANNUAL", "start_date": "2026-01-01T00:00:00Z"}),
        )
        .await;
    app.advance(TimeDelta::minutes(1)).await;
    let successor =
        merchant.put(&format!("/v1/prices/{}", id(&monthly)), json!({"amount": "3"})).await.expect(200);
    let (monthly_id, annual_id, successor_id) = (id(&monthly), id(&annual), id(&successor));
    for (body, expected) in [
        (json!({}), vec![successor_id, annual_id]),
        (json!({"allow_expired_prices": true}), vec![successor_id, annual_id, monthly_id]),
        (
            json!({"allow_expired_prices": true, "entity_ids": [pro], "entity_type": "PLAN"}),
            vec![successor_id, monthly_id],
        ),
        (json!({"plan_ids": [team]}), vec![annual_id]),
        (json!({"price_ids": [annual_id, monthly_id]}), vec![annual_id]),
        (json!({"billing_periods": ["annual"]}), vec![annual_id]),
        (json!({"parent_price_id": monthly_id}), vec![successor_id]),
        (json!({"parent_price_id": "nonsense"}), vec![]),
        (json!({"start_date_lt": "2026-02-01T00:00:00Z"}), vec![annual_id]),
        (json!({"updated_after": annual["updated_at"]}), vec![successor_id]),
        (json!({"entity_type": "ADDON"}), vec![]),
        (json!({"meter_ids": ["meter_1"]}), vec![]),
        (json!({"subscription_id": "subs_1"}), vec![]),
        (json!({"sort": "billing_period", "order": "asc"}), vec![annual_id, successor_id]),
        (
            json!({"filters": [{"field": "plan_id", "operator": "eq", "value": {"string": team}}]}),
            vec![annual_id],
        ),
    ] {
        let page = merchant.post("/v1/prices/search", body.clone()).await.expect(200);
        assert_eq!(ids(&page), expected, "{body}");
    }
    for (body, field) in [
        (json!({"entity_type": "GALAXY"}), "entity_type"),
        (json!({"billing_periods": ["MONTHLY", "NEVER"]}), "billing_periods[1]"),
        (json!({"allow_expired_prices": "yes"}), "allow_expired_prices"),
        (json!({"sort": "amount_minor"}), "sort"),
        (json!({"updated_after": "1e9"}), "updated_after"),
    ] {
        let error = merchant.post("/v1/prices/search", body).await.expect_error(400, "validation_error");
        assert!(!error["details"][field].is_null(), "{field}: {error}");
    }
    app.finish().await;
}

#[tokio::test]
async fn plans_and_prices_of_others_and_malformed_ids_do_not_exist() {
    let app = TestApp::start().await;
    let (merchant, live) = app.merchant_pair().await;
    let stranger = app.merchant().await;
    let plan = empty_plan(&merchant).await;
    let made = merchant.add_price(&plan, json!({"amount": "499"})).await;
    for (path, own) in [("/v1/plans", plan.as_str()), ("/v1/prices", id(&made))] {
        let before = merchant.get(&format!("{path}/{own}")).await.expect(200);
        let malformed =
            [own.to_lowercase(), format!("{own}0"), "x".to_owned(), "%00".to_owned(), "%FF".to_owned()];
        let mut tries = vec![(&stranger, own.to_owned()), (&live, own.to_owned())];
        tries.extend(malformed.into_iter().map(|id| (&merchant, id)));
        for (caller, id) in tries {
            let path = format!("{path}/{id}");
            caller.get(&path).await.expect_error(404, "not_found");
            caller.put(&path, json!({"display_name": "x", "name": "x"})).await.expect_error(404, "not_found");
            caller.put(&path, json!({"amount": "1"})).await.expect_error(404, "not_found");
            caller.delete(&path).await.expect_error(404, "not_found");
        }
        let found = stranger.post(&format!("{path}/search"), json!({})).await.expect(200);
        assert_eq!(found["items"], json!([]));
        assert_eq!(merchant.get(&format!("{path}/{own}")).await.expect(200), before);
    }
    stranger.post("/v1/prices", price(&plan, json!({}))).await.expect_error(404, "not_found");
    live.post("/v1/prices", price(&plan, json!({}))).await.expect_error(404, "not_found");
    app.finish().await;
}

#[tokio::test]
async fn hostile_bodies_of_plans_and_prices_are_refused() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let nested = format!("{{\"x\":{}{}}}", "[".repeat(1000), "]".repeat(1000));
    let large = format!("{{\"x\":\"{}\"}}", "n".repeat(70_000));
    for path in ["/v1/plans", "/v1/plans/search", "/v1/prices", "/v1/prices/search"] {
        for (body, status) in [
            (nested.as_str(), 400),
            (&large, 413),
            ("{", 400),
            ("{\"lookup_key\":\"\\u0000\"}", 400),
            ("null", 400),
        ] {
            let reply = merchant.post_raw(path, "application/json", body.to_owned()).await;
            reply.expect_error(status, "validation_error");
        }
    }
    app.finish().await;
}
