//! Settings of an environment: what can be set, what applies otherwise, and what is not here by name.

use axum::http::Method;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::support::{Merchant, Settings, TestApp};

const CHECKOUT: &str = "/v1/settings/checkout_config";
const INVOICE: &str = "/v1/settings/invoice_config";

fn ttl(seconds: i64) -> Value {
    json!({"value": {"session_ttl_seconds": seconds}})
}

async fn shown(merchant: &Merchant) -> (i64, bool) {
    let setting = merchant.get(CHECKOUT).await.expect(200);
    assert_eq!(setting["key"], "checkout_config");
    assert_eq!(setting["environment_id"], merchant.environment_id.as_str());
    assert_eq!(setting["tenant_id"], merchant.tenant_id.as_str());
    (setting["value"]["session_ttl_seconds"].as_i64().unwrap(), setting["is_default"].as_bool().unwrap())
}

/// Seconds that the session's customer has to pay.
fn lifetime(session: &Value) -> i64 {
    let time = |field: &str| session[field].as_str().unwrap().parse::<DateTime<Utc>>().unwrap();
    (time("expires_at") - time("created_at")).num_seconds()
}

#[tokio::test]
async fn the_lifetime_of_sessions_is_set_per_environment_and_reset() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let (other, _) = app.merchant_pair().await;
    assert_eq!(shown(&merchant).await, (900, true));
    let before = merchant.session().await;
    let set = merchant.put(CHECKOUT, ttl(60)).await.expect(200);
    assert_eq!(set, merchant.get(CHECKOUT).await.expect(200));
    assert_eq!(shown(&merchant).await, (60, false));
    assert_eq!(shown(&other).await, (900, true));
    let short = merchant.session().await;
    assert_eq!((lifetime(&before), lifetime(&short)), (900, 60));
    for (seconds, field) in [(1, "the least"), (86_400, "the most")] {
        merchant.put(CHECKOUT, ttl(seconds)).await.expect(200);
        assert_eq!(shown(&merchant).await, (seconds, false), "{field}");
    }
    // A session keeps the deadline that it was made with.
    assert_eq!(lifetime(&merchant.read_session(&short).await), 60);
    let reset = merchant.delete(CHECKOUT).await.expect(200);
    assert_eq!((&reset["value"]["session_ttl_seconds"], &reset["is_default"]), (&json!(900), &json!(true)));
    merchant.delete(CHECKOUT).await.expect(200);
    assert_eq!(shown(&merchant).await, (900, true));
    assert_eq!(lifetime(&merchant.session().await), 900);
    app.advance(TimeDelta::minutes(2)).await;
    assert_eq!(merchant.read_session(&short).await["checkout_status"], "expired");
    assert_eq!(merchant.read_session(&before).await["checkout_status"], "pending");
    app.finish().await;
}

#[tokio::test]
async fn what_nobody_set_is_what_the_service_was_told() {
    let settings =
        Settings { variables: vec![("CHECKOUTD_SESSION_TTL_SECONDS", "1800")], ..Settings::default() };
    let app = TestApp::start_with(settings).await;
    let merchant = app.merchant().await;
    assert_eq!(shown(&merchant).await, (1800, true));
    merchant.put(CHECKOUT, ttl(1800)).await.expect(200);
    assert_eq!(shown(&merchant).await, (1800, false));
    app.finish().await;
}

#[tokio::test]
async fn a_wrong_value_is_named_with_its_bounds_and_changes_nothing() {
    let app = TestApp::start().await;
    let (merchant, _) = app.merchant_pair().await;
    merchant.put(CHECKOUT, ttl(300)).await.expect(200);
    for (body, expected) in [
        (json!({}), "value is required"),
        (json!({"value": null}), "value is required"),
        (json!({"value": []}), "value"),
        (json!({"value": 60}), "value"),
        (json!({"session_ttl_seconds": 60}), "value is required"),
        (json!({"value": {}}), "value.session_ttl_seconds is required"),
        (json!({"value": {"session_ttl_seconds": null}}), "value.session_ttl_seconds is required"),
        (ttl(0), "from 1 to 86400"),
        (ttl(-1), "from 1 to 86400"),
        (ttl(86_401), "from 1 to 86400"),
        (ttl(i64::MAX), "from 1 to 86400"),
        (json!({"value": {"session_ttl_seconds": 4_294_967_297_u64}}), "from 1 to 86400"),
        (json!({"value": {"session_ttl_seconds": 60.5}}), "from 1 to 86400"),
        (json!({"value": {"session_ttl_seconds": "60"}}), "from 1 to 86400"),
        (json!({"value": {"session_ttl_seconds": true}}), "from 1 to 86400"),
        (json!({"value": {"a\u{0}": 1}}), "value"),
    ] {
        let error = merchant.put(CHECKOUT, body.clone()).await.expect_error(400, "validation_error");
        assert!(error["message"].as_str().unwrap().contains(expected), "{body}: {error}");
    }
    let error = merchant.request(Method::PUT, CHECKOUT, None).await.expect_error(400, "validation_error");
    assert!(error["message"].as_str().unwrap().contains("value"), "{error}");
    assert_eq!(shown(&merchant).await, (300, false));
    // What is not known is ignored, as everywhere.
    let known = json!({"value": {"session_ttl_seconds": 400, "colour": "red"}, "key": "x"});
    let set = merchant.put(CHECKOUT, known).await.expect(200);
    assert_eq!(set["value"], json!({"session_ttl_seconds": 400}));
    app.finish().await;
}

#[tokio::test]
async fn the_invoice_settings_are_those_that_invoices_are_numbered_by() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let setting = merchant.get(INVOICE).await.expect(200);
    let value = &setting["value"];
    let expected = json!({"prefix": "INV", "format": "YYYYMM", "timezone": "UTC", "separator": "-", "start_sequence": 1, "suffix_length": 5});
    assert_eq!((&setting["key"], value), (&json!("invoice_config"), &expected));
    let session = merchant.session().await;
    app.pay_and_settle(&session).await;
    let id = merchant.read_session(&session).await["checkout_invoice_id"].as_str().unwrap().to_owned();
    let invoice = merchant.get(&format!("/v1/invoices/{id}")).await.expect(200);
    let month = app.state().clock.now().format("%Y%m").to_string();
    let number = format!(
        "{}{separator}{month}{separator}{:0width$}",
        value["prefix"].as_str().unwrap(),
        value["start_sequence"].as_u64().unwrap(),
        separator = value["separator"].as_str().unwrap(),
        width = usize::try_from(value["suffix_length"].as_u64().unwrap()).unwrap(),
    );
    assert_eq!(invoice["invoice_number"], number.as_str());
    app.finish().await;
}

#[tokio::test]
async fn settings_that_are_not_here_say_so_by_name() {
    let app = TestApp::start().await;
    let (merchant, _) = app.merchant_pair().await;
    let before = app.row_counts().await;
    let mut cases = vec![(Method::PUT, "invoice_config"), (Method::DELETE, "invoice_config")];
    for key in [
        "subscription_config",
        "invoice_pdf_config",
        "tenant_config",
        "customer_onboarding",
        "wallet_balance_alert_config",
        "payment_mandate_limits",
        "saml_config",
    ] {
        cases.extend([(Method::GET, key), (Method::PUT, key), (Method::DELETE, key)]);
    }
    for (method, key) in cases {
        for body in [None, Some(json!({"value": {"prefix": "X"}}))] {
            let reply = merchant.request(method.clone(), &format!("/v1/settings/{key}"), body).await;
            let error = reply.expect_error(501, "not_implemented");
            assert!(error["message"].as_str().unwrap().contains(key), "{error}");
        }
    }
    for key in ["colour", "CHECKOUT_CONFIG", "checkout_config%20", "%00", "%FF", "checkout-config"] {
        for (method, body) in [(Method::GET, None), (Method::PUT, Some(ttl(60))), (Method::DELETE, None)] {
            let reply = merchant.request(method, &format!("/v1/settings/{key}"), body).await;
            let error = reply.expect_error(404, "not_found");
            assert_eq!(error["details"]["reason"], "setting_not_found", "{key}");
        }
    }
    crate::support::send(merchant.builder(Method::GET, CHECKOUT)).await.expect_error(401, "unauthorized");
    assert_eq!(app.row_counts().await, before);
    app.finish().await;
}
