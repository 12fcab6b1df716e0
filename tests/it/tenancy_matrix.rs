//! Who may do what to whose objects: every operation of the API's description, with every kind of key, on every kind
//! of id. A new operation is in the matrix by itself, or fails it until it is told what lives at its path.

use std::collections::HashMap;

use axum::http::Method;
use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::support::{
    Merchant, Receiver, Reply, Settings, TestApp,
    described::{DOCUMENT, operations},
    send,
};

/// One environment with an object of each kind; ids by the path below which they are found.
struct World {
    merchant: Merchant,
    ids: HashMap<&'static str, String>,
}

impl World {
    /// `name` tells the environments' external ids and settings apart.
    async fn build(app: &TestApp, merchant: Merchant, name: &str) -> Self {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let receiver = Receiver::start().await;
        let endpoint = merchant.endpoint(&receiver).await;
        let session = merchant.session().await;
        app.advance(TimeDelta::minutes(15)).await;
        app.pay_late(&session).await;
        app.drain().await;
        let refund = merchant.refund_of(&session).await;
        // Paid, so that there is an object of each kind that is still in use.
        let session = merchant.session().await;
        app.pay_and_settle(&session).await;
        let session = merchant.read_session(&session).await;
        let customer = merchant.customer(name).await;
        let invoice = merchant
            .get(&format!("/v1/invoices/{}", text(&session["checkout_invoice_id"])))
            .await
            .expect(200);
        let price = text(&invoice["line_items"][0]["price_id"]);
        let plan = merchant.get(&format!("/v1/prices/{price}")).await.expect(200)["plan_id"].clone();
        let deliveries = format!("/v1/webhook_endpoints/{}/deliveries", text(&endpoint["id"]));
        let delivery = merchant.get(&deliveries).await.expect(200)["items"][0].clone();
        let connections = merchant.get("/v1/connections").await.expect(200);
        let key = merchant
            .post("/v1/secrets/api/keys", json!({"name": name, "type": "private_key"}))
            .await
            .expect(201);
        let setting = json!({"value": {"session_ttl_seconds": OWN_TTL_SECONDS}});
        merchant.put("/v1/settings/checkout_config", setting).await.expect(200);
        let ids = HashMap::from([
            ("/v1/customers", text(&customer["id"])),
            ("/v1/customers/external", name.to_owned()),
            ("/v1/plans", text(&plan)),
            ("/v1/prices", price),
            ("/v1/checkout/sessions", text(&session["id"])),
            ("/v1/subscriptions", text(&session["checkout_subscription_id"])),
            ("/v1/invoices", text(&session["checkout_invoice_id"])),
            ("/v1/payments", text(&session["checkout_payment_id"])),
            ("/v1/refunds", text(&refund["id"])),
            ("/v1/webhook_endpoints", text(&endpoint["id"])),
            ("/v1/events", text(&delivery["event_id"])),
            ("/v1/deliveries", text(&delivery["id"])),
            ("/v1/connections", text(&connections["items"][0]["id"])),
            ("/v1/secrets/api/keys", text(&key["secret"]["id"])),
            ("/v1/environments", merchant.environment_id.clone()),
        ]);
        Self { merchant, ids }
    }

    /// Our object that a parameter or member of this name would name.
    fn named(&self, name: &str) -> Option<&str> {
        let collection = match name {
            "external_id" | "external_ids" | "external_customer_id" | "customer_external_id" => {
                "/v1/customers/external"
            }
            "customer_id" | "customer_ids" => "/v1/customers",
            "plan_id" | "plan_ids" | "entity_ids" => "/v1/plans",
            "price_ids" => "/v1/prices",
            "subscription_id" | "subscription_ids" => "/v1/subscriptions",
            "invoice_ids" | "destination_id" => "/v1/invoices",
            "payment_ids" => "/v1/payments",
            "refund_id" => "/v1/refunds",
            "checkout_session_id" => "/v1/checkout/sessions",
            "webhook_endpoint_id" => "/v1/webhook_endpoints",
            "event_id" | "after" | "before" => "/v1/events",
            _ => return None,
        };
        self.ids.get(collection).map(String::as_str)
    }

    fn with_key(&self, api_key: &str) -> Merchant {
        Merchant { api_key: api_key.to_owned(), ..self.merchant.clone() }
    }
}

/// Of a session, as it is set in each world; others' requests set it to something else.
const OWN_TTL_SECONDS: i64 = 1100;

/// Paths whose parameter is not an id: what is there is everybody's own.
const NAMES: [&str; 1] = ["/v1/settings"];
/// What a tenant's environments see of each other, and do not change.
const TENANT_WIDE: [&str; 1] = ["/v1/environments"];

/// Bodies that are fine but for whose objects they are about.
fn body_of(operation: &str) -> Value {
    match operation {
        "cancel_subscription" => json!({"cancellation_type": "immediate"}),
        "activate_subscription" => json!({"start_date": "2026-11-01T00:00:00Z"}),
        "update_invoice_payment_status" => json!({"payment_status": "SUCCEEDED"}),
        "update_environment" => json!({"name": "Renamed"}),
        "update_setting" => json!({"value": {"session_ttl_seconds": 1200}}),
        "replay_webhook_endpoint" => json!({"since": "2020-01-01T00:00:00Z"}),
        _ => json!({}),
    }
}

struct Operation {
    id: &'static str,
    method: Method,
    template: &'static str,
    described: &'static Value,
}

impl Operation {
    fn all() -> Vec<Self> {
        let needs_key = |described: &Value| !described["security"].as_array().unwrap().is_empty();
        operations()
            .filter(|(_, _, described)| needs_key(described))
            .map(|(template, method, described)| Self {
                id: described["operationId"].as_str().unwrap(),
                method: method.to_ascii_uppercase().parse().unwrap(),
                template,
                described,
            })
            .collect()
    }

    /// Below which path its id is found; none for one that takes no id.
    fn collection(&self) -> Option<&'static str> {
        self.template.split_once("/{").map(|(collection, _)| collection)
    }

    fn path(&self, id: &str) -> String {
        let Some((collection, rest)) = self.template.split_once('{') else { return self.template.to_owned() };
        format!("{collection}{id}{}", rest.split_once('}').unwrap().1)
    }

    fn request(&self, caller: &Merchant, path: &str) -> reqwest::RequestBuilder {
        let request = caller.builder(self.method.clone(), path);
        if self.described.get("requestBody").is_some() { request.json(&body_of(self.id)) } else { request }
    }

    /// Parameters of the query that take an id, each with one of ours.
    fn parameters_that_name<'w>(&self, own: &'w World) -> Vec<(&'static str, &'w str)> {
        let parameters = self.described["parameters"].as_array().into_iter().flatten();
        let names =
            parameters.filter(|parameter| parameter["in"] == "query").map(|parameter| &parameter["name"]);
        names.filter_map(|name| Some((name.as_str()?, own.named(name.as_str()?)?))).collect()
    }

    /// Members of a search that take an id, each with one of ours.
    fn members_that_name(&self, own: &World) -> Vec<(&'static str, Value)> {
        if !self.template.ends_with("/search") {
            return Vec::new();
        }
        let reference = &self.described["requestBody"]["content"]["application/json"]["schema"]["$ref"];
        let schema = DOCUMENT.pointer(reference.as_str().unwrap().trim_start_matches('#')).unwrap();
        let members = schema["properties"].as_object().unwrap().iter();
        let value = |schema: &Value, id: &str| {
            if schema["type"].to_string().contains("array") { json!([id]) } else { json!(id) }
        };
        members.filter_map(|(name, schema)| Some((name.as_str(), value(schema, own.named(name)?)))).collect()
    }

    async fn send_body(&self, caller: &Merchant, path: &str, body: Option<&Value>) -> Reply {
        let request = caller.builder(self.method.clone(), path).header("x-api-key", &caller.api_key);
        send(match body {
            Some(body) => request.json(body),
            None => request,
        })
        .await
    }

    async fn send(&self, caller: &Merchant, id: &str) -> Reply {
        send(self.request(caller, &self.path(id)).header("x-api-key", &caller.api_key)).await
    }
}

/// What was seen where something else had to be.
#[derive(Default)]
struct Matrix {
    cells: usize,
    wrong: Vec<String>,
}

impl Matrix {
    fn cell(&mut self, holds: bool, operation: &Operation, key: &str, id: &str, reply: &Reply) {
        self.cells += 1;
        if !holds {
            self.wrong
                .push(format!("{} × {key} key × {id} id: {} {}", operation.id, reply.status, reply.text));
        }
    }
}

/// Ids of the collection's kind that are in no environment, and texts that are no ids.
fn strangers(own: &str) -> [(&'static str, String); 3] {
    let prefix = own.rsplit_once('_').map_or("none", |(prefix, _)| prefix);
    [
        ("absent", format!("{prefix}_0193AAAAAAAAAAAAAAAAAAAAAA")),
        ("malformed", "%F0%9F%92%A9".to_owned()),
        ("another kind's", "zzz_01HZZZZZZZZZZZZZZZZZZZZZZZ".to_owned()),
    ]
}

async fn another_environment(app: &TestApp, merchant: &Merchant) -> Merchant {
    let body = json!({"name": "Staging", "type": "development"});
    let created = merchant.post("/v1/environments", body).await.expect(201);
    let api_key = created["api_key"].as_str().unwrap().to_owned();
    app.add_canary(&api_key);
    let environment_id = created["id"].as_str().unwrap().to_owned();
    let other = Merchant { api_key, environment_id, ..merchant.clone() };
    app.connect(&other).await;
    other
}

/// A key of the environment that was revoked, and one that has expired.
async fn dead_keys(app: &TestApp, merchant: &Merchant) -> [(&'static str, String); 2] {
    let path = "/v1/secrets/api/keys";
    let revoked = merchant.post(path, json!({"name": "old", "type": "private_key"})).await.expect(201);
    merchant.delete(&format!("{path}/{}", revoked["secret"]["id"].as_str().unwrap())).await.expect(204);
    let soon = app.state().clock.now() + TimeDelta::seconds(1);
    let short = json!({"name": "short", "type": "private_key", "expires_at": soon});
    let expired = merchant.post(path, short).await.expect(201);
    app.clock().advance(TimeDelta::seconds(1));
    [("revoked", revoked), ("expired", expired)]
        .map(|(name, key)| (name, key["api_key"].as_str().unwrap().to_owned()))
}

#[tokio::test]
async fn every_operation_with_every_key_on_every_id() {
    // All of it comes from one address in a second.
    let unlimited =
        vec![("CHECKOUTD_FAILED_AUTHENTICATIONS_PER_MINUTE", "0"), ("CHECKOUTD_RATE_LIMIT_PER_SECOND", "0")];
    let app = TestApp::start_with(Settings { variables: unlimited, ..Settings::default() }).await;
    let merchant = app.merchant().await;
    let staging = another_environment(&app, &merchant).await;
    let own = World::build(&app, merchant, "ours").await;
    let sibling = World::build(&app, staging, "siblings").await;
    let foreign = World::build(&app, app.merchant().await, "theirs").await;
    let dead = dead_keys(&app, &own.merchant).await;
    let mut matrix = Matrix::default();
    let all = Operation::all();
    for operation in &all {
        let id_of = |world: &World| match operation.collection() {
            None => String::new(),
            Some(collection) if NAMES.contains(&collection) => "checkout_config".to_owned(),
            Some(collection) => world.ids.get(collection).cloned().unwrap_or_else(|| {
                panic!("{}: the matrix does not know what lives at {collection}", operation.id)
            }),
        };
        let own_id = id_of(&own);
        let mut ids = vec![("own", own_id.clone())];
        let takes_id = operation.collection().is_some_and(|collection| !NAMES.contains(&collection));
        if takes_id {
            ids.extend([("foreign", id_of(&foreign)), ("sibling's", id_of(&sibling))]);
            ids.extend(strangers(&own_id));
        }
        without_a_valid_key(&mut matrix, operation, &own, &ids, &dead).await;
        let named = operation.request(&own.merchant, &operation.path(&own_id));
        let named = named.header("x-api-key", &own.merchant.api_key);
        let reply = send(named.header("x-environment-id", &sibling.merchant.environment_id)).await;
        matrix.cell(reply.status == 403, operation, "own, naming another environment,", "own", &reply);
        let others = [("sibling's", &sibling), ("foreign", &foreign)];
        if takes_id {
            with_other_keys(&mut matrix, operation, &own, others, &own_id).await;
            with_the_own_key(&mut matrix, operation, &own, &ids).await;
        } else {
            nothing_leaks(&mut matrix, operation, &own, others, &own_id).await;
        }
    }
    // What others changed or took away was theirs.
    let setting = own.merchant.get("/v1/settings/checkout_config").await.expect(200);
    assert_eq!(setting["value"], json!({"session_ttl_seconds": OWN_TTL_SECONDS}));
    // Last, because it changes them: each operation reaches its own object, or the cells above said nothing.
    for method in [Method::GET, Method::PUT, Method::POST, Method::DELETE] {
        for operation in all.iter().filter(|operation| operation.method == method) {
            let Some(collection) = operation.collection() else { continue };
            let id = own.ids.get(collection).map_or("checkout_config", String::as_str);
            let reply = operation.send(&own.merchant, id).await;
            let reached = !matches!(reply.status, 401 | 403 | 404 | 405 | 422 | 429) && reply.status < 500;
            matrix.cell(reached, operation, "own", "own", &reply);
        }
    }
    assert!(matrix.wrong.is_empty(), "{} of {} cells: {:#?}", matrix.wrong.len(), matrix.cells, matrix.wrong);
    assert!(matrix.cells > all.len() * 10, "only {} cells of {} operations", matrix.cells, all.len());
    app.finish().await;
}

/// 401, whatever the id is: the answer does not tell.
async fn without_a_valid_key(
    matrix: &mut Matrix,
    operation: &Operation,
    own: &World,
    ids: &[(&str, String)],
    dead: &[(&str, String)],
) {
    for (kind, id) in ids {
        let reply = send(operation.request(&own.merchant, &operation.path(id))).await;
        matrix.cell(reply.status == 401, operation, "no", kind, &reply);
        for (name, key) in dead {
            let reply = operation.send(&own.with_key(key), id).await;
            matrix.cell(reply.status == 401, operation, name, kind, &reply);
        }
    }
}

/// 404, and the very answer that an id gets which nobody has.
async fn with_other_keys(
    matrix: &mut Matrix,
    operation: &Operation,
    own: &World,
    others: [(&str, &World); 2],
    own_id: &str,
) {
    for (name, other) in others {
        let reply = operation.send(&other.merchant, own_id).await;
        let shared =
            name == "sibling's" && operation.collection().is_some_and(|path| TENANT_WIDE.contains(&path));
        if shared {
            // Test keys change none but their own.
            let is_read = operation.method == Method::GET;
            matrix.cell(
                if is_read { reply.status == 200 } else { reply.status == 403 },
                operation,
                name,
                "own",
                &reply,
            );
            continue;
        }
        let [(_, absent), ..] = strangers(own_id);
        let missing = operation.send(&own.merchant, &absent).await;
        let same = reply.status == 404 && reply.text == missing.text;
        matrix.cell(same, operation, name, "own", &reply);
    }
}

/// 404 for whatever is not in the environment, one answer for all.
async fn with_the_own_key(matrix: &mut Matrix, operation: &Operation, own: &World, ids: &[(&str, String)]) {
    let mut answers = Vec::new();
    for (kind, id) in &ids[1..] {
        if *kind == "sibling's" && operation.collection().is_some_and(|path| TENANT_WIDE.contains(&path)) {
            continue;
        }
        let reply = operation.send(&own.merchant, id).await;
        answers.push(reply.text.clone());
        matrix.cell(reply.status == 404 && reply.text == answers[0], operation, "own", kind, &reply);
    }
}

/// Lists and searches of others have nothing of ours, and filters that name ours find nothing.
async fn nothing_leaks(
    matrix: &mut Matrix,
    operation: &Operation,
    own: &World,
    others: [(&str, &World); 2],
    own_id: &str,
) {
    let path = operation.path(own_id);
    for (name, other) in others {
        let ours = own.ids.iter().filter(|(path, _)| !(name == "sibling's" && TENANT_WIDE.contains(path)));
        let ours: Vec<String> = ours.map(|(_, id)| format!("\"{id}\"")).collect();
        let leaks = |reply: &Reply| ours.iter().any(|id| reply.text.contains(id));
        let body = operation.described.get("requestBody").map(|_| body_of(operation.id));
        if operation.method != Method::POST || operation.template.ends_with("/search") {
            // A change that takes an id in its query, and got none.
            let takes_one = operation.method == Method::PUT && operation.collection().is_none();
            let reply = operation.send_body(&other.merchant, &path, body.as_ref()).await;
            let fits = reply.status == if takes_one { 400 } else { 200 };
            matrix.cell(fits && !leaks(&reply), operation, name, "no", &reply);
        }
        for (parameter, id) in operation.parameters_that_name(own) {
            let path = format!("{path}?{parameter}={id}");
            let reply = operation.send_body(&other.merchant, &path, body.as_ref()).await;
            // A place in a log must be one of the log; what a change is about must exist.
            let fits = match operation.method {
                Method::GET if matches!(parameter, "before" | "after") => reply.status == 400,
                Method::GET => reply.status == 200,
                _ => reply.status == 404,
            };
            matrix.cell(fits && !leaks(&reply), operation, name, parameter, &reply);
        }
        for (member, value) in operation.members_that_name(own) {
            let reply = operation.send_body(&other.merchant, &path, Some(&json!({member: value}))).await;
            let none = reply.status == 200 && reply.json()["pagination"]["total"] == 0;
            matrix.cell(none && !leaks(&reply), operation, name, member, &reply);
        }
    }
}

#[tokio::test]
async fn nobody_elses_objects_can_be_named_in_a_request() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let staging = another_environment(&app, &merchant).await;
    let own = World::build(&app, merchant, "ours").await;
    let others = [staging, app.merchant().await];
    let (customer, plan) = (&own.ids["/v1/customers"], &own.ids["/v1/plans"]);
    for other in &others {
        let mine = other.plan().await;
        other.customer_if_missing().await;
        let price = json!({
            "entity_type": "PLAN", "entity_id": plan, "type": "FIXED", "billing_model": "FLAT_FEE", "amount": "1",
            "billing_period": "MONTHLY", "currency": "INR", "invoice_cadence": "ADVANCE", "price_unit_type": "FIAT",
        });
        other.post("/v1/prices", price).await.expect_error(404, "not_found");
        let session = Merchant::session_request(plan);
        other.post("/v1/checkout/sessions", session).await.expect_error(404, "not_found");
        let mut session = Merchant::session_request(&mine);
        session["customer_external_id"] = json!("ours");
        other.post("/v1/checkout/sessions", session).await.expect_error(404, "not_found");
        for query in [format!("id={customer}"), "external_customer_id=ours".to_owned()] {
            let reply = other.put(&format!("/v1/customers?{query}"), json!({"name": "Taken over"})).await;
            reply.expect_error(404, "not_found");
        }
        let searches = [
            ("/v1/customers/search", json!({"customer_ids": [customer], "external_id": "ours"})),
            ("/v1/plans/search", json!({"plan_ids": [plan]})),
            ("/v1/prices/search", json!({"entity_ids": [plan]})),
            ("/v1/subscriptions/search", json!({"subscription_ids": [own.ids["/v1/subscriptions"]]})),
            ("/v1/invoices/search", json!({"invoice_ids": [own.ids["/v1/invoices"]]})),
        ];
        for (path, body) in searches {
            let found = other.post(path, body).await.expect(200);
            assert_eq!(found["pagination"]["total"], 0, "{path}: {found}");
        }
    }
    app.finish().await;
}
