//! `/v1/webhook_endpoints`: registration, its rules, secrets, and who may see what.

use axum::http::Method;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::support::{Merchant, TestApp};

const URL: &str = "https://hooks.example.com/checkout";

async fn create(merchant: &Merchant, body: Value) -> Value {
    merchant.post("/v1/webhook_endpoints", body).await.expect(201)
}

fn path(endpoint: &Value) -> String {
    format!("/v1/webhook_endpoints/{}", endpoint["id"].as_str().unwrap())
}

#[tokio::test]
async fn an_endpoint_is_created_read_changed_and_deleted() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let created = create(&merchant, json!({"url": URL})).await;
    assert!(created["id"].as_str().unwrap().starts_with("we_"));
    let secret = created["secret"].as_str().unwrap().strip_prefix("whsec_").unwrap();
    assert_eq!(STANDARD.decode(secret).unwrap().len(), 32);
    app.add_canary(secret);
    let mut expected = json!({
        "id": created["id"],
        "url": URL,
        "event_types": [],
        "description": "",
        "enabled": true,
        "disabled_reason": null,
        "header_names": [],
        "max_concurrency": 8,
        "rate_limit_per_second": null,
        "statistics": {
            "delivered_count": 0,
            "failed_attempt_count": 0,
            "consecutive_failures": 0,
            "failing_since": null,
            "last_delivered_at": null,
            "last_failed_at": null,
            "last_error": null,
        },
        "tenant_id": merchant.tenant_id,
        "environment_id": merchant.environment_id,
        "created_at": "2026-11-23T09:30:00Z",
        "updated_at": "2026-11-23T09:30:00Z",
    });
    assert_eq!(merchant.get(&path(&created)).await.expect(200), expected, "the secret is shown once");

    app.advance(chrono::TimeDelta::minutes(1)).await;
    let change =
        json!({"event_types": ["payment.late", "refund.failed", "payment.late"], "description": "a note"});
    let changed = merchant.put(&path(&created), change).await.expect(200);
    expected["event_types"] = json!(["payment.late", "refund.failed"]);
    expected["description"] = json!("a note");
    expected["updated_at"] = json!("2026-11-23T09:31:00Z");
    assert_eq!(changed, expected);
    let change = json!({"url": "https://other.example.com:8443/", "enabled": false, "event_types": []});
    let changed = merchant.put(&path(&created), change).await.expect(200);
    assert_eq!(changed["url"], "https://other.example.com:8443/");
    assert_eq!(changed["enabled"], false);
    assert_eq!(changed["event_types"], json!([]));
    assert_eq!(changed["description"], "a note", "what a change does not name stays");
    assert_eq!(merchant.put(&path(&created), json!({})).await.expect(200), changed);

    assert_eq!(merchant.delete(&path(&created)).await.expect(204), Value::Null);
    for reply in [
        merchant.get(&path(&created)).await,
        merchant.put(&path(&created), json!({"enabled": true})).await,
        merchant.delete(&path(&created)).await,
        merchant.post_empty(&format!("{}/secret/rotate", path(&created))).await,
        merchant.get(&format!("{}/deliveries", path(&created))).await,
    ] {
        let error = reply.expect_error(404, "not_found");
        assert_eq!(error["details"]["reason"], "webhook_endpoint_not_found");
    }
    app.finish().await;
}

#[tokio::test]
async fn a_rotation_shows_a_new_secret_once() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let created = create(&merchant, json!({"url": URL})).await;
    let rotated = merchant.post_empty(&format!("{}/secret/rotate", path(&created))).await.expect(200);
    assert_eq!(rotated["id"], created["id"]);
    for endpoint in [&created, &rotated] {
        app.add_canary(endpoint["secret"].as_str().unwrap());
    }
    assert!(rotated["secret"].as_str().unwrap().starts_with("whsec_"));
    assert_ne!(rotated["secret"], created["secret"]);
    assert_eq!(merchant.get(&path(&created)).await.expect(200).get("secret"), None);
    app.finish().await;
}

#[tokio::test]
async fn a_list_is_newest_first_and_paged() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    assert_eq!(
        merchant.get("/v1/webhook_endpoints").await.expect(200),
        json!({"items": [], "pagination": {"total": 0, "limit": 50, "offset": 0}})
    );
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(create(&merchant, json!({"url": URL})).await["id"].clone());
        app.advance(chrono::TimeDelta::seconds(1)).await;
    }
    let page = merchant.get("/v1/webhook_endpoints?limit=2&offset=1").await.expect(200);
    assert_eq!(page["pagination"], json!({"total": 3, "limit": 2, "offset": 1}));
    let listed: Vec<&Value> = page["items"].as_array().unwrap().iter().map(|item| &item["id"]).collect();
    assert_eq!(listed, [&ids[1], &ids[0]]);
    assert!(page["items"].as_array().unwrap().iter().all(|item| item.get("secret").is_none()));
    for query in ["limit=0", "limit=1001", "limit=x", "offset=-1"] {
        let reply = merchant.get(&format!("/v1/webhook_endpoints?{query}")).await;
        reply.expect_error(400, "validation_error");
    }
    app.finish().await;
}

#[tokio::test]
async fn bad_input_is_answered_with_the_field_and_its_rule() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let endpoint = create(&merchant, json!({"url": URL})).await;
    let rows = [
        (json!({"url": 5}), "url"),
        (json!({"url": "not a url"}), "url"),
        (json!({"url": "ftp://example.com/"}), "url"),
        (json!({"url": "//example.com/hook"}), "url"),
        (json!({"url": "https://user:secret@example.com/"}), "url"),
        (json!({"url": "https://example.com/#part"}), "url"),
        (json!({"url": "http://169.254.169.254/latest/meta-data"}), "url"),
        (json!({"url": format!("https://example.com/{}", "a".repeat(2048))}), "url"),
        (json!({"url": "https://example.com/\u{0}"}), "url"),
        (json!({"url": URL, "event_types": ["checkout.session.paid"]}), "event_types"),
        (json!({"url": URL, "event_types": [1]}), "event_types[0]"),
        (json!({"url": URL, "event_types": "payment.late"}), "event_types"),
        (json!({"url": URL, "description": "a".repeat(501)}), "description"),
        (json!({"url": URL, "description": "a\u{0}"}), "description"),
        (json!({"url": URL, "enabled": "yes"}), "enabled"),
    ];
    for (body, field) in rows {
        for reply in [
            merchant.post("/v1/webhook_endpoints", body.clone()).await,
            merchant.put(&path(&endpoint), body.clone()).await,
        ] {
            let error = reply.expect_error(400, "validation_error");
            assert!(error["details"].get(field).is_some(), "{field}: {error}");
        }
    }
    let error = merchant.post("/v1/webhook_endpoints", json!({})).await.expect_error(400, "validation_error");
    assert_eq!(error["message"], "url is required");
    let unknown = json!({"url": URL, "event_types": ["checkout.session.paid"]});
    let error = merchant.post("/v1/webhook_endpoints", unknown).await.expect_error(400, "validation_error");
    let message = error["message"].as_str().unwrap();
    assert!(
        message.contains("checkout.session.paid") && message.contains("checkout.session.completed"),
        "{message}"
    );
    let several = json!({"url": "x", "event_types": ["y"], "description": "a".repeat(501)});
    let error = merchant.post("/v1/webhook_endpoints", several).await.expect_error(400, "validation_error");
    assert_eq!(error["details"].as_object().unwrap().len(), 3, "every field at once: {error}");
    let text = "é".repeat(500);
    assert_eq!(create(&merchant, json!({"url": URL, "description": text})).await["description"], text);
    app.finish().await;
}

#[tokio::test]
async fn a_live_environment_takes_public_https_only() {
    let app = TestApp::start().await;
    let (test, live) = app.merchant_pair().await;
    for url in [
        "http://hooks.example.com/",
        "http://127.0.0.1:9000/",
        "https://127.0.0.1/",
        "https://2130706433/",
        "https://[::ffff:10.0.0.1]/",
        "https://localhost/",
        "https://hooks.example.com:9000/",
    ] {
        let error = live.post("/v1/webhook_endpoints", json!({"url": url})).await;
        let error = error.expect_error(400, "validation_error");
        assert!(error["details"].get("url").is_some(), "{url}: {error}");
    }
    create(&live, json!({"url": URL})).await;
    // The operator of this installation allows it for tests.
    create(&test, json!({"url": "http://127.0.0.1:9000/"})).await;
    app.finish().await;
}

#[tokio::test]
async fn nobody_elses_endpoint_can_be_told_from_a_missing_one() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let (stranger, _) = app.merchant_pair().await;
    let endpoint = create(&merchant, json!({"url": URL})).await;
    let missing = json!({"id": "we_00000000000000000000000000"});
    for (method, suffix, body) in [
        (Method::GET, "", None),
        (Method::PUT, "", Some(json!({"enabled": false}))),
        (Method::DELETE, "", None),
        (Method::POST, "/secret/rotate", None),
        (Method::GET, "/deliveries", None),
    ] {
        let ask = async |path: String| {
            let path = format!("{path}{suffix}");
            stranger.request(method.clone(), &path, body.clone()).await.expect_error(404, "not_found")
        };
        let foreign = ask(path(&endpoint)).await;
        let absent = ask(path(&missing)).await;
        let malformed = ask("/v1/webhook_endpoints/'or 1=1".to_owned()).await;
        assert_eq!((&foreign, &malformed), (&absent, &absent), "{method} {suffix}");
    }
    assert_eq!(stranger.get("/v1/webhook_endpoints").await.expect(200)["items"], json!([]));
    let untouched = merchant.get(&path(&endpoint)).await.expect(200);
    assert_eq!((&untouched["enabled"], &untouched["updated_at"]), (&json!(true), &endpoint["updated_at"]));
    app.finish().await;
}

#[tokio::test]
async fn an_environment_has_at_most_fifty_endpoints() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let first = create(&merchant, json!({"url": URL})).await;
    for _ in 1..45 {
        create(&merchant, json!({"url": URL})).await;
    }
    let post = || merchant.post("/v1/webhook_endpoints", json!({"url": URL}));
    let replies = futures::future::join_all((0..20).map(|_| post())).await;
    let made = replies.iter().filter(|reply| reply.status == 201).count();
    assert_eq!(made, 5, "of twenty at once, those that fit");
    post().await.expect_error(400, "invalid_operation");
    merchant.delete(&path(&first)).await.expect(204);
    post().await.expect(201);
    app.finish().await;
}
