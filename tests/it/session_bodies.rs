//! `/v1/checkout/sessions` byte by byte: bodies, ids in the path, query strings.

use axum::http::Method;
use futures::stream;
use serde_json::{Value, json};

use crate::{
    session_input::{PARAMS, PATH, Shop, names},
    support::send,
};

impl Shop {
    async fn create_raw(&self, content_type: &str, body: impl Into<reqwest::Body>) -> crate::support::Reply {
        self.merchant.post_raw(PATH, content_type, body).await
    }
}

#[tokio::test]
async fn bodies_that_are_no_json_object_are_refused_and_leave_nothing() {
    let shop = Shop::open().await;
    let before = shop.app.row_counts().await;
    let text = shop.request().to_string();
    let json = "application/json";
    let malformed: Vec<Vec<u8>> = vec![
        b"{".into(),
        b"nonsense".into(),
        b"{'action': 1}".into(),
        b" ".into(),
        b"{}x".into(),
        b"\0".into(),
        text.as_bytes()[..text.len() - 1].into(),
        format!("{text}{text}").into(),
        format!("\u{feff}{text}").into(),
        text.replace("user_12345", r"\ud800").into(),
        text.replace("user_12345", "\u{1}").into(),
        [text.as_bytes(), b"\xff"].concat(),
        b"{\"action\":\"\xff\"}".into(),
        "[".repeat(60_000).into(),
        format!("{{\"metadata\":{}{}}}", "[".repeat(200), "]".repeat(200)).into(),
        format!("{{\"x\":{}1{}}}", "{\"a\":".repeat(5_000), "}".repeat(5_000)).into(),
        b"{\"metadata\": 1e400}".into(),
    ];
    for body in malformed {
        let shown = String::from_utf8_lossy(&body[..body.len().min(80)]).into_owned();
        let reply = shop.create_raw(json, body).await;
        assert_eq!(reply.status, 400, "{shown}: {}", reply.text);
        let error = reply.expect_error(400, "validation_error");
        assert_eq!(error["details"]["reason"], "malformed_json", "{shown}");
    }
    let positional =
        format!(r#"["create_subscription","user_12345","razorpay",{}]"#, shop.request()["configuration"]);
    for body in ["[]", "null", "5", "\"x\"", "true", &positional, &format!("[{text}]")] {
        let error = shop.create_raw(json, body.to_owned()).await.expect_error(400, "validation_error");
        assert_eq!(error["message"], "body must be a JSON object", "{body}");
    }
    for body in ["", "{}"] {
        names(shop.create_raw(json, body).await, "action", body);
    }
    names(shop.merchant.post_empty(PATH).await, "action", "no body");
    for content_type in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "application/xml",
        "json",
        "",
    ] {
        shop.create_raw(content_type, text.clone()).await.expect_error(415, "validation_error");
    }
    let padded = |bytes: usize| format!("{text}{}", " ".repeat(bytes - text.len()));
    shop.create_raw(json, padded(64 * 1024 + 1)).await.expect_error(413, "validation_error");
    let chunks = (0..100).map(|_| Ok::<_, std::io::Error>(" ".repeat(1024)));
    let chunked = reqwest::Body::wrap_stream(stream::iter(chunks));
    shop.create_raw(json, chunked).await.expect_error(413, "validation_error");
    assert_eq!(shop.app.row_counts().await, before);
    shop.create_raw(json, padded(64 * 1024)).await.expect(201);
    shop.app.finish().await;
}

#[tokio::test]
async fn json_in_every_dress_is_taken() {
    let shop = Shop::open().await;
    let text = shop.request().to_string();
    for content_type in [
        "application/json",
        "application/json; charset=utf-8",
        "APPLICATION/JSON",
        "application/vnd.api+json",
    ] {
        shop.create_raw(content_type, text.clone()).await.expect(201);
    }
    let bare = shop.merchant.builder(Method::POST, PATH).header("x-api-key", &shop.merchant.api_key);
    send(bare.body(text.clone())).await.expect(201);
    let chunked = reqwest::Body::wrap_stream(stream::iter([Ok::<_, std::io::Error>(text.clone())]));
    shop.create_raw("application/json", chunked).await.expect(201);
    shop.merchant
        .post_raw(&format!("{PATH}?utm_source=x&wait=abc"), "application/json", text.clone())
        .await
        .expect(201);
    // RFC 8259 leaves a repeated name open; here the last one counts, checks included.
    let twice = |first: &str, second: &str| {
        let both = format!(r#""action":"{first}","action":"{second}""#);
        text.replace(r#""action":"create_subscription""#, &both)
    };
    shop.create_raw("application/json", twice("buy", "create_subscription")).await.expect(201);
    names(shop.create_raw("application/json", twice("create_subscription", "buy")).await, "action", "twice");
    shop.app.finish().await;
}

#[tokio::test]
async fn the_character_nul_is_refused_wherever_it_stands() {
    let shop = Shop::open().await;
    let before = shop.app.row_counts().await;
    let params = |name: &str| format!("{PARAMS}/{name}");
    for pointer in [
        "/action",
        "/customer_external_id",
        "/payment_provider",
        "/success_url",
        "/idempotency_key",
        "/unknown",
        &params("plan_id"),
        &params("currency"),
        &params("lookup_key"),
        &params("start_date"),
    ] {
        let reply = shop.create(shop.with(pointer, Some(json!("a\0b")))).await;
        names(reply, &pointer[1..].replace('/', "."), pointer);
    }
    for (value, field) in [
        (json!({"a": "\0"}), "metadata.a"),
        (json!({"a\0": "b"}), "metadata.a\\u0000"),
        (json!({"a": ["x", {"b": "\0"}]}), "metadata.a.1.b"),
    ] {
        names(shop.create(shop.with("/metadata", Some(value))).await, field, field);
    }
    assert_eq!(shop.app.row_counts().await, before);
    shop.app.finish().await;
}

#[tokio::test]
async fn cancel_takes_any_body_or_none() {
    let shop = Shop::open().await;
    let bodies: [(&str, &str); 5] = [
        ("", ""),
        ("text/plain", "x"),
        ("application/json", "{"),
        ("application/json", "{}"),
        ("application/json", "null"),
    ];
    for (content_type, body) in bodies {
        let session = shop.create(shop.request()).await.expect(201);
        let path = format!("{PATH}/{}/cancel", session["id"].as_str().unwrap());
        let reply = if content_type.is_empty() {
            shop.merchant.post_empty(&path).await
        } else {
            shop.merchant.post_raw(&path, content_type, body).await
        };
        assert_eq!(reply.expect(200)["checkout_status"], "expired");
    }
    shop.app.finish().await;
}

#[tokio::test]
async fn malformed_unknown_and_foreign_sessions_are_the_same_404() {
    let shop = Shop::open().await;
    let stranger = shop.app.merchant().await;
    let theirs = stranger.session().await;
    let mine = shop.create(shop.request()).await.expect(201);
    let id = mine["id"].as_str().unwrap();
    let unknown = checkoutd::kit::ids::encode("chk", sqlx::types::Uuid::nil());
    let merchant = &shop.merchant;
    let answers = async |id: &str| {
        let path = format!("{PATH}/{id}");
        let cancel = format!("{path}/cancel");
        let replies =
            [merchant.get(&path).await, merchant.delete(&path).await, merchant.post_empty(&cancel).await];
        replies.map(|mut reply| {
            reply.headers.remove("x-request-id");
            reply.headers.remove("date");
            (reply.status, format!("{:?}", reply.headers), reply.text)
        })
    };
    let expected = answers(&unknown).await;
    for (status, _, text) in &expected {
        let body: Value = serde_json::from_str(text).unwrap();
        assert_eq!((*status, &body["details"]["reason"]), (404, &json!("checkout_session_not_found")));
    }
    for id in [
        theirs["id"].as_str().unwrap(),
        "nonsense",
        "%00",
        "%ff",
        "..%2fx",
        "chk_",
        &id[..29],
        &format!("{id}0"),
        &id.to_lowercase(),
        &id.replace("chk_", "inv_"),
        mine["checkout_invoice_id"].as_str().unwrap(),
        "9".repeat(2000).as_str(),
    ] {
        assert_eq!(answers(id).await, expected, "{id}");
    }
    assert_eq!(stranger.read_session(&theirs).await["checkout_status"], "pending");
    shop.app.finish().await;
}

#[tokio::test]
async fn query_parameters_are_checked_by_name_and_unknown_ones_ignored() {
    let shop = Shop::open().await;
    let session = shop.create(shop.request()).await.expect(201);
    let one = format!("{PATH}/{}", session["id"].as_str().unwrap());
    for wait in ["abc", "31", "-1", "1.5", "", "%2000", "99999999999999999999999"] {
        names(shop.merchant.get(&format!("{one}?wait={wait}")).await, "wait", wait);
    }
    for query in ["?wait=0", "?utm_source=x", "?", "?x=%zz&&=&wait=0"] {
        shop.merchant.get(&format!("{one}{query}")).await.expect(200);
    }
    for (query, field) in [
        ("status=bogus", "status"),
        ("status=", "status"),
        ("status=PENDING", "status"),
        ("checkout_status=paid", "checkout_status"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=-1", "limit"),
        ("limit=abc", "limit"),
        ("limit=1e3", "limit"),
        ("limit=9223372036854775808", "limit"),
        ("offset=-1", "offset"),
        ("offset=x", "offset"),
        ("start_time=yesterday", "start_time"),
        ("end_time=2026-01-01", "end_time"),
        ("start_time=0000-01-01T00:00:00Z", "start_time"),
        ("limit=1&limit=2", "limit"),
    ] {
        names(shop.merchant.get(&format!("{PATH}?{query}")).await, field, query);
    }
    names(shop.merchant.get(&format!("{PATH}?customer_external_id=%00")).await, "query", "NUL");
    let customer = session["customer_id"].as_str().unwrap();
    for (query, found) in [
        (String::new(), 1),
        ("?x=y".into(), 1),
        ("?status=pending".into(), 1),
        ("?status=expired".into(), 0),
        (format!("?customer_id={customer}"), 1),
        ("?customer_id=nonsense".into(), 0),
        ("?customer_external_id=user_12345".into(), 1),
        ("?customer_external_id=nobody".into(), 0),
        ("?customer_external_id=%ff".into(), 0),
        ("?offset=9223372036854775807".into(), 0),
        ("?limit=1000&offset=1".into(), 0),
        ("?start_time=2026-11-23T09:30:00Z".into(), 1),
        ("?start_time=9999-12-31T23:59:59Z".into(), 0),
        ("?end_time=0001-01-01T00:00:00Z".into(), 0),
    ] {
        let list = shop.merchant.get(&format!("{PATH}{query}")).await.expect(200);
        assert_eq!(list["items"].as_array().unwrap().len(), found, "{query}");
    }
    shop.app.finish().await;
}
