//! Where the browser arrives after paying.

use checkoutd::sandbox::{FaultKind, FaultRule, Faults, Op};
use serde_json::{Value, json};

use crate::support::{Merchant, TestApp, send};

#[tokio::test]
async fn a_genuine_return_completes_by_asking_and_goes_to_the_success_url() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let session = merchant.session().await;
    let paid = app.pay(&session);
    let reply = send(merchant.http.get(paid.redirect_url.unwrap())).await;
    assert_eq!(reply.status, 303);
    let expected = format!("https://app.example.com/welcome?session_id={}", session["id"].as_str().unwrap());
    assert_eq!(reply.headers["location"], expected.as_str());
    assert_eq!(merchant.read_session(&session).await["checkout_status"], "completed");
    app.finish().await;
}

#[tokio::test]
async fn a_forged_return_changes_nothing_and_goes_nowhere() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let session = merchant.session().await;
    let other = merchant.session().await;
    let paid = app.pay(&other).redirect_url.unwrap();
    let id = session["id"].as_str().unwrap();
    let forged = [
        paid.replace("razorpay_signature=", "razorpay_signature=0"),
        // Another session's genuine parameters.
        paid.replacen(other["id"].as_str().unwrap(), id, 1),
        format!(
            "{}/return/{}/{id}?razorpay_payment_id=pay_x&razorpay_payment_link_id=plink_x&razorpay_payment_link_reference_id={id}&razorpay_payment_link_status=paid&razorpay_signature={}",
            app.base_url,
            merchant.environment_id,
            "0".repeat(64)
        ),
    ];
    for url in forged {
        let reply = send(merchant.http.get(&url)).await;
        assert_eq!(reply.status, 400, "{url}");
        assert!(reply.headers.get("location").is_none());
    }
    assert_eq!(merchant.read_session(&session).await["checkout_status"], "pending");
    app.finish().await;
}

#[tokio::test]
async fn a_return_that_cannot_be_checked_yet_still_goes_on() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let session = merchant.session().await;
    let down = FaultKind::Status { code: 400, body: None, retry_after: None };
    app.sandbox
        .set_faults(Faults { rules: vec![FaultRule::times(1, Op::FetchLink, down)], ..Faults::default() });
    let paid = app.pay(&session);
    let reply = send(merchant.http.get(paid.redirect_url.unwrap())).await;
    assert_eq!(reply.status, 303);
    app.sandbox.flush_webhooks().await;
    assert_eq!(merchant.read_session(&session).await["checkout_status"], "completed");
    app.finish().await;
}

#[tokio::test]
async fn the_destination_follows_how_the_session_ended() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let (cancelled, expired) = (merchant.session().await, merchant.session().await);
    let mut urls = Vec::new();
    for session in [&cancelled, &expired] {
        let id = session["id"].as_str().unwrap();
        if session == &cancelled {
            merchant.post_empty(&format!("/v1/checkout/sessions/{id}/cancel")).await.expect(200);
        } else {
            app.sandbox.expire(id).unwrap();
            app.sandbox.flush_webhooks().await;
        }
        urls.push(id.to_owned());
    }
    for (id, expected) in urls
        .iter()
        .zip(["https://app.example.com/pricing", "https://app.example.com/pricing?error=payment_failed"])
    {
        let reply = send(merchant.http.get(signed_return(&app, &merchant, id))).await;
        assert_eq!((reply.status, reply.headers["location"].to_str().unwrap()), (303, expected));
    }
    app.finish().await;
}

/// What Razorpay would append, signed with the account's secret.
fn signed_return(app: &TestApp, merchant: &Merchant, id: &str) -> String {
    let message = format!("plink_1|{id}|paid|pay_1");
    let signature =
        checkoutd::kit::secret::hmac_sha256(crate::support::KEY_SECRET.as_bytes(), message.as_bytes());
    let signature = hex::encode(signature);
    format!(
        "{}/return/{}/{id}?razorpay_payment_id=pay_1&razorpay_payment_link_id=plink_1&razorpay_payment_link_reference_id={id}&razorpay_payment_link_status=paid&razorpay_signature={signature}",
        app.base_url, merchant.environment_id
    )
}

/// A session that sends nobody anywhere.
async fn session_without_urls(merchant: &Merchant) -> Value {
    let plan = merchant.plan().await;
    merchant.customer("user_12345").await;
    let mut request = Merchant::session_request(&plan);
    for url in ["success_url", "failure_url", "cancel_url"] {
        request[url] = json!(null);
    }
    merchant.post("/v1/checkout/sessions", request).await.expect(201)
}

#[tokio::test]
async fn a_return_asks_the_provider_even_right_after_a_poll_has() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let session = session_without_urls(&merchant).await;
    assert_eq!(merchant.read_session(&session).await["stale"], false);
    let paid = app.pay(&session);
    assert_eq!(merchant.read_session(&session).await["checkout_status"], "pending");
    let reply = send(merchant.http.get(paid.redirect_url.unwrap())).await;
    assert!(reply.text.contains("Payment received"), "{}", reply.text);
    app.finish().await;
}

#[tokio::test]
async fn without_urls_or_parameters_there_is_a_small_page() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let session = session_without_urls(&merchant).await;
    let paid = app.pay(&session);
    let reply = send(merchant.http.get(paid.redirect_url.unwrap())).await;
    assert_eq!(reply.status, 200);
    assert!(reply.text.contains("Payment received"), "{}", reply.text);
    assert!(reply.headers["content-security-policy"].to_str().unwrap().starts_with("default-src 'none'"));
    let plain =
        format!("{}/return/{}/{}", app.base_url, merchant.environment_id, session["id"].as_str().unwrap());
    assert_eq!(send(merchant.http.get(plain)).await.status, 200);
    for unknown in ["chk_00000000000000000000000000", "chk_1"] {
        let reply =
            send(merchant.http.get(format!("{}/return/{}/{unknown}", app.base_url, merchant.environment_id)))
                .await;
        assert_eq!(
            (reply.status, &reply.headers["content-type"]),
            (404, &"text/html; charset=utf-8".parse().unwrap())
        );
        assert!(reply.text.contains("does not exist"), "{}", reply.text);
    }
    app.finish().await;
}
