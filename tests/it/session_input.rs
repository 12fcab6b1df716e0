//! What `POST /v1/checkout/sessions` takes and what it refuses, field by field.

use serde_json::{Value, json};

use crate::support::{Merchant, Reply, TestApp};

pub const PATH: &str = "/v1/checkout/sessions";
pub const PARAMS: &str = "/configuration/create_subscription_params";

/// A merchant with the guide's plan and customer.
pub struct Shop {
    pub app: TestApp,
    pub merchant: Merchant,
    pub plan: String,
}

impl Shop {
    pub async fn open() -> Self {
        let app = TestApp::start().await;
        let merchant = app.merchant().await;
        let plan = merchant.plan().await;
        merchant.customer("user_12345").await;
        Self { app, merchant, plan }
    }

    pub fn request(&self) -> Value {
        Merchant::session_request(&self.plan)
    }

    /// The guide's request with `value` at `pointer`; without the member there for `None`.
    pub fn with(&self, pointer: &str, value: Option<Value>) -> Value {
        let mut request = self.request();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        let parent = request.pointer_mut(parent).unwrap().as_object_mut().unwrap();
        match value {
            Some(value) => parent.insert(name.to_owned(), value),
            None => parent.remove(name),
        };
        request
    }

    pub async fn create(&self, request: Value) -> Reply {
        self.merchant.post(PATH, request).await
    }
}

/// A 400 whose message and details name `field`.
#[track_caller]
pub fn names(reply: Reply, field: &str, shown: &str) {
    assert_eq!(reply.status, 400, "{shown}: {}", reply.text);
    let error = reply.expect_error(400, "validation_error");
    assert!(error["message"].as_str().unwrap().contains(field), "{shown}: {error}");
    assert!(error["details"][field].is_string(), "{field} {shown}: {error}");
}

#[tokio::test]
async fn each_wrong_field_is_named_and_nothing_is_left_behind() {
    let shop = Shop::open().await;
    let before = shop.app.row_counts().await;
    let long = |characters: usize| json!("é".repeat(characters));
    let many = |pairs: usize| Value::Object((0..pairs).map(|n| (format!("k{n}"), json!("v"))).collect());
    let params = |name: &str| format!("{PARAMS}/{name}");
    let bad_metadata = |value: &Value| {
        [
            json!("x"),
            json!([]),
            json!(5),
            json!({"": "v"}),
            json!({"é".repeat(41): "v"}),
            many(51),
            value.clone(),
        ]
    };
    let mut cases: Vec<(String, Option<Value>)> = Vec::new();
    let mut add = |pointer: &str, values: &[Value]| {
        cases.extend(values.iter().map(|value| (pointer.to_owned(), Some(value.clone()))));
    };
    add("/action", &[json!(""), json!("buy"), json!("CREATE_SUBSCRIPTION"), json!(1), Value::Null]);
    add("/customer_external_id", &[json!(""), long(256), json!(5), json!({}), Value::Null]);
    add("/payment_provider", &[json!(""), json!("stripe"), json!("Razorpay"), json!([]), Value::Null]);
    add("/configuration", &[json!(5), json!("x"), json!([])]);
    add(PARAMS, &[json!(5), json!("x"), json!([])]);
    add(&params("plan_id"), &[json!(""), json!(7), Value::Null]);
    add(
        &params("currency"),
        &[json!(""), json!("RUPEES"), json!("XXX"), json!("IN"), json!("₹"), json!(356), Value::Null],
    );
    add(&params("billing_period"), &[json!(""), json!("fortnightly"), json!("MONTHLY "), json!(1)]);
    add(
        &params("billing_period_count"),
        &[
            json!(0),
            json!(-1),
            json!(1.5),
            json!("1"),
            json!(4_294_967_296_i64),
            json!(u64::MAX),
            json!(1e300),
        ],
    );
    let times = [
        json!(""),
        json!("tomorrow"),
        json!("2026-12-01"),
        json!("2026-13-01T00:00:00Z"),
        json!("2026-12-01T00:00:00"),
        json!("0000-01-01T00:00:00Z"),
        json!("-0001-01-01T00:00:00Z"),
        json!("10000-01-01T00:00:00Z"),
        json!(1_795_000_000),
        json!({}),
    ];
    add(&params("start_date"), &times);
    // The last month of the calendar has no end in it.
    add(&params("start_date"), &[json!("9999-12-31T23:59:59Z")]);
    add(&params("end_date"), &times);
    // The subscription starts now: it cannot have ended before.
    add(&params("end_date"), &[json!("2001-01-01T00:00:00Z"), json!("2026-11-23T09:29:59Z")]);
    add(&params("lookup_key"), &[json!(5), long(256)]);
    add(&params("subscription_id"), &[json!("subs_1")]);
    add("/payment_provider_config/collection_method", &[json!("charge_automatically"), json!(""), json!(5)]);
    for name in ["success_url", "failure_url", "cancel_url"] {
        let pointer = format!("/{name}");
        add(
            &pointer,
            &[
                json!(""),
                json!("/welcome"),
                json!("welcome"),
                json!("//evil.example"),
                json!("https:evil.example"),
                json!("https://"),
                json!("javascript:alert(1)"),
                json!("data:text/html,x"),
                json!("ftp://a.example"),
                json!("https://user@a.example/"),
                json!("https://user:pw@a.example/"),
                json!("https://@a.example/"),
                json!(" https://a.example"),
                json!("https://a.example/ x"),
                json!("https://a.example/\r\nSet-Cookie: x"),
                json!("https://a.example/\tx"),
                json!("https://a.example\\@evil.example/"),
                json!("https://a.example:99999/"),
                json!(format!("https://a.example/{}", "x".repeat(2048))),
                json!(5),
                json!({}),
            ],
        );
    }
    add("/idempotency_key", &[json!(""), long(256), json!(5)]);
    for pointer in ["/metadata".to_owned(), params("metadata")] {
        add(&pointer, &bad_metadata(&json!({"": 5}))[..]);
    }
    for required in
        ["/action", "/customer_external_id", "/payment_provider", &params("plan_id"), &params("currency")]
    {
        cases.push((required.to_owned(), None));
    }
    for (pointer, value) in cases {
        let mut request = shop.request();
        request["payment_provider_config"] = json!({});
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        let parent = request.pointer_mut(parent).unwrap().as_object_mut().unwrap();
        match &value {
            Some(value) => parent.insert(name.to_owned(), value.clone()),
            None => parent.remove(name),
        };
        let shown =
            value.map_or("absent".into(), |value| value.to_string().chars().take(60).collect::<String>());
        names(shop.create(request).await, &pointer[1..].replace('/', "."), &format!("{pointer} {shown}"));
    }
    for (pointer, value) in [
        ("/configuration", None),
        ("/configuration", Some(Value::Null)),
        ("/configuration", Some(json!({}))),
        (PARAMS, Some(Value::Null)),
    ] {
        names(
            shop.create(shop.with(pointer, value)).await,
            "configuration.create_subscription_params",
            pointer,
        );
    }
    for value in [json!(1), json!(null), json!([]), json!({}), long(501)] {
        names(shop.create(shop.with("/metadata", Some(json!({"a.b": value})))).await, "metadata.a.b", "a.b");
    }
    let backwards = json!({"plan_id": shop.plan, "currency": "INR",
        "start_date": "2027-01-01T00:00:00Z", "end_date": "2026-12-31T23:59:59Z"});
    names(
        shop.create(shop.with(PARAMS, Some(backwards))).await,
        "configuration.create_subscription_params.end_date",
        "backwards",
    );
    assert_eq!(shop.app.row_counts().await, before);
    shop.app.finish().await;
}

#[tokio::test]
async fn every_wrong_field_is_in_one_answer() {
    let shop = Shop::open().await;
    let request = json!({"action": "buy", "customer_external_id": "", "payment_provider": "stripe", "success_url": "x",
        "idempotency_key": "", "metadata": {"a": 1}, "configuration": {"create_subscription_params":
        {"plan_id": "", "currency": "x", "billing_period": "x", "billing_period_count": 0}}});
    let error = shop.create(request).await.expect_error(400, "validation_error");
    let mut fields: Vec<_> = error["details"].as_object().unwrap().keys().map(String::as_str).collect();
    fields.sort_unstable();
    let expected = [
        "action",
        "configuration.create_subscription_params.billing_period",
        "configuration.create_subscription_params.billing_period_count",
        "configuration.create_subscription_params.currency",
        "configuration.create_subscription_params.plan_id",
        "customer_external_id",
        "idempotency_key",
        "metadata.a",
        "payment_provider",
        "success_url",
    ];
    assert_eq!(fields, expected);
    shop.app.finish().await;
}

#[tokio::test]
async fn other_actions_are_told_which_endpoint_owns_them() {
    let shop = Shop::open().await;
    for (action, owner) in [
        ("modify_subscription", "POST /v1/subscriptions/{id}/modify/execute"),
        ("wallet_topup", "POST /v1/wallets/{id}/top-up"),
        ("add_addon", "POST /v1/subscriptions/addon"),
        ("pay_invoice", "POST /v1/invoices"),
    ] {
        let error = shop
            .create(shop.with("/action", Some(json!(action))))
            .await
            .expect_error(400, "validation_error");
        assert!(error["message"].as_str().unwrap().contains(owner), "{error}");
        assert!(error["details"]["action"].is_string());
    }
    shop.app.finish().await;
}

#[tokio::test]
async fn a_customer_or_plan_that_is_not_there_is_named_and_nothing_is_left_behind() {
    let shop = Shop::open().await;
    let stranger = shop.app.merchant().await;
    let foreign_plan = stranger.plan().await;
    stranger.customer("theirs").await;
    let gone = shop.merchant.customer("gone").await;
    shop.merchant.delete(&format!("/v1/customers/{}", gone["id"].as_str().unwrap())).await;
    let archived = shop.merchant.plan().await;
    shop.merchant.delete(&format!("/v1/plans/{archived}")).await.expect(200);
    let before = shop.app.row_counts().await;
    for external_id in ["nobody", "theirs", "USER_12345", "user_12345 ", "%", "'; drop table customers; --"] {
        let reply = shop.create(shop.with("/customer_external_id", Some(json!(external_id)))).await;
        assert_eq!(
            reply.expect_error(404, "not_found")["details"]["reason"],
            "customer_not_found",
            "{external_id}"
        );
    }
    let error = shop.create(shop.with("/customer_external_id", Some(json!("gone")))).await;
    assert_eq!(error.expect_error(400, "validation_error")["details"]["reason"], "customer_archived");
    let unknown = checkoutd::kit::ids::encode("plan", sqlx::types::Uuid::nil());
    let (lower, long) = (shop.plan.to_lowercase(), "x".repeat(50_000));
    for plan in [&*unknown, &foreign_plan, &archived, &lower, "plan_pro_monthly", "%", "price_1", &long] {
        let reply = shop.create(shop.with(&format!("{PARAMS}/plan_id"), Some(json!(plan)))).await;
        assert_eq!(reply.expect_error(404, "not_found")["details"]["reason"], "plan_not_found", "{plan}");
    }
    assert_eq!(shop.app.row_counts().await, before);
    shop.app.finish().await;
}

#[tokio::test]
async fn a_plan_that_gives_nothing_to_pay_says_why() {
    let shop = Shop::open().await;
    let price = |changes: Value| vec![changes];
    let tiers = |unit: &str| json!([{"unit_amount": unit, "up_to": null}]);
    let both = vec![json!({"amount": "10"}), json!({"amount": "100", "billing_period": "ANNUAL"})];
    let max = "92233720368547758.07";
    let cases: Vec<(Vec<Value>, Value, &str, &str)> = vec![
        (vec![], json!({}), "no_matching_price", "no price"),
        (price(json!({"amount": "0"})), json!({}), "plan_zero_amount", "zero"),
        (
            price(json!({"billing_model": "TIERED", "tier_mode": "SLAB", "tiers": tiers("0")})),
            json!({}),
            "plan_zero_amount",
            "zero",
        ),
        (price(json!({"amount": "10", "invoice_cadence": "ARREAR"})), json!({}), "plan_zero_amount", "zero"),
        (
            vec![json!({"amount": "0"}), json!({"amount": "10", "invoice_cadence": "ARREAR"})],
            json!({}),
            "plan_zero_amount",
            "zero",
        ),
        (price(json!({"amount": "10"})), json!({"currency": "USD"}), "no_matching_price", "currency"),
        (
            price(json!({"amount": "10"})),
            json!({"billing_period": "annual"}),
            "no_matching_price",
            "billing period",
        ),
        (
            price(json!({"amount": "10"})),
            json!({"billing_period_count": 2}),
            "no_matching_price",
            "billing period",
        ),
        (
            price(json!({"amount": "10"})),
            json!({"billing_period_count": 4_294_967_295_u32}),
            "no_matching_price",
            "billing period",
        ),
        (price(json!({"amount": "10"})), json!({"billing_period": "onetime"}), "not_recurring", "recurring"),
        (both.clone(), json!({"billing_period": null}), "billing_period_required", "billing period"),
        (
            vec![json!({"amount": "10"}), json!({"amount": "30", "billing_period_count": 3})],
            json!({}),
            "billing_period_required",
            "billing period",
        ),
        (
            price(json!({"amount": "10", "billing_period": "ONETIME"})),
            json!({"billing_period": null}),
            "not_recurring",
            "recurring",
        ),
        (
            price(json!({"amount": "10", "billing_period": "ONETIME"})),
            json!({}),
            "no_matching_price",
            "billing period",
        ),
        (price(json!({"amount": max, "min_quantity": 2})), json!({}), "amount_too_large", "too large"),
        (
            price(json!({"amount": "0.02", "min_quantity": i64::MAX})),
            json!({}),
            "amount_too_large",
            "too large",
        ),
        (vec![json!({"amount": max}), json!({"amount": "0.01"})], json!({}), "amount_too_large", "too large"),
    ];
    for (prices, changes, reason, said) in cases {
        let plan = shop.merchant.post("/v1/plans", json!({"name": "Pro"})).await.expect(201)["id"].clone();
        for price in &prices {
            shop.merchant.add_price(plan.as_str().unwrap(), price.clone()).await;
        }
        let before = shop.app.row_counts().await;
        let mut request = shop.with(&format!("{PARAMS}/plan_id"), Some(plan));
        for (name, value) in changes.as_object().unwrap() {
            request["configuration"]["create_subscription_params"][name] = value.clone();
        }
        let reply = shop.create(request).await;
        let shown = format!("{prices:?} {changes}: {}", reply.text);
        assert_eq!(reply.status, 400, "{shown}");
        let error = reply.expect_error(400, "validation_error");
        assert_eq!(error["details"]["reason"], reason, "{shown}");
        assert!(error["message"].as_str().unwrap().contains(said), "{shown}");
        assert_eq!(shop.app.row_counts().await, before);
    }
    shop.app.finish().await;
}

#[tokio::test]
async fn the_same_wish_may_be_written_in_many_ways() {
    let shop = Shop::open().await;
    let named = shop
        .merchant
        .post("/v1/plans", json!({"name": "Pro", "lookup_key": "plan_pro_monthly"}))
        .await
        .expect(201);
    shop.merchant.add_price(named["id"].as_str().unwrap(), json!({"amount": "499"})).await;
    let params = |name: &str, value: Value| shop.with(&format!("{PARAMS}/{name}"), Some(value));
    let mut nulls = shop.request();
    for name in
        ["idempotency_key", "metadata", "failure_url", "payment_provider_config", "success_url", "cancel_url"]
    {
        nulls[name] = Value::Null;
    }
    let mut requests = vec![
        shop.request(),
        nulls,
        params("plan_id", json!("plan_pro_monthly")),
        params("plan_id", named["id"].clone()),
        shop.with(&format!("{PARAMS}/billing_period"), None),
        params("billing_period_count", json!(1)),
        params("start_date", json!("2027-01-31T00:00:00+05:30")),
        params("end_date", json!("2026-11-23T09:30:00Z")),
        params("lookup_key", json!("é".repeat(255))),
        shop.with("/unknown", Some(json!({"deep": [1, null]}))),
        shop.with(
            "/metadata",
            Some(Value::Object((0..50).map(|n| (format!("{n:040}"), json!("é".repeat(500)))).collect())),
        ),
        shop.with("/payment_provider_config", Some(json!({"collection_method": "send_invoice"}))),
        shop.with("/success_url", Some(json!("http://localhost:3000/?s={CHECKOUT_SESSION_ID}"))),
        shop.with("/success_url", Some(json!(format!("https://a.example/{}", "x".repeat(2030))))),
        shop.with("/idempotency_key", Some(json!("é".repeat(255)))),
    ];
    for period in ["monthly", "MONTHLY", "Monthly", "mOnThLy"] {
        requests.push(params("billing_period", json!(period)));
    }
    for currency in ["INR", "inr", "Inr"] {
        requests.push(params("currency", json!(currency)));
    }
    for request in requests {
        let reply = shop.create(request.clone()).await;
        assert_eq!(reply.status, 201, "{request}: {}", reply.text);
        let session = reply.json();
        assert_eq!((&session["amount"], &session["currency"]), (&json!("499"), &json!("inr")));
        assert_eq!(session["checkout_status"], "pending");
    }
    shop.app.finish().await;
}

#[tokio::test]
async fn a_live_environment_redirects_to_https_only() {
    let app = TestApp::start().await;
    let (_, live) = app.merchant_pair().await;
    for name in ["success_url", "failure_url", "cancel_url"] {
        let mut request = Merchant::session_request("plan");
        request[name] = json!("http://app.example.com/");
        names(live.post(PATH, request).await, name, "http");
    }
    // All https: the next thing that is missing is the customer.
    live.post(PATH, Merchant::session_request("plan")).await.expect_error(404, "not_found");
    app.finish().await;
}
