//! Customers, as a merchant's backend sees them.

use axum::http::Method;
use serde_json::{Value, json};

use crate::support::{Merchant, TestApp};

fn id(object: &Value) -> &str {
    object["id"].as_str().unwrap()
}

fn external_ids(page: &Value) -> Vec<&str> {
    page["items"].as_array().unwrap().iter().map(|item| item["external_id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_customer_is_made_read_changed_and_archived() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let full = json!({
        "external_id": "user_1", "name": "Jane", "email": "j@e.com", "contact": "+919999999999",
        "address_line1": "1 MG Road", "address_line2": "", "address_city": "Pune", "address_state": "MH",
        "address_postal_code": "411001", "address_country": "in", "timezone": "Asia/Kolkata",
        "tax_treatment": "exempt", "metadata": {"a": "b"}, "currency": "INR",
        "contact_persons": [{"first_name": "Ann", "email": "a@e.com", "is_primary": true}],
        "skip_onboarding_workflow": true,
    });
    let customer = merchant.post("/v1/customers", full).await.expect(201);
    assert!(id(&customer).starts_with("cust_"));
    for (field, value) in [
        ("external_id", json!("user_1")),
        ("email", json!("j@e.com")),
        ("contact", json!("+919999999999")),
        ("address_line2", Value::Null),
        ("address_country", json!("IN")),
        ("timezone", json!("Asia/Kolkata")),
        ("tax_treatment", json!("exempt")),
        ("billing_currency", json!("inr")),
        ("metadata", json!({"a": "b"})),
        ("contact_persons", json!([{"first_name": "Ann", "email": "a@e.com", "is_primary": true}])),
        ("status", json!("published")),
        ("tenant_id", json!(merchant.tenant_id)),
        ("environment_id", json!(merchant.environment_id)),
        ("created_at", json!("2026-11-23T09:30:00Z")),
    ] {
        assert_eq!(customer[field], value, "{field}");
    }
    let path = format!("/v1/customers/{}", id(&customer));
    assert_eq!(merchant.get(&path).await.expect(200), customer);
    assert_eq!(merchant.get("/v1/customers/external/user_1").await.expect(200), customer);

    app.advance(chrono::TimeDelta::seconds(1)).await;
    let by_id = merchant
        .put(&format!("/v1/customers?id={}", id(&customer)), json!({"email": "z@e.com"}))
        .await
        .expect(200);
    assert_eq!((&by_id["email"], &by_id["name"]), (&json!("z@e.com"), &json!("Jane")));
    assert_eq!(by_id["updated_at"], "2026-11-23T09:30:01Z");
    let by_external =
        merchant.put("/v1/customers?external_customer_id=user_1", json!({"name": "J2"})).await.expect(200);
    assert_eq!((&by_external["email"], &by_external["name"]), (&json!("z@e.com"), &json!("J2")));
    let by_path = merchant.put(&path, json!({"contact": "", "metadata": {"c": "d"}})).await.expect(200);
    assert_eq!((&by_path["contact"], &by_path["metadata"]), (&Value::Null, &json!({"c": "d"})));
    assert_eq!(by_path["created_at"], customer["created_at"]);

    let deleted = merchant.delete(&path).await;
    assert_eq!((deleted.status, deleted.text.as_str()), (204, ""));
    merchant.get("/v1/customers/external/user_1").await.expect_error(404, "not_found");
    assert_eq!(merchant.get(&path).await.expect(200)["status"], "archived");
    merchant.put(&path, json!({"name": "X"})).await.expect_error(404, "not_found");
    merchant.delete(&path).await.expect_error(404, "not_found");
    // Its name is free again.
    merchant.customer("user_1").await;
    app.finish().await;
}

#[tokio::test]
async fn the_guides_smallest_customer_gets_defaults() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let customer = merchant.post("/v1/customers", json!({"external_id": "e", "name": "n"})).await.expect(201);
    assert_eq!(customer["timezone"], "UTC");
    assert_eq!(customer["tax_treatment"], "taxable");
    assert_eq!(customer["metadata"], json!({}));
    assert_eq!(customer["contact_persons"], json!([]));
    assert_eq!(customer["billing_currency"], Value::Null);
    app.finish().await;
}

#[tokio::test]
async fn external_ids_are_unique_among_published_customers_of_an_environment() {
    let app = TestApp::start().await;
    let (merchant, live) = app.merchant_pair().await;
    merchant.customer("user_1").await;
    let second = merchant.customer("user_2").await;
    let body = json!({"external_id": "user_1", "name": "Jane"});
    let error = merchant.post("/v1/customers", body.clone()).await.expect_error(409, "already_exists");
    assert_eq!(error["details"]["external_id"], "user_1");
    let path = format!("/v1/customers/{}", id(&second));
    merchant.put(&path, json!({"external_id": "user_1"})).await.expect_error(409, "already_exists");
    assert_eq!(merchant.get(&path).await.expect(200)["external_id"], "user_2");
    // The live environment has names of its own.
    live.post("/v1/customers", body).await.expect(201);
    app.finish().await;
}

#[tokio::test]
async fn external_ids_may_hold_any_character_of_a_path() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    for (external_id, path) in [
        ("a/b c@d", "a/b%20c@d"),
        ("a/b", "a%2Fb"),
        ("100%", "100%25"),
        ("ü?#", "%C3%BC%3F%23"),
        ("x//y", "x//y"),
    ] {
        merchant.customer(external_id).await;
        let found = merchant.get(&format!("/v1/customers/external/{path}")).await.expect(200);
        assert_eq!(found["external_id"], external_id);
    }
    let renamed =
        merchant.put("/v1/customers?external_customer_id=a%2Fb%20c%40d", json!({"name": "New"})).await;
    assert_eq!(renamed.expect(200)["external_id"], "a/b c@d");
    for path in ["nobody", "%00", "a%00b", "%FF", ""] {
        merchant.get(&format!("/v1/customers/external/{path}")).await.expect_error(404, "not_found");
    }
    app.finish().await;
}

#[tokio::test]
async fn each_wrong_field_is_named() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let customer = merchant.customer("user_1").await;
    let path = format!("/v1/customers/{}", id(&customer));
    for (field, value) in [
        ("external_id", json!("")),
        ("external_id", json!("x".repeat(256))),
        ("external_id", json!(1)),
        ("name", json!("")),
        ("name", json!("x".repeat(256))),
        ("name", json!("a\u{0}b")),
        ("email", json!("jane")),
        ("email", json!(["j@e.com"])),
        ("contact", json!("1".repeat(21))),
        ("address_line1", json!("x".repeat(256))),
        ("address_line2", json!("x".repeat(256))),
        ("address_city", json!("x".repeat(101))),
        ("address_state", json!("x".repeat(101))),
        ("address_postal_code", json!("x".repeat(21))),
        ("address_country", json!("IND")),
        ("address_country", json!("1N")),
        ("timezone", json!("IST")),
        ("currency", json!("XXX")),
        ("billing_currency", json!("rupee")),
        ("tax_treatment", json!("none")),
        ("metadata", json!([])),
        ("metadata", json!((0..51).map(|n| (n.to_string(), json!(""))).collect::<serde_json::Map<_, _>>())),
        ("metadata.k", json!({"k": 1})),
        ("metadata.k", json!({"k": "v".repeat(501)})),
        ("metadata", json!({"k".repeat(41): "v"})),
        ("contact_persons[0].first_name", json!([{}])),
        ("contact_persons[0].email", json!([{"first_name": "A", "email": "a"}])),
    ] {
        let name = field.split(['.', '[']).next().unwrap();
        let mut create = json!({"external_id": "e", "name": "n"});
        create[name] = value.clone();
        let error = merchant.post("/v1/customers", create).await.expect_error(400, "validation_error");
        assert!(!error["details"][field].is_null(), "{field}: {error}");
        let error = merchant.put(&path, json!({name: value})).await.expect_error(400, "validation_error");
        assert!(!error["details"][field].is_null(), "{field}: {error}");
    }
    let error = merchant.post("/v1/customers", json!({})).await.expect_error(400, "validation_error");
    assert_eq!(error["details"], json!({"external_id": "is required", "name": "is required"}));
    merchant.put("/v1/customers", json!({"name": "x"})).await.expect_error(400, "validation_error");
    assert_eq!(merchant.get(&path).await.expect(200), customer);
    app.finish().await;
}

#[tokio::test]
async fn a_customer_with_a_subscription_cannot_be_deleted() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let session = merchant.session().await;
    let path = format!("/v1/customers/{}", session["customer_id"].as_str().unwrap());
    merchant.delete(&path).await.expect_error(400, "invalid_operation");
    assert_eq!(merchant.get(&path).await.expect(200)["status"], "published");
    merchant.post_empty(&format!("/v1/checkout/sessions/{}/cancel", id(&session))).await.expect(200);
    merchant.delete(&path).await.expect(204);
    app.finish().await;
}

#[tokio::test]
async fn another_tenants_and_malformed_ids_do_not_exist() {
    let app = TestApp::start().await;
    let (merchant, live) = app.merchant_pair().await;
    let stranger = app.merchant().await;
    let customer = merchant.customer("user_1").await;
    let own = id(&customer);
    let malformed = [
        "cust_1".to_owned(),
        own.to_lowercase(),
        own.replace("cust_", "plan_"),
        format!("{own}0"),
        "%00".into(),
    ];
    let mut tries: Vec<(&Merchant, String)> = vec![(&stranger, own.to_owned()), (&live, own.to_owned())];
    tries.extend(malformed.into_iter().map(|id| (&merchant, id)));
    let mut answers = Vec::new();
    for (caller, id) in tries {
        let path = format!("/v1/customers/{id}");
        for (method, body) in
            [(Method::GET, None), (Method::PUT, Some(json!({"name": "x"}))), (Method::DELETE, None)]
        {
            answers.push(caller.request(method, &path, body).await.expect_error(404, "not_found"));
        }
        if id != "%00" {
            let by_query = caller.put(&format!("/v1/customers?id={id}"), json!({"name": "x"})).await;
            answers.push(by_query.expect_error(404, "not_found"));
        }
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "foreign and absent must look alike: {answers:?}");
    stranger.get("/v1/customers/external/user_1").await.expect_error(404, "not_found");
    stranger
        .put("/v1/customers?external_customer_id=user_1", json!({"name": "x"}))
        .await
        .expect_error(404, "not_found");
    let found = stranger.post("/v1/customers/search", json!({"customer_ids": [own]})).await.expect(200);
    assert_eq!(found["items"], json!([]));
    assert_eq!(merchant.get(&format!("/v1/customers/{own}")).await.expect(200), customer);
    app.finish().await;
}

#[tokio::test]
async fn hostile_bodies_are_refused_without_a_trace() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let deep = format!(
        "{{\"external_id\":\"e\",\"name\":\"n\",\"x\":{}{}}}",
        "[".repeat(100_000 / 2),
        "]".repeat(100_000 / 2)
    );
    let large = format!("{{\"external_id\":\"e\",\"name\":\"{}\"}}", "n".repeat(70_000));
    let nested =
        format!("{{\"external_id\":\"e\",\"name\":\"n\",\"x\":{}{}}}", "[".repeat(1000), "]".repeat(1000));
    for path in ["/v1/customers", "/v1/customers/search"] {
        for (body, status) in [
            (deep.as_str(), 413),
            (&large, 413),
            (&nested, 400),
            ("{\"external_id\":\"e\"", 400),
            ("[]", 400),
            ("null", 400),
            ("\"text\"", 400),
            ("{\"name\":\"\\ud800\"}", 400),
            ("{\"metadata\":{\"a\\u0000\":\"b\"}}", 400),
            ("{\"name\":1e400}", 400),
        ] {
            let reply = merchant.post_raw(path, "application/json", body.to_owned()).await;
            let shown: String = body.chars().take(60).collect();
            assert_eq!(reply.status, status, "{path} {shown}: {}", reply.text);
            reply.expect_error(status, "validation_error");
        }
        merchant.post_raw(path, "text/plain", "{}").await.expect_error(415, "validation_error");
        merchant
            .post_raw(path, "application/json", vec![0xff, 0xfe])
            .await
            .expect_error(400, "validation_error");
    }
    let all = merchant.post("/v1/customers/search", json!({})).await.expect(200);
    assert_eq!(all["pagination"]["total"], 0);
    app.finish().await;
}

#[tokio::test]
async fn customers_are_searched_filtered_sorted_and_paged() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let mut made = Vec::new();
    for (external_id, name) in [("a", "Jane"), ("b", "John 50% off"), ("c", "Ann_e"), ("d", "Jill")] {
        let body = json!({"external_id": external_id, "name": name, "email": format!("{external_id}@e.com"), "metadata": {"k": external_id, "all": "1"}});
        made.push(merchant.post("/v1/customers", body).await.expect(201));
        app.advance(chrono::TimeDelta::minutes(1)).await;
    }
    merchant.delete(&format!("/v1/customers/{}", id(&made[3]))).await.expect(204);
    let text = |operator: &str, value: &str| json!({"filters": [{"field": "name", "operator": operator, "data_type": "string", "value": {"string": value}}]});
    for (body, expected) in [
        (json!({}), vec!["c", "b", "a"]),
        (json!({"order": "asc"}), vec!["a", "b", "c"]),
        (json!({"status": "archived"}), vec!["d"]),
        (json!({"external_id": "a"}), vec!["a"]),
        (json!({"external_ids": ["a", "c", "zz"]}), vec!["c", "a"]),
        (json!({"customer_ids": [id(&made[1]), "nonsense"]}), vec!["b"]),
        (json!({"customer_ids": ["nonsense"]}), vec![]),
        (json!({"customer_ids": []}), vec!["c", "b", "a"]),
        (json!({"email": "b@e.com"}), vec!["b"]),
        (json!({"metadata": {"k": "c"}}), vec!["c"]),
        (json!({"metadata": {"all": "1"}}), vec!["c", "b", "a"]),
        (json!({"sort": [{"field": "name", "direction": "asc"}]}), vec!["c", "a", "b"]),
        (json!({"sort": "name", "order": "desc"}), vec!["b", "a", "c"]),
        (json!({"start_time": made[1]["created_at"]}), vec!["c", "b"]),
        (json!({"end_time": made[1]["created_at"]}), vec!["b", "a"]),
        (text("contains", "J"), vec!["b", "a"]),
        (text("contains", "50%"), vec!["b"]),
        (text("contains", "n_e"), vec!["c"]),
        (text("contains", "_"), vec!["c"]),
        (text("not_contains", "j"), vec!["c"]),
        (text("eq", "Jane"), vec!["a"]),
        (
            json!({"filters": [{"field": "name", "operator": "not_in", "value": {"array": ["Jane"]}}]}),
            vec!["c", "b"],
        ),
        (
            json!({"filters": [{"field": "id", "operator": "in", "value": {"array": [id(&made[0])]}}]}),
            vec!["a"],
        ),
        (
            json!({"filters": [{"field": "created_at", "operator": "after", "data_type": "date", "value": {"date": made[0]["created_at"]}}]}),
            vec!["c", "b"],
        ),
        (text("eq", "'; drop table customers; --"), vec![]),
    ] {
        let page = merchant.post("/v1/customers/search", body.clone()).await.expect(200);
        assert_eq!(external_ids(&page), expected, "{body}");
        assert_eq!(page["pagination"], json!({"total": expected.len(), "limit": 50, "offset": 0}), "{body}");
    }
    for (limit, offset, expected) in
        [(2, 0, vec!["c", "b"]), (2, 2, vec!["a"]), (3, 0, vec!["c", "b", "a"]), (2, 4, vec![])]
    {
        let page = merchant
            .post("/v1/customers/search", json!({"limit": limit, "offset": offset}))
            .await
            .expect(200);
        assert_eq!(external_ids(&page), expected);
        assert_eq!(page["pagination"], json!({"total": 3, "limit": limit, "offset": offset}));
    }
    for (body, field) in [
        (json!({"limit": 0}), "limit"),
        (json!({"limit": "many"}), "limit"),
        (json!({"offset": -1}), "offset"),
        (json!({"status": "gone"}), "status"),
        (json!({"sort": [{"field": "password", "direction": "asc"}]}), "sort[0].field"),
        (
            json!({"filters": [{"field": "timezone", "operator": "eq", "value": {"string": "x"}}]}),
            "filters[0].field",
        ),
        (
            json!({"filters": [{"field": "name", "operator": "regex", "value": {"string": "x"}}]}),
            "filters[0].operator",
        ),
        (json!({"filters": [{"field": "name", "operator": "eq", "value": {}}]}), "filters[0].value.string"),
        (json!({"start_time": "2026"}), "start_time"),
        (json!({"customer_ids": [1]}), "customer_ids"),
    ] {
        let error = merchant.post("/v1/customers/search", body).await.expect_error(400, "validation_error");
        assert!(!error["details"][field].is_null(), "{field}: {error}");
    }
    app.finish().await;
}
