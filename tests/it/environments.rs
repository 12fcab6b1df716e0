//! Environments of a tenant: made with a first key, listed, renamed, and invisible to other tenants.

use checkoutd::sandbox::Account;
use chrono::TimeDelta;
use futures::future::join_all;
use serde_json::{Value, json};

use crate::support::{KEY_SECRET, Merchant, TestApp, WEBHOOK_SECRET, connection};

const PATH: &str = "/v1/environments";

fn request(name: &str, kind: &str) -> Value {
    json!({"name": name, "type": kind})
}

fn path(id: &str) -> String {
    format!("{PATH}/{id}")
}

/// The merchant in an environment that was just made.
fn inside(app: &TestApp, merchant: &Merchant, created: &Value) -> Merchant {
    let api_key = created["api_key"].as_str().unwrap().to_owned();
    app.add_canary(&api_key);
    Merchant { api_key, environment_id: created["id"].as_str().unwrap().to_owned(), ..merchant.clone() }
}

#[tokio::test]
async fn a_new_environment_is_empty_and_sells_once_it_is_connected() {
    let app = TestApp::start().await;
    let (merchant, _) = app.merchant_pair().await;
    merchant.customer("user_12345").await;
    app.clock().advance(TimeDelta::seconds(1));
    let created = merchant.post(PATH, request("Staging", "development")).await.expect(201);
    assert!(created["id"].as_str().unwrap().starts_with("env_"));
    assert_eq!((&created["name"], &created["type"]), (&json!("Staging"), &json!("development")));
    assert_eq!(created["mode"], "test");
    assert_eq!(created["created_at"], created["updated_at"]);
    let staging = inside(&app, &merchant, &created);
    assert!(staging.api_key.starts_with("sk_test_"));
    let url =
        format!("{}/v1/webhooks/razorpay/{}/{}", app.base_url, merchant.tenant_id, staging.environment_id);
    assert_eq!(created["webhook_url"], url.as_str());
    let me = staging.get("/v1/users/me").await.expect(200);
    assert_eq!(me["environment_id"], created["id"]);
    assert_eq!(me["tenant"]["id"], merchant.tenant_id.as_str());
    let keys = staging.get("/v1/secrets/api/keys").await.expect(200);
    assert_eq!(keys["pagination"]["total"], 1);
    assert_eq!(keys["items"][0]["id"], me["id"]);

    staging.get("/v1/customers/external/user_12345").await.expect_error(404, "not_found");
    staging.customer("user_12345").await;
    let plan = staging.plan().await;
    let refused = staging.post("/v1/checkout/sessions", Merchant::session_request(&plan)).await;
    let refused = refused.expect_error(400, "validation_error");
    assert_eq!(refused["details"]["reason"], "connection_not_found");

    let nothing = json!({"integrations": []});
    assert_eq!(staging.get("/v1/integrations/config").await.expect(200), nothing);
    let key_id = "rzp_test_staging0000001";
    app.sandbox.put_account(Account::new(key_id, KEY_SECRET).with_webhook(&url, WEBHOOK_SECRET)).unwrap();
    let connected = staging.post("/v1/connections", connection(key_id)).await.expect(201);
    let config = staging.get("/v1/integrations/config").await.expect(200);
    let payments = json!({"payment": {"inbound": true, "outbound": false}});
    let entry = json!({
        "provider": "razorpay", "connection_id": connected["id"], "connection_name": "Razorpay",
        "base_config": payments, "current_config": payments,
    });
    assert_eq!(config, json!({"integrations": [entry]}));
    assert_eq!(merchant.get("/v1/integrations/config").await.expect(200), nothing);

    let session = staging.session().await;
    app.pay_and_settle(&session).await;
    assert_eq!(staging.read_session(&session).await["checkout_status"], "completed");
    let id = session["id"].as_str().unwrap();
    merchant.get(&format!("/v1/checkout/sessions/{id}")).await.expect_error(404, "not_found");
    staging.delete(&format!("/v1/connections/{}", connected["id"].as_str().unwrap())).await.expect(204);
    assert_eq!(staging.get("/v1/integrations/config").await.expect(200), nothing);
    app.finish().await;
}

#[tokio::test]
async fn test_keys_make_and_change_no_environment_for_real_money() {
    let app = TestApp::start().await;
    let (test, live) = app.merchant_pair().await;
    let before = app.row_counts().await;
    let refused = test.post(PATH, request("Shop", "production")).await.expect_error(403, "permission_denied");
    assert!(refused["message"].as_str().unwrap().contains("production"));
    let renamed = test.put(&path(&live.environment_id), json!({"name": "Mine"})).await;
    renamed.expect_error(403, "permission_denied");
    assert_eq!(app.row_counts().await, before);
    let shown = test.get(&path(&live.environment_id)).await.expect(200);
    assert_eq!((&shown["name"], &shown["type"]), (&json!("Live"), &json!("production")));
    for (kind, mode, prefix) in [("production", "live", "sk_live_"), ("development", "test", "sk_test_")] {
        let created = live.post(PATH, request("Shop", kind)).await.expect(201);
        assert_eq!((&created["type"], &created["mode"]), (&json!(kind), &json!(mode)));
        let inside = inside(&app, &live, &created);
        assert!(inside.api_key.starts_with(prefix), "{prefix}");
        inside.get("/v1/customers/external/nobody").await.expect_error(404, "not_found");
        // What it takes for an account goes by its mode.
        inside.post("/v1/connections", connection(&format!("rzp_{mode}_1"))).await.expect(201);
    }
    app.finish().await;
}

#[tokio::test]
async fn a_tenants_environments_are_listed_read_and_renamed() {
    let app = TestApp::start().await;
    let (test, live) = app.merchant_pair().await;
    let (stranger, _) = app.merchant_pair().await;
    app.clock().advance(TimeDelta::seconds(1));
    let staging = test.post(PATH, request("Staging", "development")).await.expect(201);
    app.add_canary(staging["api_key"].as_str().unwrap());
    for merchant in [&test, &live] {
        let list = merchant.get(PATH).await.expect(200);
        let names: Vec<_> =
            list["environments"].as_array().unwrap().iter().map(|one| one["name"].clone()).collect();
        assert_eq!(names[0], "Staging");
        assert!(names[1..] == ["Live", "Test"] || names[1..] == ["Test", "Live"], "{names:?}");
        assert_eq!((&list["total"], &list["limit"], &list["offset"]), (&json!(3), &json!(50), &json!(0)));
        assert!(!list.to_string().contains("api_key"), "{list}");
        for one in list["environments"].as_array().unwrap() {
            assert_eq!(&merchant.get(&path(one["id"].as_str().unwrap())).await.expect(200), one);
        }
    }
    let page = test.get(&format!("{PATH}?limit=2&offset=2")).await.expect(200);
    assert_eq!(page["environments"].as_array().unwrap().len(), 1);
    assert_eq!((&page["total"], &page["limit"], &page["offset"]), (&json!(3), &json!(2), &json!(2)));
    let beyond = test.get(&format!("{PATH}?offset=7")).await.expect(200);
    assert_eq!(beyond, json!({"environments": [], "total": 3, "limit": 50, "offset": 7}));
    assert_eq!(stranger.get(PATH).await.expect(200)["total"], 2);

    app.clock().advance(TimeDelta::seconds(1));
    let renamed = test.put(&path(&test.environment_id), json!({"name": "Sandbox"})).await.expect(200);
    assert_eq!((&renamed["name"], &renamed["type"]), (&json!("Sandbox"), &json!("development")));
    assert_ne!(renamed["updated_at"], renamed["created_at"]);
    assert_eq!(test.get(&path(&test.environment_id)).await.expect(200), renamed);
    let same = json!({"name": "Shop", "type": "production"});
    assert_eq!(live.put(&path(&live.environment_id), same).await.expect(200)["name"], "Shop");
    live.put(&path(&test.environment_id), json!({"name": "Test again"})).await.expect(200);
    app.finish().await;
}

#[tokio::test]
async fn environments_of_other_tenants_are_not_there() {
    let app = TestApp::start().await;
    let (merchant, _) = app.merchant_pair().await;
    let (stranger, stranger_live) = app.merchant_pair().await;
    let unknown = checkoutd::kit::ids::encode("env", sqlx::types::Uuid::nil());
    let absent = merchant.get(&path(&unknown)).await.expect_error(404, "not_found");
    assert_eq!(absent["details"]["reason"], "environment_not_found");
    let lower = merchant.environment_id.to_lowercase();
    for id in [
        &*unknown,
        &stranger.environment_id,
        &stranger_live.environment_id,
        &merchant.tenant_id,
        &lower,
        "nonsense",
        "%00",
    ] {
        assert_eq!(merchant.get(&path(id)).await.expect_error(404, "not_found"), absent, "{id}");
        for body in [json!({"name": "Mine"}), json!({"name": "Mine", "type": "development"})] {
            assert_eq!(merchant.put(&path(id), body).await.expect_error(404, "not_found"), absent, "{id}");
        }
    }
    for other in [&stranger, &stranger_live] {
        let shown = other.get(&path(&other.environment_id)).await.expect(200);
        assert_ne!(shown["name"], "Mine");
    }
    app.finish().await;
}

#[tokio::test]
async fn each_wrong_field_of_an_environment_is_named_and_nothing_is_stored() {
    let app = TestApp::start().await;
    let (merchant, live) = app.merchant_pair().await;
    let before = app.row_counts().await;
    let own = path(&merchant.environment_id);
    for (field, value) in [
        ("name", json!(null)),
        ("name", json!("")),
        ("name", json!("x".repeat(256))),
        ("name", json!(7)),
        ("name", json!("a\u{0}")),
        ("type", json!("staging")),
        ("type", json!("test")),
        ("type", json!("Development")),
        ("type", json!("")),
        ("type", json!(["production"])),
    ] {
        let mut wrong = request("Staging", "development");
        wrong[field] = value.clone();
        for reply in [merchant.post(PATH, wrong.clone()).await, merchant.put(&own, wrong).await] {
            let error = reply.expect_error(400, "validation_error");
            assert!(error["message"].as_str().unwrap().contains(field), "{field} {value}: {error}");
        }
    }
    let error = live.post(PATH, json!({"name": "Shop"})).await.expect_error(400, "validation_error");
    assert!(error["message"].as_str().unwrap().contains("type"), "{error}");
    let changed = merchant.put(&own, request("Staging", "production")).await;
    let error = changed.expect_error(400, "validation_error");
    assert_eq!(error["details"]["type"], "cannot be changed; make another environment");
    for reply in [
        merchant.post_empty(PATH).await,
        merchant.put(&own, json!({})).await,
        merchant.request(axum::http::Method::PUT, &own, None).await,
    ] {
        let error = reply.expect_error(400, "validation_error");
        assert!(error["message"].as_str().unwrap().contains("name"), "{error}");
    }
    for query in ["limit=0", "offset=-1", "limit=ten"] {
        merchant.get(&format!("{PATH}?{query}")).await.expect_error(400, "validation_error");
    }
    assert_eq!(app.row_counts().await, before);
    assert_eq!(merchant.get(&own).await.expect(200)["name"], "Test");
    app.finish().await;
}

#[tokio::test]
async fn a_tenant_has_at_most_fifty_environments_of_a_mode_even_of_requests_at_once() {
    let app = TestApp::start().await;
    let (merchant, live) = app.merchant_pair().await;
    let (stranger, _) = app.merchant_pair().await;
    // One of each mode is there from the start.
    for round in 0..7 {
        let replies = join_all((0..7).map(|_| merchant.post(PATH, request("Many", "development")))).await;
        assert!(replies.iter().all(|reply| reply.status == 201), "round {round}");
    }
    assert_eq!(merchant.get(PATH).await.expect(200)["total"], 51);
    let refused = merchant.post(PATH, request("More", "development")).await;
    let refused = refused.expect_error(400, "invalid_operation");
    assert_eq!(refused["message"], "a tenant has at most 50 development environments");
    live.post(PATH, request("More", "development")).await.expect_error(400, "invalid_operation");
    // Whoever has a test key bars nobody from a live environment.
    let shop = live.post(PATH, request("Shop", "production")).await.expect(201);
    inside(&app, &live, &shop).get("/v1/users/me").await.expect(200);
    for _ in 0..5 {
        let replies = join_all((0..9).map(|_| stranger.post(PATH, request("Many", "development")))).await;
        assert!(replies.iter().all(|reply| reply.status == 201));
    }
    // 46: room for four.
    let replies = join_all((0..7).map(|_| stranger.post(PATH, request("Last", "development")))).await;
    assert_eq!(replies.iter().filter(|reply| reply.status == 201).count(), 4);
    assert_eq!(stranger.get(PATH).await.expect(200)["total"], 51);
    app.finish().await;
}

#[tokio::test]
async fn a_test_key_renames_its_own_environment_only() {
    let app = TestApp::start().await;
    let (test, live) = app.merchant_pair().await;
    let (stranger, _) = app.merchant_pair().await;
    let staging = test.post(PATH, request("Staging", "development")).await.expect(201);
    let staging = inside(&app, &test, &staging);
    for (caller, other) in [(&test, &staging), (&staging, &test), (&test, &live)] {
        let refused = caller.put(&path(&other.environment_id), json!({"name": "Mine"})).await;
        refused.expect_error(403, "permission_denied");
        assert_ne!(other.get(&path(&other.environment_id)).await.expect(200)["name"], "Mine");
    }
    test.put(&path(&stranger.environment_id), json!({"name": "Mine"})).await.expect_error(404, "not_found");
    for (caller, own) in [(&test, &test), (&staging, &staging), (&live, &test), (&live, &staging)] {
        let renamed = caller.put(&path(&own.environment_id), json!({"name": "Ours"})).await.expect(200);
        assert_eq!(renamed["name"], "Ours");
    }
    app.finish().await;
}

#[tokio::test]
async fn a_key_that_expires_leaves_no_lasting_key_in_a_new_environment() {
    let app = TestApp::start().await;
    let (merchant, _) = app.merchant_pair().await;
    let end = app.state().clock.now() + TimeDelta::hours(1);
    let wanted = json!({"name": "For an hour", "type": "private_key", "expires_at": end});
    let made = merchant.post("/v1/secrets/api/keys", wanted).await.expect(201);
    let leaked = Merchant { api_key: made["api_key"].as_str().unwrap().to_owned(), ..merchant.clone() };
    app.add_canary(&leaked.api_key);
    let created = leaked.post(PATH, request("Foothold", "development")).await.expect(201);
    let foothold = inside(&app, &merchant, &created);
    let keys = foothold.get("/v1/secrets/api/keys").await.expect(200);
    let shown: chrono::DateTime<chrono::Utc> =
        keys["items"][0]["expires_at"].as_str().expect("an end").parse().unwrap();
    assert_eq!(shown, end);
    let lasting = json!({"name": "For ever", "type": "private_key"});
    foothold.post("/v1/secrets/api/keys", lasting).await.expect_error(400, "validation_error");
    app.clock().advance(TimeDelta::hours(1));
    foothold.get("/v1/users/me").await.expect_error(401, "unauthorized");
    app.finish().await;
}

#[tokio::test]
async fn environments_that_an_older_version_makes_have_a_name() {
    let app = TestApp::start().await;
    let (test, live) = app.merchant_pair().await;
    let unnamed = "insert into environments (id, tenant_id, mode, created_at)
        select gen_random_uuid(), tenant_id, mode, created_at from environments";
    sqlx::raw_sql(unnamed).execute(&app.state().pool).await.unwrap();
    let list = test.get(PATH).await.expect(200);
    let environments = list["environments"].as_array().unwrap();
    let mut names: Vec<_> = environments.iter().map(|one| one["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["Live", "Live", "Test", "Test"]);
    for one in environments {
        assert_eq!(one["created_at"], one["updated_at"]);
        let path = path(one["id"].as_str().unwrap());
        assert_eq!(&test.get(&path).await.expect(200), one);
        assert_eq!(live.put(&path, json!({"name": "Named"})).await.expect(200)["name"], "Named");
    }
    app.finish().await;
}
