//! Limits per API key and per failing address, and what browsers are not told.

use std::net::{IpAddr, Ipv4Addr};

use axum::http::Method;
use chrono::TimeDelta;
use futures::future::join_all;
use serde_json::json;

use crate::support::{Merchant, Reply, Settings, TestApp, send};

const PATH: &str = "/v1/checkout/sessions";

async fn start(variables: &[(&'static str, &'static str)]) -> TestApp {
    TestApp::start_with(Settings { variables: variables.to_vec(), ..Settings::default() }).await
}

/// Limit, remaining, reset.
#[track_caller]
fn figures(reply: &Reply) -> [u32; 3] {
    ["ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"]
        .map(|name| reply.headers[name].to_str().unwrap().parse().unwrap())
}

#[tokio::test]
async fn a_key_has_its_budget_and_a_full_one_is_told() {
    let app = start(&[("CHECKOUTD_RATE_LIMIT_PER_SECOND", "2"), ("CHECKOUTD_RATE_LIMIT_BURST", "5")]).await;
    let (merchant, other) = app.merchant_pair().await;
    for remaining in (0..5u32).rev() {
        let reply = merchant.get(PATH).await;
        assert_eq!((reply.status, figures(&reply)), (200, [5, remaining, (5 - remaining).div_ceil(2)]));
    }
    let rows = app.row_counts().await;
    let reply = merchant.post("/v1/plans", json!({"name": "Pro"})).await;
    assert_eq!(figures(&reply), [5, 0, 3]);
    assert_eq!(reply.headers["retry-after"], "1");
    assert!(reply.headers.contains_key("x-request-id"));
    let error = reply.expect_error(429, "too_many_requests");
    assert_eq!(error["details"]["reason"], "rate_limited");
    // Under an idempotency key too: nothing is claimed, nothing is kept.
    merchant
        .post_keyed("k", "/v1/plans", &json!({"name": "Pro"}))
        .await
        .expect_error(429, "too_many_requests");
    assert_eq!(app.row_counts().await, rows, "nothing was done");

    // Others go on, and so do those who have no key of ours.
    other.get(PATH).await.expect(200);
    for path in ["/healthz", "/readyz", "/metrics"] {
        let reply = send(merchant.builder(Method::GET, path)).await;
        assert_eq!(reply.status, 200, "{path}");
        assert!(!reply.headers.contains_key("ratelimit-limit"), "{path}");
    }
    let webhook = format!("/v1/webhooks/razorpay/{}/{}", merchant.tenant_id, merchant.environment_id);
    for _ in 0..10 {
        let reply = send(merchant.builder(Method::POST, &webhook).body("{}")).await;
        assert!(reply.status != 429 && !reply.headers.contains_key("ratelimit-limit"), "{reply:?}");
    }

    app.clock().advance(TimeDelta::milliseconds(499));
    assert_eq!(merchant.get(PATH).await.status, 429);
    app.clock().advance(TimeDelta::milliseconds(1));
    let reply = merchant.post("/v1/plans", json!({"name": "Pro"})).await;
    assert_eq!((reply.status, figures(&reply)[1]), (201, 0), "what was refused cost nothing");
    assert_eq!(merchant.get(PATH).await.status, 429);
    app.clock().advance(TimeDelta::minutes(10));
    assert_eq!(figures(&merchant.get(PATH).await), [5, 4, 1]);
    // A failure spends as well.
    let missing = merchant.get("/v1/plans/plan_none").await;
    assert_eq!((missing.status, figures(&missing)), (404, [5, 3, 1]));
    app.finish().await;
}

#[tokio::test]
async fn a_limit_of_zero_is_none() {
    let app = start(&[("CHECKOUTD_RATE_LIMIT_PER_SECOND", "0"), ("CHECKOUTD_RATE_LIMIT_BURST", "1")]).await;
    let (merchant, _) = app.merchant_pair().await;
    for _ in 0..5 {
        let reply = merchant.get(PATH).await;
        assert!(reply.status == 200 && !reply.headers.contains_key("ratelimit-limit"));
    }
    app.finish().await;
}

/// A client whose packets come from this address of the loopback network.
fn from(merchant: &Merchant, address: [u8; 4]) -> Merchant {
    let http = reqwest::Client::builder().no_proxy().local_address(IpAddr::V4(Ipv4Addr::from(address)));
    Merchant { http: http.build().unwrap(), ..merchant.clone() }
}

/// F43.
#[tokio::test]
async fn who_guesses_keys_is_slowed_down_and_nobody_else() {
    let app = start(&[("CHECKOUTD_FAILED_AUTHENTICATIONS_PER_MINUTE", "20")]).await;
    let (merchant, _) = app.merchant_pair().await;
    let neighbour = from(&merchant, [127, 0, 0, 2]);
    let guess = async |client: &Merchant, number: u32| {
        let request = client.builder(Method::GET, PATH).header("x-api-key", format!("sk_test_{number}"));
        // Whatever a client says about others.
        send(request.header("x-forwarded-for", format!("192.0.2.{}", number % 250))).await
    };
    for number in 0..300 {
        let reply = guess(&merchant, number).await;
        if number < 20 {
            reply.expect_error(401, "unauthorized");
        } else {
            assert_eq!(reply.headers["retry-after"], "60");
            let error = reply.expect_error(429, "too_many_requests");
            assert_eq!(error["details"]["reason"], "too_many_failed_authentications");
        }
        if number % 50 == 0 {
            merchant.get(PATH).await.expect(200);
        }
    }
    for number in 0..20 {
        guess(&neighbour, number).await.expect_error(401, "unauthorized");
    }
    guess(&neighbour, 20).await.expect_error(429, "too_many_requests");
    neighbour.get(PATH).await.expect(200);
    // A valid key of another environment is no guess.
    let request = neighbour.builder(Method::GET, PATH).header("x-api-key", &merchant.api_key);
    send(request.header("x-environment-id", "env_another")).await.expect_error(403, "permission_denied");
    app.clock().advance(TimeDelta::seconds(60));
    guess(&merchant, 0).await.expect_error(401, "unauthorized");
    app.finish().await;
}

/// Well-formed keys are looked up. One address must not keep all connections busy with it.
#[tokio::test]
async fn guesses_of_one_address_are_looked_up_two_at_a_time() {
    let app = start(&[("CHECKOUTD_FAILED_AUTHENTICATIONS_PER_MINUTE", "2")]).await;
    let (merchant, _) = app.merchant_pair().await;
    let keys = "/v1/secrets/api/keys";
    let made = merchant.post(keys, json!({"name": "Gone", "type": "private_key"})).await.expect(201);
    merchant.delete(&format!("{keys}/{}", made["secret"]["id"].as_str().unwrap())).await.expect(204);
    let gone = Merchant { api_key: made["api_key"].as_str().unwrap().to_owned(), ..merchant.clone() };
    gone.get(PATH).await.expect_error(401, "unauthorized");
    gone.get(PATH).await.expect_error(401, "unauthorized");
    gone.get(PATH).await.expect_error(429, "too_many_requests");

    let mut holder = app.state().pool.begin().await.unwrap();
    sqlx::query("lock table api_keys").execute(&mut *holder).await.unwrap();
    let guesses = join_all((0..6).map(|_| gone.get(PATH)));
    let look = async {
        app.until_waiting_for_locks(2).await;
        let mut most = 0;
        for _ in 0..20 {
            send(merchant.builder(Method::GET, "/healthz")).await;
            most = most.max(app.waiting_for_locks().await);
        }
        holder.rollback().await.unwrap();
        most
    };
    let (guesses, most) = tokio::join!(guesses, look);
    assert_eq!(most, 2);
    for guess in guesses {
        guess.expect_error(429, "too_many_requests");
    }
    merchant.get(PATH).await.expect(200);
    app.finish().await;
}

/// Merchants' backends call the API, browsers do not: no page of another origin may.
#[tokio::test]
async fn no_other_origin_is_let_in() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let session = merchant.session().await;
    let session = format!("{PATH}/{}", session["id"].as_str().unwrap());
    let webhook = format!("/v1/webhooks/razorpay/{}/{}", merchant.tenant_id, merchant.environment_id);
    for path in ["/v1/customers", "/v1/customers/search", PATH, &session, &webhook, "/healthz", "/metrics"] {
        for method in [Method::OPTIONS, Method::GET, Method::POST] {
            let request = merchant
                .builder(method.clone(), path)
                .header("x-api-key", &merchant.api_key)
                .header("origin", "https://shop.example.com")
                .header("access-control-request-method", "POST")
                .header("access-control-request-headers", "x-api-key");
            let reply = send(request).await;
            let told: Vec<_> =
                reply.headers.keys().filter(|name| name.as_str().starts_with("access-control")).collect();
            assert!(told.is_empty(), "{method} {path}: {told:?}");
            if method == Method::OPTIONS {
                reply.expect_error(405, "invalid_operation");
            }
        }
    }
    app.finish().await;
}
