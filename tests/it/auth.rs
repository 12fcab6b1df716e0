//! Who may call: keys, schemes and environments.

use axum::http::Method;
use chrono::TimeDelta;
use serde_json::json;

use crate::support::{Reply, TestApp, send};

const PATH: &str = "/v1/checkout/sessions";

/// `key` with another text before its checksum, and the checksum to match: only the secret is wrong.
fn rechecked(signed: &str) -> String {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut value = crc32fast::hash(signed.as_bytes());
    let mut digits = [0; 6];
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS[(value % 62) as usize];
        value /= 62;
    }
    format!("{signed}{}", std::str::from_utf8(&digits).unwrap())
}

/// The character at `index` replaced by another one.
fn changed(text: &str, index: usize) -> String {
    let mut bytes = text.as_bytes().to_vec();
    bytes[index] = if bytes[index] == b'a' { b'b' } else { b'a' };
    String::from_utf8(bytes).unwrap()
}

#[track_caller]
fn refused(reply: Reply, status: u16, code: &str, sent: &str) {
    assert_eq!(reply.headers["content-type"], "application/json");
    assert!(reply.headers.contains_key("x-request-id"));
    assert!(sent.len() < 8 || !reply.text.contains(sent), "the key is echoed: {}", reply.text);
    let body = reply.expect_error(status, code);
    let members: Vec<_> = body.as_object().unwrap().keys().map(String::as_str).collect();
    assert!(members.iter().all(|name| ["code", "details", "http_status_code", "message"].contains(name)));
}

#[tokio::test]
async fn only_a_valid_key_in_a_known_scheme_is_let_in() {
    let app = TestApp::start().await;
    let (merchant, _) = app.merchant_pair().await;
    let key = merchant.api_key.as_str();
    let signed = &key[..key.len() - 6];
    let wrong_secret = rechecked(&changed(signed, signed.len() - 1));
    let wrong_id = rechecked(&changed(signed, "sk_test_".len()));
    let other_mode = rechecked(&signed.replace("sk_test_", "sk_live_"));
    let keys = [
        "",
        " ",
        "sk_test_",
        "nonsense",
        "sk_test_é",
        &key[1..],
        &key[..key.len() - 1],
        &format!("{key}0"),
        &changed(key, key.len() - 1),
        &key.to_uppercase(),
        &wrong_secret,
        &wrong_id,
        &other_mode,
        &"x".repeat(4000),
    ];
    let builder = || merchant.builder(Method::GET, PATH);
    for sent in keys {
        refused(send(builder().header("x-api-key", sent.as_bytes())).await, 401, "unauthorized", sent);
        let bearer = format!("Bearer {sent}");
        refused(send(builder().header("authorization", bearer.as_bytes())).await, 401, "unauthorized", sent);
    }
    refused(send(builder()).await, 401, "unauthorized", key);
    let schemes = ["Basic", "Token", "Bearer:", "ApiKey", ""].map(|scheme| format!("{scheme} {key}"));
    for sent in schemes.iter().map(String::as_str).chain([key, "Bearer", "Basic dXNlcjpwYXNz"]) {
        refused(send(builder().header("authorization", sent)).await, 401, "unauthorized", key);
    }
    refused(
        send(merchant.builder(Method::GET, &format!("{PATH}?api_key={key}"))).await,
        401,
        "unauthorized",
        key,
    );
    // A wrong key is not saved by a right one in the other header.
    let both = builder().header("x-api-key", &wrong_secret).header("authorization", format!("Bearer {key}"));
    refused(send(both).await, 401, "unauthorized", key);

    send(builder().header("x-api-key", key)).await.expect(200);
    for scheme in ["Bearer", "bearer", "BEARER", "bEaReR", "Bearer "] {
        send(builder().header("authorization", format!("{scheme} {key}"))).await.expect(200);
    }
    app.finish().await;
}

#[tokio::test]
async fn a_key_is_judged_before_the_body_and_the_id() {
    let app = TestApp::start().await;
    let (merchant, _) = app.merchant_pair().await;
    for (method, path) in [
        (Method::POST, "/v1/checkout/sessions"),
        (Method::GET, "/v1/checkout/sessions/nonsense"),
        (Method::POST, "/v1/checkout/sessions/nonsense/cancel"),
        (Method::POST, "/v1/connections"),
        (Method::PUT, "/v1/connections/nonsense"),
    ] {
        let request = merchant.builder(method, path).header("content-type", "text/plain").body("{");
        refused(send(request).await, 401, "unauthorized", "");
    }
    app.finish().await;
}

#[tokio::test]
async fn a_revoked_key_is_refused_from_then_on() {
    let app = TestApp::start().await;
    let (merchant, live) = app.merchant_pair().await;
    merchant.get(PATH).await.expect(200);
    let lookup_id = &merchant.api_key["sk_test_".len()..][..12];
    let revoked = sqlx::query("update api_keys set revoked_at = $1 where lookup_id = $2")
        .bind(app.state().clock.now())
        .bind(lookup_id)
        .execute(&app.state().pool)
        .await
        .unwrap();
    assert_eq!(revoked.rows_affected(), 1);
    // By somebody else: this process may remember the key for two seconds.
    app.clock().advance(TimeDelta::seconds(2));
    refused(merchant.get(PATH).await, 401, "unauthorized", &merchant.api_key);
    live.get(PATH).await.expect(200);
    app.finish().await;
}

#[tokio::test]
async fn the_environment_header_must_be_the_keys_own() {
    let app = TestApp::start().await;
    let (test, live) = app.merchant_pair().await;
    let (stranger, _) = app.merchant_pair().await;
    let get = |environment: &str| {
        let request = test.builder(Method::GET, PATH).header("x-api-key", &test.api_key);
        send(request.header("X-Environment-ID", environment.as_bytes()))
    };
    get(&test.environment_id).await.expect(200);
    let unknown = checkoutd::kit::ids::encode("env", sqlx::types::Uuid::nil());
    let lower = test.environment_id.to_lowercase();
    for environment in [
        &*live.environment_id,
        &stranger.environment_id,
        &test.tenant_id,
        &unknown,
        &lower,
        "",
        "*",
        "null",
        "é",
    ] {
        refused(get(environment).await, 403, "permission_denied", &test.api_key);
    }
    app.finish().await;
}

#[tokio::test]
async fn test_and_live_keys_see_different_data() {
    let app = TestApp::start().await;
    let (test, live) = app.merchant_pair().await;
    let mut ids = Vec::new();
    for merchant in [&test, &live] {
        let customer = merchant.customer("user_12345").await;
        assert_eq!(customer["environment_id"], merchant.environment_id.as_str());
        assert_eq!(customer["tenant_id"], test.tenant_id.as_str());
        ids.push(customer["id"].as_str().unwrap().to_owned());
    }
    assert_ne!(ids[0], ids[1]);
    for (merchant, own, other) in [(&test, &ids[0], &ids[1]), (&live, &ids[1], &ids[0])] {
        merchant.get(&format!("/v1/customers/{own}")).await.expect(200);
        merchant.get(&format!("/v1/customers/{other}")).await.expect_error(404, "not_found");
        let found = merchant.post("/v1/customers/search", json!({})).await.expect(200);
        assert_eq!(found["items"].as_array().unwrap().len(), 1);
        assert_eq!(found["items"][0]["id"], own.as_str());
    }
    app.finish().await;
}
