//! What a merchant reads of a session's subscription, invoice and payment: shapes, searches, and what is hidden.

use checkoutd::sandbox::{PayOutcome, PayRequest};
use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::support::{Merchant, Reply, TestApp};

/// The paths of what a session drafted.
struct Drafts {
    subscription: String,
    invoice: String,
    payment: String,
}

impl Drafts {
    fn of(session: &Value) -> Self {
        Self {
            subscription: format!("/v1/subscriptions/{}", text(&session["checkout_subscription_id"])),
            invoice: format!("/v1/invoices/{}", text(&session["checkout_invoice_id"])),
            payment: format!("/v1/payments/{}", text(&session["checkout_payment_id"])),
        }
    }

    fn paths(&self) -> [&str; 3] {
        [&self.subscription, &self.invoice, &self.payment]
    }
}

const LISTS: [&str; 3] = ["/v1/subscriptions/search", "/v1/invoices/search", "/v1/payments"];

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("not a string: {value}"))
}

/// Every member of `expected` is in `actual`, the same.
#[track_caller]
fn assert_has(actual: &Value, expected: &Value) {
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&actual[name], value, "{name} of {actual:#}");
    }
}

/// A search by POST, or a list by GET where `request` is a query string.
async fn list(merchant: &Merchant, path: &str, request: &Value) -> Reply {
    match request {
        Value::String(query) => merchant.get(&format!("{path}?{query}")).await,
        body => merchant.post(path, body.clone()).await,
    }
}

async fn ids(merchant: &Merchant, path: &str, request: &Value) -> Vec<String> {
    let page = list(merchant, path, request).await.expect(200);
    page["items"].as_array().unwrap().iter().map(|item| text(&item["id"]).to_owned()).collect()
}

/// A pending session of this customer, who is made when missing, for a plan with this price.
async fn session_of(merchant: &Merchant, external_id: &str, price: Value) -> Value {
    if merchant.get(&format!("/v1/customers/external/{external_id}")).await.status != 200 {
        merchant.customer(external_id).await;
    }
    let plan = merchant.plan_with(price.clone()).await;
    let mut request = Merchant::session_request(&plan);
    request["customer_external_id"] = external_id.into();
    let params = &mut request["configuration"]["create_subscription_params"];
    params["currency"] = price["currency"].clone();
    params["billing_period"] = price["billing_period"].clone();
    merchant.post("/v1/checkout/sessions", request).await.expect(201)
}

#[tokio::test]
async fn a_pending_session_has_a_draft_subscription() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let session = merchant.session().await;
    let subscription = merchant.get(&Drafts::of(&session).subscription).await.expect(200);
    assert_has(
        &subscription,
        &json!({
            "id": session["checkout_subscription_id"], "customer_id": session["customer_id"],
            "subscription_status": "draft", "status": "published", "currency": "inr", "billing_period": "MONTHLY",
            "billing_period_count": 1, "billing_cadence": "RECURRING", "billing_cycle": "anniversary",
            "billing_anchor": "2026-11-23T09:30:00Z", "start_date": "2026-11-23T09:30:00Z", "end_date": null,
            "current_period_start": "2026-11-23T09:30:00Z", "current_period_end": "2026-12-23T09:30:00Z",
            "activated_at": null, "cancel_at_period_end": false, "collection_method": "send_invoice",
            "invoicing_customer_id": session["customer_id"], "pause_status": "none", "proration_behavior": "none",
            "subscription_type": "standalone", "timezone": "UTC", "version": 1, "lookup_key": null, "metadata": {},
            "tenant_id": merchant.tenant_id, "environment_id": merchant.environment_id,
            "created_at": "2026-11-23T09:30:00Z", "updated_at": "2026-11-23T09:30:00Z",
        }),
    );
    let lines = subscription["line_items"].as_array().unwrap();
    assert_eq!(lines.len(), 1);
    assert_has(
        &lines[0],
        &json!({
            "subscription_id": subscription["id"], "customer_id": session["customer_id"], "price_type": "FIXED",
            "quantity": "1", "currency": "inr", "invoice_cadence": "ADVANCE", "billing_period": "MONTHLY",
            "billing_period_count": 1, "entity_type": "plan", "entity_id": subscription["plan_id"],
            "display_name": "Pro", "plan_display_name": "Pro", "status": "published", "end_date": null,
        }),
    );
    assert!(text(&lines[0]["id"]).starts_with("subs_line_"));
    assert_has(&lines[0]["price"], &json!({"id": lines[0]["price_id"], "amount": "499", "currency": "inr"}));
    assert_has(&subscription["plan"], &json!({"id": subscription["plan_id"], "name": "Pro"}));
    assert_has(
        &subscription["customer"],
        &json!({"id": session["customer_id"], "external_id": "user_12345", "name": "Jane Smith"}),
    );
    app.finish().await;
}

#[tokio::test]
async fn a_pending_session_has_a_draft_invoice_without_a_number() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let session = session_of(
        &merchant,
        "user_12345",
        json!({"amount": "10.25", "currency": "INR", "billing_period": "ANNUAL", "min_quantity": 3}),
    )
    .await;
    let invoice = merchant.get(&Drafts::of(&session).invoice).await.expect(200);
    assert_has(
        &invoice,
        &json!({
            "id": session["checkout_invoice_id"], "customer_id": session["customer_id"],
            "subscription_id": session["checkout_subscription_id"], "invoice_type": "SUBSCRIPTION",
            "invoice_status": "DRAFT", "payment_status": "PENDING", "currency": "inr", "subtotal": "30.75",
            "total_discount": "0", "total_tax": "0", "total_prepaid_credits_applied": "0", "total": "30.75",
            "amount_due": "30.75", "amount_paid": "0", "amount_remaining": "30.75", "overpaid_amount": "0",
            "refunded_amount": "0", "adjustment_amount": "0", "invoice_number": null,
            "billing_reason": "SUBSCRIPTION_CREATE", "billing_period": "ANNUAL",
            "period_start": "2026-11-23T09:30:00Z", "period_end": "2027-11-23T09:30:00Z", "finalized_at": null,
            "paid_at": null, "issue_date": "2026-11-23T09:30:00Z", "taxes": [], "coupon_applications": [], "source_type": "checkout", "version": 1, "metadata": {}, "status": "published",
            "tenant_id": merchant.tenant_id, "environment_id": merchant.environment_id,
            "created_at": "2026-11-23T09:30:00Z", "updated_at": "2026-11-23T09:30:00Z",
        }),
    );
    assert_eq!(invoice["customer"]["external_id"], "user_12345");
    let lines = invoice["line_items"].as_array().unwrap();
    assert_eq!(lines.len(), 1);
    assert_has(
        &lines[0],
        &json!({
            "invoice_id": invoice["id"], "subscription_id": invoice["subscription_id"], "price_type": "FIXED",
            "display_name": "Pro", "plan_display_name": "Pro", "quantity": "3", "amount": "30.75", "currency": "inr",
            "line_item_discount": "0", "period_start": "2026-11-23T09:30:00Z", "period_end": "2027-11-23T09:30:00Z",
        }),
    );
    let subscription = merchant.get(&Drafts::of(&session).subscription).await.expect(200);
    assert_eq!(lines[0]["subscription_line_item_id"], subscription["line_items"][0]["id"]);
    assert_eq!(lines[0]["price_id"], subscription["line_items"][0]["price_id"]);
    app.finish().await;
}

#[tokio::test]
async fn lines_come_in_the_order_of_the_plans_prices_and_only_charges_are_invoiced() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    merchant.customer("user_12345").await;
    let plan = merchant.plan().await;
    for (name, price) in [
        ("Setup", json!({"amount": "100", "billing_period": "ONETIME"})),
        ("Usage fee", json!({"amount": "1", "invoice_cadence": "ARREAR"})),
        ("Seats", json!({"amount": "50"})),
    ] {
        app.clock().advance(TimeDelta::seconds(1));
        let mut price = price;
        price["display_name"] = name.into();
        merchant.add_price(&plan, price).await;
    }
    let session = merchant.post("/v1/checkout/sessions", Merchant::session_request(&plan)).await.expect(201);
    let drafts = Drafts::of(&session);
    let names = |object: &Value| -> Vec<String> {
        let lines = object["line_items"].as_array().unwrap();
        lines.iter().map(|line| text(&line["display_name"]).to_owned()).collect()
    };
    let subscription = merchant.get(&drafts.subscription).await.expect(200);
    assert_eq!(names(&subscription), ["Pro", "Setup", "Usage fee", "Seats"]);
    assert_eq!(subscription["line_items"][2]["invoice_cadence"], "ARREAR");
    let invoice = merchant.get(&drafts.invoice).await.expect(200);
    assert_eq!(names(&invoice), ["Pro", "Setup", "Seats"]);
    assert_eq!(invoice["total"], "649");
    app.finish().await;
}

#[tokio::test]
async fn a_pending_session_has_a_payment_with_its_link() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let session = merchant.session().await;
    let payment = merchant.get(&Drafts::of(&session).payment).await.expect(200);
    let link = app.sandbox.ledger().links[0].id.clone();
    assert_has(
        &payment,
        &json!({
            "id": session["checkout_payment_id"], "amount": "499", "currency": "inr", "destination_type": "INVOICE",
            "destination_id": session["checkout_invoice_id"], "invoice_number": null,
            "payment_method_type": "PAYMENT_LINK", "payment_status": "INITIATED", "payment_gateway": "razorpay",
            "gateway_payment_id": null, "gateway_tracking_id": link, "gateway_metadata": {},
            "payment_url": session["payment_action"]["url"], "track_attempts": true, "attempts": [],
            "error_message": null, "succeeded_at": null, "failed_at": null, "metadata": {}, "status": "published",
            "tenant_id": merchant.tenant_id, "environment_id": merchant.environment_id,
            "created_at": "2026-11-23T09:30:00Z", "updated_at": "2026-11-23T09:30:00Z",
        }),
    );
    app.finish().await;
}

#[tokio::test]
async fn payment_makes_them_active_final_and_succeeded() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let session = merchant.session().await;
    let drafts = Drafts::of(&session);

    let declined = PayRequest { outcome: PayOutcome::Failure, ..PayRequest::default() };
    let declined = app.sandbox.pay(text(&session["id"]), declined).unwrap();
    app.sandbox.flush_webhooks().await;
    app.drain().await;
    let payment = merchant.get(&drafts.payment).await.expect(200);
    assert_eq!(payment["payment_status"], "INITIATED");
    let reason = text(&payment["error_message"]);
    assert_eq!(payment["attempts"].as_array().unwrap().len(), 1);
    assert_has(
        &payment["attempts"][0],
        &json!({
            "payment_id": payment["id"], "attempt_number": 1, "payment_status": "FAILED",
            "gateway_payment_id": declined.payment_id, "error_message": reason,
        }),
    );

    app.clock().advance(TimeDelta::seconds(90));
    let paid = app.pay_and_settle(&session).await;
    let at = "2026-11-23T09:31:30Z";
    let subscription = merchant.get(&drafts.subscription).await.expect(200);
    assert_has(
        &subscription,
        &json!({
            "subscription_status": "active", "status": "published", "activated_at": at, "version": 2,
            "start_date": "2026-11-23T09:30:00Z", "current_period_start": "2026-11-23T09:30:00Z",
            "current_period_end": "2026-12-23T09:30:00Z", "updated_at": at,
        }),
    );
    let invoice = merchant.get(&drafts.invoice).await.expect(200);
    assert_has(
        &invoice,
        &json!({
            "invoice_status": "FINALIZED", "payment_status": "SUCCEEDED", "invoice_number": "INV-202611-00001",
            "total": "499", "amount_due": "499", "amount_paid": "499", "amount_remaining": "0", "finalized_at": at,
            "paid_at": at, "version": 2, "status": "published",
        }),
    );
    let payment = merchant.get(&drafts.payment).await.expect(200);
    assert_has(
        &payment,
        &json!({
            "payment_status": "SUCCEEDED", "gateway_payment_id": paid.payment_id, "gateway_tracking_id": paid.link_id,
            "succeeded_at": at, "error_message": null, "invoice_number": "INV-202611-00001", "status": "published",
        }),
    );
    let attempts = payment["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 2);
    assert_has(&attempts[0], &json!({"attempt_number": 1, "payment_status": "FAILED"}));
    assert_has(
        &attempts[1],
        &json!({
            "attempt_number": 2, "payment_status": "SUCCEEDED", "gateway_payment_id": paid.payment_id,
            "error_message": null, "created_at": at,
        }),
    );
    assert!(text(&attempts[1]["id"]).starts_with("attempt_"));
    app.finish().await;
}

#[tokio::test]
async fn drafts_of_a_cancelled_session_are_archived_hidden_from_lists_and_still_read() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let session = merchant.session().await;
    let drafts = Drafts::of(&session);
    merchant.post_empty(&format!("/v1/checkout/sessions/{}/cancel", text(&session["id"]))).await.expect(200);
    app.drain().await;
    for (path, status_field, status) in [
        (&drafts.subscription, "subscription_status", "draft"),
        (&drafts.invoice, "invoice_status", "DRAFT"),
        (&drafts.payment, "payment_status", "INITIATED"),
    ] {
        let object = merchant.get(path).await.expect(200);
        assert_has(&object, &json!({"status": "archived", status_field: status}));
        if path != &drafts.payment {
            assert_eq!(object["line_items"][0]["status"], "archived");
        }
    }
    for (path, archived) in LISTS.into_iter().zip(drafts.paths()) {
        let (published, hidden) = if path == "/v1/payments" {
            (json!("limit=10"), json!("status=archived"))
        } else {
            (json!({}), json!({"status": "archived"}))
        };
        assert_eq!(ids(&merchant, path, &published).await, Vec::<String>::new(), "{path}");
        let hidden = ids(&merchant, path, &hidden).await;
        assert_eq!(hidden.len(), 1, "{path}");
        assert!(archived.ends_with(&hidden[0]), "{path}");
    }
    app.finish().await;
}

/// Three sessions a minute apart: of Jane for INR 499 a month, paid; of Kai for JPY 5000 a year; of Kai for
/// KWD 1.23 a month. Newest first, as lists have them.
struct Three {
    app: TestApp,
    merchant: Merchant,
    kwd: Value,
    jpy: Value,
    inr: Value,
}

impl Three {
    async fn start() -> Self {
        let app = TestApp::start().await;
        let merchant = app.merchant().await;
        let inr = json!({"amount": "499", "currency": "INR", "billing_period": "MONTHLY"});
        let inr = session_of(&merchant, "user_jane", inr).await;
        app.pay_and_settle(&inr).await;
        app.clock().advance(TimeDelta::minutes(1));
        let jpy = json!({"amount": "5000", "currency": "JPY", "billing_period": "ANNUAL"});
        let jpy = session_of(&merchant, "user_kai", jpy).await;
        app.clock().advance(TimeDelta::minutes(1));
        let kwd = json!({"amount": "1.23", "currency": "KWD", "billing_period": "MONTHLY"});
        let kwd = session_of(&merchant, "user_kai", kwd).await;
        Self { app, merchant, kwd, jpy, inr }
    }

    /// Each request finds exactly those objects, in that order; and the total counts them.
    async fn check(&self, path: &str, id_field: &str, cases: Vec<(Value, Vec<&Value>)>) {
        for (request, expected) in cases {
            let page = list(&self.merchant, path, &request).await.expect(200);
            let found: Vec<&Value> =
                page["items"].as_array().unwrap().iter().map(|item| &item["id"]).collect();
            let expected: Vec<&Value> = expected.into_iter().map(|session| &session[id_field]).collect();
            assert_eq!(found, expected, "{path} {request}");
            assert_eq!(page["pagination"]["total"], expected.len(), "{path} {request}");
        }
    }
}

#[tokio::test]
async fn subscriptions_are_found_by_each_filter() {
    let three = Three::start().await;
    let (kwd, jpy, inr) = (&three.kwd, &three.jpy, &three.inr);
    let plan = three.merchant.get(&Drafts::of(jpy).subscription).await.expect(200)["plan_id"].clone();
    let id = |session: &Value| session["checkout_subscription_id"].clone();
    let by_status = json!([{"field": "subscription_status", "direction": "asc"}]);
    let filter = |field: &str, operator: &str, value: Value| json!({"filters": [{"field": field, "operator": operator, "value": value}]});
    let cases = vec![
        (json!({}), vec![kwd, jpy, inr]),
        (json!({"order": "asc"}), vec![inr, jpy, kwd]),
        (json!({"sort": by_status, "subscription_ids": [id(inr), id(kwd)]}), vec![inr, kwd]),
        (json!({"customer_id": inr["customer_id"]}), vec![inr]),
        (json!({"customer_ids": [inr["customer_id"], jpy["customer_id"]]}), vec![kwd, jpy, inr]),
        (json!({"customer_ids": [inr["customer_id"]], "customer_id": jpy["customer_id"]}), vec![]),
        (json!({"external_customer_id": "user_kai"}), vec![kwd, jpy]),
        (json!({"external_customer_id": "nobody"}), vec![]),
        (json!({"plan_id": plan}), vec![jpy]),
        (json!({"plan_id": "plan_unknown"}), vec![]),
        (json!({"subscription_ids": [id(jpy), "nonsense"]}), vec![jpy]),
        (json!({"subscription_status": ["active"]}), vec![inr]),
        (json!({"subscription_status": ["draft", "paused"]}), vec![kwd, jpy]),
        (json!({"billing_period": ["ANNUAL"]}), vec![jpy]),
        (
            json!({"billing_period": ["MONTHLY", "ANNUAL"], "external_customer_id": "user_kai"}),
            vec![kwd, jpy],
        ),
        (json!({"invoicing_customer_ids": [jpy["customer_id"]]}), vec![kwd, jpy]),
        (json!({"parent_subscription_ids": [id(jpy)]}), vec![]),
        (json!({"parent_subscription_ids": []}), vec![kwd, jpy, inr]),
        (json!({"subscription_type": ["parent", "inherited"]}), vec![]),
        (json!({"subscription_type": ["parent", "standalone"]}), vec![kwd, jpy, inr]),
        (json!({"billing_cadence": ["RECURRING"]}), vec![kwd, jpy, inr]),
        (json!({"billing_cadence": ["ONETIME"]}), vec![]),
        (json!({"trial_end_due_lte": "2027-01-01T00:00:00Z"}), vec![]),
        (json!({"active_at": "2026-11-23T09:31:00Z"}), vec![jpy, inr]),
        (json!({"active_at": "2026-11-23T09:00:00Z"}), vec![]),
        (json!({"start_time": "2026-11-23T09:31:00Z"}), vec![kwd, jpy]),
        (json!({"end_time": "2026-11-23T09:31:00Z"}), vec![jpy, inr]),
        (filter("plan_id", "eq", json!({"string": plan})), vec![jpy]),
        (filter("currency", "in", json!({"array": ["inr", "kwd"]})), vec![kwd, inr]),
        (filter("current_period_end", "after", json!({"date": "2027-01-01T00:00:00Z"})), vec![jpy]),
    ];
    three.check("/v1/subscriptions/search", "checkout_subscription_id", cases).await;
    three.app.finish().await;
}

#[tokio::test]
async fn searches_of_subscriptions_embed_what_is_asked_for() {
    let three = Three::start().await;
    for (request, lines, price, plan, customer) in [
        (json!({}), false, false, false, false),
        (json!({"with_line_items": true}), true, false, false, false),
        (json!({"with_line_items": true, "expand": "plan,customer"}), true, false, true, true),
        (json!({"expand": "prices"}), true, true, false, false),
    ] {
        let page = three.merchant.post("/v1/subscriptions/search", request.clone()).await.expect(200);
        let items = page["items"].as_array().unwrap();
        assert_eq!(items.len(), 3);
        for item in items {
            let line = &item["line_items"][0];
            assert_eq!(line["subscription_id"] == item["id"], lines, "{request}");
            assert_eq!(
                line["price"]["id"].is_string() && line["price"]["id"] == line["price_id"],
                price,
                "{request}"
            );
            assert_eq!(item["plan"]["id"] == item["plan_id"], plan, "{request}");
            assert_eq!(item["customer"]["id"] == item["customer_id"], customer, "{request}");
        }
    }
    three.app.finish().await;
}

#[tokio::test]
async fn invoices_are_found_by_each_filter() {
    let three = Three::start().await;
    let (kwd, jpy, inr) = (&three.kwd, &three.jpy, &three.inr);
    let id = |session: &Value| session["checkout_invoice_id"].clone();
    let by_number = json!([{"field": "invoice_status", "direction": "desc"}]);
    let cases = vec![
        (json!({}), vec![kwd, jpy, inr]),
        (json!({"customer_id": inr["customer_id"]}), vec![inr]),
        (json!({"customer_id": "nonsense"}), vec![]),
        (json!({"external_customer_id": "user_kai"}), vec![kwd, jpy]),
        (json!({"subscription_id": jpy["checkout_subscription_id"]}), vec![jpy]),
        (json!({"invoice_ids": [id(inr), id(kwd)], "sort": by_number}), vec![inr, kwd]),
        (json!({"invoice_type": "SUBSCRIPTION"}), vec![kwd, jpy, inr]),
        (json!({"invoice_type": "ONE_OFF"}), vec![]),
        (json!({"invoice_status": ["FINALIZED"]}), vec![inr]),
        (json!({"invoice_status": ["DRAFT", "VOIDED"]}), vec![kwd, jpy]),
        (json!({"payment_status": ["SUCCEEDED"]}), vec![inr]),
        (json!({"payment_status": ["PENDING", "FAILED"]}), vec![kwd, jpy]),
        (json!({"billing_reason": "SUBSCRIPTION_CREATE"}), vec![kwd, jpy, inr]),
        (json!({"billing_reason": "MANUAL"}), vec![]),
        (json!({"currency": "JPY"}), vec![jpy]),
        (json!({"subscription_customer_id": [inr["customer_id"]]}), vec![inr]),
        (json!({"finalized_at_gte": "2026-11-23T09:30:00Z"}), vec![inr]),
        (json!({"finalized_at_gte": "2027-11-23T09:30:00Z"}), vec![]),
        (json!({"voided_at_gte": "2026-11-23T09:30:00Z"}), vec![]),
        (json!({"period_start_gte": "2026-11-23T09:31:00Z"}), vec![kwd, jpy]),
        (json!({"period_start_lte": "2026-11-23T09:31:00Z"}), vec![jpy, inr]),
        (json!({"period_end_gte": "2027-01-01T00:00:00Z"}), vec![jpy]),
        (json!({"period_end_lte": "2026-12-23T09:30:00Z"}), vec![inr]),
        (json!({"start_time": "2026-11-23T09:32:00Z"}), vec![kwd]),
    ];
    three.check("/v1/invoices/search", "checkout_invoice_id", cases).await;
    let page = three.merchant.post("/v1/invoices/search", json!({"expand": "customer"})).await.expect(200);
    for item in page["items"].as_array().unwrap() {
        assert_eq!(item["line_items"][0]["invoice_id"], item["id"]);
        assert_eq!(item["line_items"][0]["amount"], item["total"]);
        assert_eq!(item["customer"]["id"], item["customer_id"]);
    }
    let page = three.merchant.post("/v1/invoices/search", json!({"skip_line_items": true})).await.expect(200);
    assert!(page["items"].as_array().unwrap().iter().all(|item| item.get("line_items").is_none()));
    three.app.finish().await;
}

#[tokio::test]
async fn amounts_of_invoices_are_compared_exactly_in_major_units() {
    let three = Three::start().await;
    let (kwd, jpy, inr) = (&three.kwd, &three.jpy, &three.inr);
    let cases = vec![
        (json!({"amount_due_gt": 0}), vec![kwd, jpy, inr]),
        (json!({"amount_due_gt": -1}), vec![kwd, jpy, inr]),
        (json!({"amount_due_gt": 1.2299}), vec![kwd, jpy, inr]),
        (json!({"amount_due_gt": 1.230}), vec![jpy, inr]),
        (json!({"amount_due_gt": 498.99}), vec![jpy, inr]),
        (json!({"amount_due_gt": 498.999_999}), vec![jpy, inr]),
        (json!({"amount_due_gt": 499}), vec![jpy]),
        (json!({"amount_due_gt": 499.0}), vec![jpy]),
        (json!({"amount_due_gt": "4999.99999999999999999"}), vec![jpy]),
        (json!({"amount_due_gt": 5e3}), vec![]),
        (json!({"amount_remaining_gt": 0}), vec![kwd, jpy]),
        (json!({"amount_remaining_gt": 2}), vec![jpy]),
    ];
    three.check("/v1/invoices/search", "checkout_invoice_id", cases).await;
    three.app.finish().await;
}

#[tokio::test]
async fn payments_are_found_by_each_filter() {
    let three = Three::start().await;
    let (kwd, jpy, inr) = (&three.kwd, &three.jpy, &three.inr);
    let paid = three.merchant.get(&Drafts::of(inr).payment).await.expect(200);
    let (provider_payment, link) = (text(&paid["gateway_payment_id"]), text(&paid["gateway_tracking_id"]));
    let ids = format!("{}%2C{}", text(&inr["checkout_payment_id"]), text(&kwd["checkout_payment_id"]));
    let query = |text: String| Value::String(text);
    let cases = vec![
        (query(String::new()), vec![kwd, jpy, inr]),
        (query(format!("payment_ids={ids}")), vec![kwd, inr]),
        (query(format!("payment_ids={ids}&order=asc")), vec![inr, kwd]),
        (query(format!("payment_ids={ids}&order=asc&sort=payment_status")), vec![kwd, inr]),
        (query("payment_ids=nonsense".into()), vec![]),
        (query("destination_type=INVOICE".into()), vec![kwd, jpy, inr]),
        (query("destination_type=CUSTOMER".into()), vec![]),
        (query(format!("destination_id={}", text(&jpy["checkout_invoice_id"]))), vec![jpy]),
        (query(format!("destination_id={}", text(&jpy["customer_id"]))), vec![]),
        (query("payment_method_type=PAYMENT_LINK".into()), vec![kwd, jpy, inr]),
        (query("payment_method_type=CARD".into()), vec![]),
        (query("payment_status=SUCCEEDED".into()), vec![inr]),
        (query("payment_status=INITIATED&currency=KWD".into()), vec![kwd]),
        (query("payment_gateway=razorpay".into()), vec![kwd, jpy, inr]),
        (query("payment_gateway=stripe".into()), vec![]),
        (query(format!("gateway_payment_id={provider_payment}")), vec![inr]),
        (query(format!("gateway_tracking_id={link}")), vec![inr]),
        (query("currency=jpy".into()), vec![jpy]),
        (query("start_time=2026-11-23T09%3A31%3A00Z&end_time=2026-11-23T09:31:30Z".into()), vec![jpy]),
        (query("status=archived".into()), vec![]),
        (query("expand=invoice&unknown=1".into()), vec![kwd, jpy, inr]),
    ];
    three.check("/v1/payments", "checkout_payment_id", cases).await;
    let page = three.merchant.get("/v1/payments").await.expect(200);
    let attempts = |index: usize| page["items"][index]["attempts"].as_array().unwrap().len();
    assert_eq!([attempts(0), attempts(1), attempts(2)], [0, 0, 1]);
    assert_eq!(page["items"][2]["invoice_number"], "INV-202611-00001");
    three.app.finish().await;
}

#[tokio::test]
async fn pages_cover_every_object_once_and_tell_the_total() {
    let three = Three::start().await;
    for path in LISTS {
        let page = |limit: i64, offset: i64| {
            if path == "/v1/payments" {
                json!(format!("limit={limit}&offset={offset}"))
            } else {
                json!({"limit": limit, "offset": offset})
            }
        };
        let whole = ids(&three.merchant, path, &page(50, 0)).await;
        assert_eq!(whole.len(), 3, "{path}");
        for (offset, expected) in [(0, &whole[0..2]), (2, &whole[2..3]), (3, &[]), (9, &[])] {
            let reply = list(&three.merchant, path, &page(2, offset)).await.expect(200);
            assert_eq!(reply["pagination"], json!({"total": 3, "limit": 2, "offset": offset}), "{path}");
            assert_eq!(ids(&three.merchant, path, &page(2, offset)).await, expected, "{path} {offset}");
        }
    }
    three.app.finish().await;
}

#[tokio::test]
async fn another_tenant_sees_nothing_and_unknown_ids_are_404() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let session = merchant.session().await;
    app.pay_and_settle(&session).await;
    let drafts = Drafts::of(&session);
    let stranger = app.merchant().await;
    for (path, noun) in drafts.paths().into_iter().zip(["subscription", "invoice", "payment"]) {
        let error = stranger.get(path).await.expect_error(404, "not_found");
        assert_eq!(error["details"]["reason"], format!("{noun}_not_found"));
        let (prefix, id) = path.rsplit_once('/').unwrap();
        for wrong in [
            id.to_lowercase(),
            format!("{id}0"),
            id[..id.len() - 1].to_owned(),
            text(&session["id"]).to_owned(),
            "1".into(),
            "%00".into(),
            "%FF".into(),
            "'".into(),
        ] {
            merchant.get(&format!("{prefix}/{wrong}")).await.expect_error(404, "not_found");
        }
        send_without_key(&merchant, path).await;
    }
    let (customer, subscription) = (&session["customer_id"], &session["checkout_subscription_id"]);
    for (path, request) in [
        (LISTS[0], json!({})),
        (LISTS[0], json!({"customer_id": customer})),
        (LISTS[0], json!({"external_customer_id": "user_12345"})),
        (LISTS[0], json!({"subscription_ids": [subscription]})),
        (LISTS[1], json!({})),
        (LISTS[1], json!({"subscription_id": subscription})),
        (LISTS[1], json!({"invoice_ids": [session["checkout_invoice_id"]]})),
        (LISTS[2], json!("")),
        (LISTS[2], json!(format!("payment_ids={}", text(&session["checkout_payment_id"])))),
    ] {
        assert_eq!(ids(&stranger, path, &request).await, Vec::<String>::new(), "{path} {request}");
        send_without_key(&merchant, path).await;
    }
    app.finish().await;
}

async fn send_without_key(merchant: &Merchant, path: &str) {
    let method = if path.ends_with("/search") { "POST" } else { "GET" };
    let request = merchant.builder(method.parse().unwrap(), path);
    assert_eq!(crate::support::send(request).await.status, 401, "{path}");
}

#[tokio::test]
async fn wrong_filters_are_400_and_named() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let subscriptions = [
        (json!({"subscription_status": ["gone"]}), "subscription_status[0]"),
        (json!({"subscription_status": "active,gone"}), "subscription_status[1]"),
        (json!({"subscription_status": [1]}), "subscription_status"),
        (json!({"billing_period": ["MONTH"]}), "billing_period[0]"),
        (json!({"customer_id": 1}), "customer_id"),
        (json!({"customer_ids": {}}), "customer_ids"),
        (json!({"external_customer_id": ["x"]}), "external_customer_id"),
        (json!({"plan_id": true}), "plan_id"),
        (json!({"subscription_ids": [null]}), "subscription_ids"),
        (json!({"with_line_items": "yes"}), "with_line_items"),
        (json!({"active_at": "today"}), "active_at"),
        (json!({"limit": 0}), "limit"),
        (json!({"sort": [{"field": "secret"}]}), "sort[0].field"),
        (json!({"filters": [{"field": "status", "operator": "eq"}]}), "filters[0].field"),
        (json!({"external_customer_id": "a\u{0}b"}), "external_customer_id"),
    ];
    let invoices = [
        (json!({"invoice_status": ["OPEN"]}), "invoice_status[0]"),
        (json!({"payment_status": ["PAID"]}), "payment_status[0]"),
        (json!({"invoice_type": "OTHER"}), "invoice_type"),
        (json!({"invoice_type": 1}), "invoice_type"),
        (json!({"billing_reason": "WHIM"}), "billing_reason"),
        (json!({"currency": "rupees"}), "currency"),
        (json!({"amount_due_gt": true}), "amount_due_gt"),
        (json!({"amount_due_gt": "much"}), "amount_due_gt"),
        (json!({"amount_remaining_gt": 1e300}), "amount_remaining_gt"),
        (json!({"amount_remaining_gt": []}), "amount_remaining_gt"),
        (json!({"period_start_gte": 1}), "period_start_gte"),
        (json!({"period_start_lte": "x"}), "period_start_lte"),
        (json!({"period_end_gte": ""}), "period_end_gte"),
        (json!({"period_end_lte": "2026-13-01T00:00:00Z"}), "period_end_lte"),
        (json!({"skip_line_items": 1}), "skip_line_items"),
        (json!({"invoice_ids": 1}), "invoice_ids"),
        (json!({"order": "up"}), "order"),
    ];
    let payments = [
        (json!("payment_status=PAID"), "payment_status"),
        (json!("destination_type=WALLET"), "destination_type"),
        (json!("payment_method_type=CASH"), "payment_method_type"),
        (json!("payment_gateway=mine"), "payment_gateway"),
        (json!("currency=rupees"), "currency"),
        (json!("start_time=today"), "start_time"),
        (json!("end_time=1"), "end_time"),
        (json!("limit=1001"), "limit"),
        (json!("limit=x"), "limit"),
        (json!("offset=-1"), "offset"),
        (json!("order=down"), "order"),
        (json!("sort=amount%20desc"), "sort"),
        (json!("status=gone"), "status"),
        (json!("gateway_payment_id=%00"), "query"),
    ];
    let cases = subscriptions.into_iter().map(|case| (LISTS[0], case));
    let cases = cases.chain(invoices.into_iter().map(|case| (LISTS[1], case)));
    for (path, (request, field)) in cases.chain(payments.into_iter().map(|case| (LISTS[2], case))) {
        let error = list(&merchant, path, &request).await.expect_error(400, "validation_error");
        assert!(error["details"].get(field).is_some(), "{path} {request}: {error}");
        assert!(text(&error["message"]).contains(field), "{path} {request}: {error}");
    }
    app.finish().await;
}
