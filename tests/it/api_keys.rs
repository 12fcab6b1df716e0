//! API keys by the API: shown once, refused from the moment that they are revoked or expired.

use axum::http::Method;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use futures::future::join_all;
use serde_json::{Value, json};

use crate::support::{Merchant, TestApp};

const PATH: &str = "/v1/secrets/api/keys";
const USED: &str = "/v1/checkout/sessions";

fn request(name: &str) -> Value {
    json!({"name": name, "type": "private_key"})
}

fn path(created: &Value) -> String {
    format!("{PATH}/{}", created["secret"]["id"].as_str().unwrap())
}

fn rfc3339(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// The same merchant with another key.
fn with_key(merchant: &Merchant, created: &Value) -> Merchant {
    Merchant { api_key: created["api_key"].as_str().unwrap().to_owned(), ..merchant.clone() }
}

async fn make(app: &TestApp, merchant: &Merchant, name: &str) -> Value {
    let created = merchant.post(PATH, request(name)).await.expect(201);
    app.add_canary(created["api_key"].as_str().unwrap());
    created
}

async fn names(merchant: &Merchant, query: &str) -> Vec<String> {
    let list = merchant.get(&format!("{PATH}{query}")).await.expect(200);
    let items = list["items"].as_array().unwrap();
    items.iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_key_is_shown_once_works_at_once_and_is_refused_once_revoked() {
    let app = TestApp::start().await;
    let (merchant, live) = app.merchant_pair().await;
    app.clock().advance(TimeDelta::seconds(1));
    let created = make(&app, &merchant, "Billing backend").await;
    let text = created["api_key"].as_str().unwrap().to_owned();
    let secret = &created["secret"];
    let now = rfc3339(app.state().clock.now());
    assert!(text.starts_with("sk_test_") && text.len() == 50, "{text}");
    assert!(secret["id"].as_str().unwrap().starts_with("secret_"));
    for (field, value) in [
        ("name", json!("Billing backend")),
        ("type", json!("private_key")),
        ("provider", json!("flexprice")),
        ("status", json!("published")),
        ("user_id", secret["id"].clone()),
        ("user_type", json!("service_account")),
        ("service_account_name", json!("Billing backend")),
        ("roles", json!([])),
        ("expires_at", json!(null)),
        // Of the part that is secret, nothing.
        ("display_id", json!(format!("{}***{}", &text[..13], &text[48..]))),
    ] {
        assert_eq!(secret[field], value, "{field}");
    }
    for field in ["created_at", "updated_at"] {
        let at: DateTime<Utc> = secret[field].as_str().unwrap().parse().unwrap();
        assert_eq!(rfc3339(at), now, "{field}");
    }
    let other = with_key(&merchant, &created);
    other.get(USED).await.expect(200);
    let customer = other.customer("user_12345").await;
    assert_eq!(customer["environment_id"], merchant.environment_id.as_str());

    let list = other.get(PATH).await.expect(200);
    assert_eq!(list["items"][0], *secret);
    assert_eq!(list["pagination"], json!({"total": 2, "limit": 50, "offset": 0}));
    assert_eq!(list["items"][1]["name"], "default");
    assert!(!list.to_string().contains(&text) && !list.to_string().contains("hash"), "{list}");
    assert_eq!(names(&live, "").await, ["default"]);

    app.clock().advance(TimeDelta::seconds(1));
    assert_eq!(merchant.delete(&path(&created)).await.expect(204), Value::Null);
    other.get(USED).await.expect_error(401, "unauthorized");
    other.delete(&path(&created)).await.expect_error(401, "unauthorized");
    merchant.delete(&path(&created)).await.expect_error(404, "not_found");
    assert_eq!(names(&merchant, "").await, ["default"]);
    let archived = merchant.get(&format!("{PATH}?status=archived")).await.expect(200);
    assert_eq!(archived["pagination"]["total"], 1);
    assert_eq!(archived["items"][0]["id"], secret["id"]);
    assert_eq!(archived["items"][0]["status"], "archived");
    assert_ne!(archived["items"][0]["updated_at"], archived["items"][0]["created_at"]);
    app.finish().await;
}

#[tokio::test]
async fn a_key_is_valid_until_the_moment_that_it_expires() {
    let app = TestApp::start().await;
    let (merchant, live) = app.merchant_pair().await;
    app.clock().advance(TimeDelta::seconds(1));
    let end = app.state().clock.now() + TimeDelta::hours(1);
    let mut wanted = request("For an hour");
    wanted["expires_at"] = json!(rfc3339(end));
    let created = merchant.post(PATH, wanted).await.expect(201);
    app.add_canary(created["api_key"].as_str().unwrap());
    let shown: DateTime<Utc> = created["secret"]["expires_at"].as_str().unwrap().parse().unwrap();
    assert_eq!(shown, end);
    let other = with_key(&merchant, &created);
    app.clock().advance(TimeDelta::hours(1) - TimeDelta::microseconds(1));
    other.get(USED).await.expect(200);
    app.clock().advance(TimeDelta::microseconds(1));
    other.get(USED).await.expect_error(401, "unauthorized");
    app.clock().advance(TimeDelta::days(1));
    other.get(USED).await.expect_error(401, "unauthorized");
    // It is still there to be seen, and taken away.
    assert_eq!(names(&merchant, "").await, ["For an hour", "default"]);
    merchant.delete(&path(&created)).await.expect(204);
    assert_eq!(names(&merchant, "").await, ["default"]);
    live.get(USED).await.expect(200);
    app.finish().await;
}

#[tokio::test]
async fn each_wrong_field_of_a_key_is_named_and_nothing_is_stored() {
    let app = TestApp::start().await;
    let (merchant, _) = app.merchant_pair().await;
    let before = app.row_counts().await;
    let now = app.state().clock.now();
    for (field, value) in [
        ("name", json!(null)),
        ("name", json!("")),
        ("name", json!("x".repeat(256))),
        ("name", json!(5)),
        ("name", json!("a\u{0}b")),
        ("type", json!(null)),
        ("type", json!("publishable_key")),
        ("type", json!("integration")),
        ("type", json!("PRIVATE_KEY")),
        ("type", json!("")),
        ("type", json!(1)),
        ("expires_at", json!(rfc3339(now))),
        ("expires_at", json!(rfc3339(now - TimeDelta::days(1)))),
        ("expires_at", json!("")),
        ("expires_at", json!("tomorrow")),
        ("expires_at", json!(1_800_000_000)),
        ("service_account_id", json!("user_01M830RARPES4BFFGPYBXCX6J3")),
    ] {
        let mut wrong = request("A key");
        wrong[field] = value.clone();
        let error = merchant.post(PATH, wrong).await.expect_error(400, "validation_error");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(field), "{field} {value}: {message}");
        if value == "publishable_key" || field == "service_account_id" {
            assert!(message.contains("is not supported"), "{message}");
        }
    }
    let everything =
        json!({"name": "", "type": "publishable_key", "expires_at": rfc3339(now), "service_account_id": ""});
    let error = merchant.post(PATH, everything).await.expect_error(400, "validation_error");
    let details = error["details"].as_object().unwrap();
    assert_eq!(details.keys().collect::<Vec<_>>(), ["expires_at", "name", "service_account_id", "type"]);
    let error = merchant.post_empty(PATH).await.expect_error(400, "validation_error");
    assert!(error["message"].as_str().unwrap().contains("name"), "{error}");
    merchant.post(PATH, json!([])).await.expect_error(400, "validation_error");
    merchant.post_raw(PATH, "application/json", "{").await.expect_error(400, "validation_error");
    assert_eq!(app.row_counts().await, before);
    // Names are characters, not bytes.
    make(&app, &merchant, &"é".repeat(255)).await;
    app.finish().await;
}

#[tokio::test]
async fn nobody_locks_himself_out() {
    let app = TestApp::start().await;
    let (merchant, _) = app.merchant_pair().await;
    let own = merchant.get("/v1/users/me").await.expect(200)["id"].as_str().unwrap().to_owned();
    let error = merchant.delete(&format!("{PATH}/{own}")).await.expect_error(400, "invalid_operation");
    assert_eq!(error["details"]["reason"], "own_api_key");
    merchant.get(USED).await.expect(200);
    // Two keys that revoke each other at once: one of them stays.
    for round in 0..12 {
        let (one, two) = (make(&app, &merchant, "one").await, make(&app, &merchant, "two").await);
        let (first, second) = (with_key(&merchant, &one), with_key(&merchant, &two));
        let (one, two) = (path(&one), path(&two));
        let (a, b) = tokio::join!(first.delete(&two), second.delete(&one));
        let mut statuses = [a.status, b.status];
        statuses.sort_unstable();
        assert_eq!(statuses, [204, 401], "round {round}: {} {}", a.text, b.text);
        let alive = [first.get(USED).await.status, second.get(USED).await.status];
        assert_eq!(alive.iter().filter(|status| **status == 200).count(), 1, "round {round}: {alive:?}");
    }
    app.finish().await;
}

/// The merchant with a key that ends in so many hours.
async fn expiring(app: &TestApp, merchant: &Merchant, hours: i64) -> Merchant {
    let mut wanted = request("Expiring");
    wanted["expires_at"] = json!(rfc3339(app.state().clock.now() + TimeDelta::hours(hours)));
    let created = merchant.post(PATH, wanted).await.expect(201);
    app.add_canary(created["api_key"].as_str().unwrap());
    with_key(merchant, &created)
}

#[tokio::test]
async fn a_key_that_expires_makes_none_that_outlives_it() {
    let app = TestApp::start().await;
    let (merchant, _) = app.merchant_pair().await;
    let short = expiring(&app, &merchant, 2).await;
    let end = app.state().clock.now() + TimeDelta::hours(2);
    for expires_at in [json!(null), json!(rfc3339(end + TimeDelta::microseconds(1)))] {
        let mut wanted = request("Longer");
        wanted["expires_at"] = expires_at;
        let error = short.post(PATH, wanted).await.expect_error(400, "validation_error");
        let rule = "must not be left out, or be later than that of the key that is used";
        assert_eq!(error["details"]["expires_at"], rule);
    }
    short.post(PATH, request("For ever")).await.expect_error(400, "validation_error");
    let grandchild = expiring(&app, &expiring(&app, &short, 2).await, 1).await;
    grandchild.get(USED).await.expect(200);
    assert_eq!(names(&merchant, "").await.len(), 4);
    app.finish().await;
}

#[tokio::test]
async fn keys_that_expire_leave_one_that_does_not() {
    let app = TestApp::start().await;
    let (merchant, _) = app.merchant_pair().await;
    let own = format!("{PATH}/{}", merchant.get("/v1/users/me").await.expect(200)["id"].as_str().unwrap());
    let (first, second) = (expiring(&app, &merchant, 1).await, expiring(&app, &merchant, 1).await);
    let error = first.delete(&own).await.expect_error(400, "invalid_operation");
    assert_eq!(error["details"]["reason"], "last_lasting_key");
    merchant.get(USED).await.expect(200);
    // It takes others away, and the last but one.
    let third = expiring(&app, &merchant, 1).await;
    let third = third.get("/v1/users/me").await.expect(200)["id"].as_str().unwrap().to_owned();
    first.delete(&format!("{PATH}/{third}")).await.expect(204);
    first.delete(&format!("{PATH}/{third}")).await.expect_error(404, "not_found");
    for round in 0..8 {
        // Two that each take one of the last two away: one stays.
        let lasting = make(&app, &merchant, "lasting").await;
        let (one, other) = (path(&lasting), own.clone());
        let (a, b) = tokio::join!(first.delete(&one), second.delete(&other));
        let mut statuses = [a.status, b.status];
        statuses.sort_unstable();
        assert_eq!(statuses, [204, 400], "round {round}: {} {}", a.text, b.text);
        if b.status == 204 {
            with_key(&merchant, &lasting).get(USED).await.expect(200);
            break;
        }
        merchant.get(USED).await.expect(200);
    }
    app.finish().await;
}

#[tokio::test]
async fn of_several_that_revoke_a_key_at_once_one_is_told_so() {
    let app = TestApp::start().await;
    let (merchant, _) = app.merchant_pair().await;
    for _ in 0..5 {
        let created = make(&app, &merchant, "short-lived").await;
        let path = path(&created);
        let replies = join_all((0..6).map(|_| merchant.delete(&path))).await;
        let done = replies.iter().filter(|reply| reply.status == 204).count();
        assert_eq!(done, 1);
        for reply in replies.into_iter().filter(|reply| reply.status != 204) {
            reply.expect_error(404, "not_found");
        }
        with_key(&merchant, &created).get(USED).await.expect_error(401, "unauthorized");
    }
    app.finish().await;
}

#[tokio::test]
async fn keys_of_others_are_not_there() {
    let app = TestApp::start().await;
    let (merchant, live) = app.merchant_pair().await;
    let (stranger, _) = app.merchant_pair().await;
    let (own, foreign) = (make(&app, &live, "live").await, make(&app, &stranger, "foreign").await);
    let unknown = checkoutd::kit::ids::encode("secret", sqlx::types::Uuid::nil());
    let absent = merchant.delete(&format!("{PATH}/{unknown}")).await.expect_error(404, "not_found");
    assert_eq!(absent["details"]["reason"], "api_key_not_found");
    for path in [path(&own), path(&foreign)] {
        assert_eq!(merchant.delete(&path).await.expect_error(404, "not_found"), absent);
    }
    for id in ["nonsense", "secret_", &merchant.environment_id, &unknown.to_lowercase(), "a%00b", "%FF"] {
        assert_eq!(merchant.delete(&format!("{PATH}/{id}")).await.expect_error(404, "not_found"), absent);
    }
    with_key(&live, &own).get(USED).await.expect(200);
    with_key(&stranger, &foreign).get(USED).await.expect(200);
    assert_eq!(names(&merchant, "").await, ["default"]);
    for (method, path) in [(Method::GET, PATH), (Method::POST, PATH), (Method::GET, "/v1/users/me")] {
        let reply = crate::support::send(merchant.builder(method, path)).await;
        reply.expect_error(401, "unauthorized");
    }
    app.finish().await;
}

#[tokio::test]
async fn keys_are_listed_in_pages_the_newest_first() {
    let app = TestApp::start().await;
    let (merchant, _) = app.merchant_pair().await;
    for number in 1..=4 {
        app.clock().advance(TimeDelta::seconds(1));
        make(&app, &merchant, &number.to_string()).await;
    }
    assert_eq!(names(&merchant, "").await, ["4", "3", "2", "1", "default"]);
    assert_eq!(names(&merchant, "?limit=2").await, ["4", "3"]);
    assert_eq!(names(&merchant, "?limit=2&offset=2").await, ["2", "1"]);
    assert_eq!(names(&merchant, "?limit=2&offset=4&status=published").await, ["default"]);
    let beyond = merchant.get(&format!("{PATH}?limit=3&offset=9")).await.expect(200);
    assert_eq!(beyond, json!({"items": [], "pagination": {"total": 5, "limit": 3, "offset": 9}}));
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=x", "limit"),
        ("offset=-1", "offset"),
        ("status=deleted", "status"),
        ("status=", "status"),
    ] {
        let error = merchant.get(&format!("{PATH}?{query}")).await.expect_error(400, "validation_error");
        assert!(error["message"].as_str().unwrap().contains(field), "{query}: {error}");
    }
    app.finish().await;
}

#[tokio::test]
async fn an_environment_has_at_most_a_hundred_keys_even_of_requests_at_once() {
    let app = TestApp::start().await;
    let (merchant, live) = app.merchant_pair().await;
    for chunk in 0..14 {
        let replies = join_all((0..7).map(|_| merchant.post(PATH, request("many")))).await;
        assert!(replies.iter().all(|reply| reply.status == 201), "chunk {chunk}");
    }
    // 99 with the first one: there is room for one.
    let replies = join_all((0..6).map(|_| merchant.post(PATH, request("last")))).await;
    let mut statuses: Vec<_> = replies.iter().map(|reply| reply.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 400, 400, 400, 400, 400]);
    merchant.post(PATH, request("more")).await.expect_error(400, "invalid_operation");
    let list = merchant.get(&format!("{PATH}?limit=1")).await.expect(200);
    assert_eq!(list["pagination"]["total"], 100);
    let path = format!("{PATH}/{}", list["items"][0]["id"].as_str().unwrap());
    merchant.delete(&path).await.expect(204);
    merchant.post(PATH, request("again")).await.expect(201);
    live.post(PATH, request("elsewhere")).await.expect(201);
    app.finish().await;
}

#[tokio::test]
async fn a_caller_is_a_service_account_named_like_its_key() {
    let app = TestApp::start().await;
    let (merchant, live) = app.merchant_pair().await;
    let created = make(&app, &merchant, "Billing backend").await;
    let me = with_key(&merchant, &created).get("/v1/users/me").await.expect(200);
    for (field, value) in [
        ("id", created["secret"]["id"].clone()),
        ("name", json!("Billing backend")),
        ("email", json!("")),
        ("type", json!("service_account")),
        ("roles", json!([])),
        ("metadata", json!({})),
        ("environment_id", json!(merchant.environment_id)),
        ("mode", json!("test")),
    ] {
        assert_eq!(me[field], value, "{field}");
    }
    assert_eq!(me["tenant"]["id"], merchant.tenant_id.as_str());
    assert_eq!(me["tenant"]["name"], "Test merchant");
    assert_eq!(me["tenant"]["status"], "published");
    assert_eq!(me["tenant"]["created_at"], me["tenant"]["updated_at"]);
    let other = live.get("/v1/users/me").await.expect(200);
    assert_eq!((&other["name"], &other["mode"]), (&json!("default"), &json!("live")));
    assert_eq!(other["tenant"], me["tenant"]);
    assert!(!me.to_string().contains("sk_"), "{me}");
    app.finish().await;
}
