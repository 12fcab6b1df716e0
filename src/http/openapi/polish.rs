//! What holds for many operations, and what their handlers' types cannot say.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use serde_json::{Map, Value, json};

use crate::http::idempotency::only_reads;

const DESCRIPTION: &str = "Hosted checkout sessions: subscriptions paid by Razorpay payment links.

Send an API key as `x-api-key` or as `Authorization: Bearer`. A key belongs to one environment; `X-Environment-ID`, \
when sent, must name that one. Money and quantities are decimal strings, times are RFC 3339 in UTC. Every error has the \
same envelope: `code`, `message`, `http_status_code`, and `details`, with a machine-readable `reason` where there is one.";

/// A group of operations: the first segment of their paths below `/v1`, its name, and what it is.
type Tag = (&'static str, &'static str, &'static str);

/// In the order of the reference.
const TAGS: [Tag; 20] = [
    ("checkout", "Checkout sessions", "A customer's way to pay for a new subscription."),
    ("customers", "Customers", "Who pays; found by the merchant's own name for them."),
    ("plans", "Plans", "What is sold."),
    ("prices", "Prices", "What a plan costs, by period and currency."),
    ("subscriptions", "Subscriptions", "Drafted by a checkout session, active once it is paid."),
    ("invoices", "Invoices", "Drafted by a checkout session, finalized once it is paid."),
    ("payments", "Payments", "What an invoice expects, with every attempt."),
    ("refunds", "Refunds", "Money that goes back: late, duplicate and wrong payments."),
    ("webhook_endpoints", "Webhook endpoints", "Where events are delivered."),
    ("events", "Events", "What happened; the very bodies that endpoints get."),
    ("deliveries", "Deliveries", "One event on its way to one endpoint."),
    ("connections", "Connections", "The merchant's Razorpay account."),
    ("integrations", "Connections", ""),
    ("secrets", "API keys", "The environment's keys."),
    ("users", "API keys", ""),
    ("environments", "Environments", "The tenant's test and live environments."),
    ("settings", "Settings", "What an environment may choose."),
    ("webhooks", "Razorpay", "Where Razorpay reports payments."),
    ("healthz", "Service", "For those who watch the process."),
    ("readyz", "Service", ""),
];

/// Headers of a key's budget, by their names among the components.
const RATE_LIMITS: [(&str, &str); 3] = [
    ("RateLimit-Limit", "RateLimit"),
    ("RateLimit-Remaining", "RateLimitRemaining"),
    ("RateLimit-Reset", "RateLimitReset"),
];

/// Statuses whose refusals say the same wherever they are said.
const SHARED: [u16; 10] = [401, 403, 408, 409, 413, 415, 422, 429, 500, 503];

/// Whose ids a session's members are: where to read what it drafted.
const DRAFTS: [(&str, &str); 4] = [
    ("checkout_invoice_id", "get_invoice"),
    ("checkout_payment_id", "get_payment"),
    ("checkout_subscription_id", "get_subscription"),
    ("customer_id", "get_customer"),
];

/// Where an answer has the id that its links take, if not in its usual place.
const IDS: [(&str, &str); 2] = [
    ("create_api_key", "$response.body#/secret/id"),
    ("list_environments", "$response.body#/environments/0/id"),
];

/// The document as it is published, of the one that the routes' types make.
pub fn polish(mut document: Value) -> Value {
    document["info"] = json!({
        "title": "checkoutd",
        "description": DESCRIPTION,
        "version": env!("CARGO_PKG_VERSION"),
        "license": {"name": env!("CARGO_PKG_LICENSE"), "identifier": env!("CARGO_PKG_LICENSE")},
    });
    document["servers"] = json!([{"url": "/"}]);
    document["components"]["securitySchemes"] = json!({
        "ApiKey": {"type": "apiKey", "in": "header", "name": "x-api-key", "description": "An API key: `sk_test_…` or `sk_live_…`."},
        "Bearer": {"type": "http", "scheme": "bearer", "description": "The same API key."},
    });
    document["components"]["headers"] = json!({
        "RequestId": {
            "description": "Names the request in the service's log; the caller's own, if it sent one.",
            "schema": {"type": "string"},
        },
        "RateLimit": {
            "description": "Requests that this API key has at once.",
            "schema": {"type": "integer", "minimum": 1},
        },
        "RateLimitRemaining": {
            "description": "Those of them that are left.",
            "schema": {"type": "integer", "minimum": 0},
        },
        "RateLimitReset": {
            "description": "Seconds until all of them are there again.",
            "schema": {"type": "integer", "minimum": 0},
        },
        "IdempotentReplayed": {
            "description": "`true`: the answer that the first request under this `Idempotency-Key` got.",
            "schema": {"type": "string", "enum": ["true"]},
        },
        "RetryAfter": {"description": "Seconds to wait before trying again.", "schema": {"type": "integer", "minimum": 0}},
    });
    let paths = document["paths"].as_object().cloned().unwrap_or_default();
    let mut polished: BTreeMap<String, Value> = paths
        .into_iter()
        .map(|(path, mut item)| {
            let path = path.replace("{*", "{");
            for (method, operation) in item.as_object_mut().into_iter().flatten() {
                polish_operation(&path, method, operation);
            }
            (path, item)
        })
        .collect();
    link(&mut polished);
    for (_, schema) in document["components"]["schemas"].as_object_mut().into_iter().flatten() {
        polish_schema(schema);
    }
    document["components"]["responses"] = share_refusals(&mut polished).into();
    let used =
        |tag: &str| polished.values().flat_map(operations).any(|(_, operation)| operation["tags"][0] == tag);
    document["tags"] = TAGS
        .iter()
        .filter(|(_, tag, description)| !description.is_empty() && used(tag))
        .map(|(_, tag, description)| json!({"name": tag, "description": description}))
        .collect();
    document["paths"] = polished.into_iter().collect::<Map<_, _>>().into();
    document
}

fn operations(item: &Value) -> impl Iterator<Item = (&String, &Value)> {
    item.as_object().into_iter().flatten()
}

fn polish_operation(path: &str, method: &str, operation: &mut Value) {
    operation["tags"] = json!([tag(path)]);
    let mut parameters = path_parameters(path);
    for mut parameter in operation["parameters"].as_array().cloned().unwrap_or_default() {
        if parameter["in"] == "query" {
            polish_query(&mut parameter);
        }
        parameters.push(parameter);
    }
    let has_key = operation.get("security").is_some();
    if !has_key {
        // Said outright: an operation that says nothing would be one that was forgotten.
        operation["security"] = json!([]);
    }
    let is_keyed = method == "post" && has_key && !only_reads(path);
    if is_keyed {
        parameters.push(json!({
            "name": "Idempotency-Key",
            "in": "header",
            "description": "Repeats with the same key get the first answer, for 7 days.",
            "schema": {"type": "string", "pattern": "^[ -~]+$", "minLength": 1, "maxLength": 255},
        }));
        add_refusal(operation, 400, "the request breaks a rule; `details` names each field");
        add_refusal(operation, 409, "a request with the same `Idempotency-Key` is under way");
        add_refusal(operation, 422, "the `Idempotency-Key` was used for another request");
        // The body is read before the handler, whether it has one or not.
        add_refusal(operation, 408, "the body did not arrive in time");
        add_refusal(operation, 413, "the body is too large");
    }
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    if let Some(responses) = operation["responses"].as_object_mut() {
        let sorted: BTreeMap<String, Value> = std::mem::take(responses).into_iter().collect();
        for (status, mut response) in sorted {
            response["headers"]["X-Request-ID"] = json!({"$ref": "#/components/headers/RequestId"});
            if has_key && (status.starts_with('2') || status == "429") {
                for (name, header) in RATE_LIMITS {
                    response["headers"][name] = json!({"$ref": format!("#/components/headers/{header}")});
                }
            }
            if is_keyed && (status.starts_with('2') || status == "502") {
                let replayed = json!({"$ref": "#/components/headers/IdempotentReplayed"});
                response["headers"]["Idempotent-Replayed"] = replayed;
            }
            if matches!(status.as_str(), "409" | "429" | "503") {
                response["headers"]["Retry-After"] = json!({"$ref": "#/components/headers/RetryAfter"});
            }
            responses.insert(status, response);
        }
    }
}

fn tag(path: &str) -> &'static str {
    let path = path.strip_prefix("/v1/").unwrap_or_else(|| path.trim_start_matches('/'));
    let segment = path.split('/').next().unwrap_or_default();
    // A path without a group is noticed by the linter: the empty tag has no description.
    TAGS.iter().find(|(first, ..)| *first == segment).map_or("", |(_, tag, _)| tag)
}

fn path_parameters(path: &str) -> Vec<Value> {
    let names = path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'));
    names
        .map(|name| {
            let schema = json!({"type": "string", "minLength": 1});
            json!({"name": name, "in": "path", "required": true, "schema": schema})
        })
        .collect()
}

/// What a body says by `null` a query says by leaving the parameter out; its lists are one text with commas.
fn polish_query(parameter: &mut Value) {
    let Some(schema) = parameter["schema"].as_object_mut() else { return };
    // The parameter has it already.
    schema.remove("description");
    schema.remove("default");
    take_null_away(schema);
    if schema.get("type").is_some_and(|name| name == "array") {
        parameter["explode"] = json!(false);
    }
}

/// Of a schema that may be null besides.
fn take_null_away(schema: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = schema.get("type") {
        let first = types[0].clone();
        schema.insert("type".to_owned(), first);
    }
    if let Some(Value::Array(forms)) = schema.remove("anyOf") {
        schema.extend(forms[0].as_object().cloned().unwrap_or_default());
    }
    if let Some(Value::Array(words)) = schema.get_mut("enum") {
        words.retain(|word| !word.is_null());
    }
}

/// Leaves a refusal that the operation describes itself.
fn add_refusal(operation: &mut Value, status: u16, when: &str) {
    let response = &mut operation["responses"][status.to_string()];
    if response.is_null() {
        let schema = json!({"$ref": "#/components/schemas/ErrorResponse"});
        *response = json!({"description": when, "content": {"application/json": {"schema": schema}}});
    }
}

/// A refusal that many operations have, word by word, stands once, under the name of its status.
fn share_refusals(paths: &mut BTreeMap<String, Value>) -> Map<String, Value> {
    let shared = most_frequent(paths);
    let operations = paths.values_mut().filter_map(Value::as_object_mut).flat_map(Map::values_mut);
    for responses in operations.filter_map(|operation| operation["responses"].as_object_mut()) {
        for (status, response) in responses {
            let Some(name) = shared_name(status) else { continue };
            if shared.get(&name) == Some(response) {
                *response = json!({"$ref": format!("#/components/responses/{name}")});
            }
        }
    }
    shared
}

/// What most operations say of a status.
fn most_frequent(paths: &BTreeMap<String, Value>) -> Map<String, Value> {
    let mut counts: BTreeMap<(String, String), (usize, &Value)> = BTreeMap::new();
    for (_, operation) in paths.values().flat_map(operations) {
        for (status, response) in operation["responses"].as_object().into_iter().flatten() {
            let Some(name) = shared_name(status) else { continue };
            counts.entry((name, response.to_string())).or_insert((0, response)).0 += 1;
        }
    }
    let mut most: BTreeMap<String, (usize, &Value)> = BTreeMap::new();
    for ((name, _), (count, response)) in counts {
        let kept = most.entry(name).or_insert((count, response));
        if count > kept.0 {
            *kept = (count, response);
        }
    }
    most.into_iter().map(|(name, (_, response))| (name, response.clone())).collect()
}

fn shared_name(status: &str) -> Option<String> {
    let code = StatusCode::from_u16(status.parse().ok()?).ok()?;
    let is_shared = SHARED.contains(&code.as_u16());
    is_shared.then(|| code.canonical_reason().unwrap_or_default().replace(' ', ""))
}

/// A member that is needed is never null; and the words of a list are an `enum`, which more programs read than a choice
/// of constants.
fn polish_schema(schema: &mut Value) {
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    for name in required.iter().filter_map(Value::as_str) {
        let Some(member) = schema["properties"][name].as_object_mut() else { continue };
        member.remove("default");
        take_null_away(member);
    }
    let words =
        schema["oneOf"].as_array().map(|forms| forms.iter().map(|form| form["const"].clone()).collect());
    let words: Vec<Value> = words.unwrap_or_default();
    if let Some(schema) =
        schema.as_object_mut().filter(|_| !words.is_empty() && words.iter().all(Value::is_string))
    {
        schema.remove("oneOf");
        schema.insert("type".to_owned(), "string".into());
        schema.insert("enum".to_owned(), words.into());
    }
}

/// From what answers with an object or a list to what takes the id of one.
fn link(paths: &mut BTreeMap<String, Value>) {
    let all: Vec<(String, String, String)> = paths
        .iter()
        .flat_map(|(path, item)| operations(item).map(move |(method, operation)| (path, method, operation)))
        .filter_map(|(path, method, operation)| {
            Some((path.clone(), method.clone(), operation["operationId"].as_str()?.to_owned()))
        })
        .collect();
    for (path, item) in paths.iter_mut() {
        let Some(item) = item.as_object_mut() else { continue };
        for (method, operation) in item {
            let collection = path.strip_suffix("/search").unwrap_or(path);
            let (status, id) = match method.as_str() {
                "post" if operation["responses"].get("201").is_some() => ("201", "$response.body#/id"),
                "get" | "post" if operation["responses"].get("200").is_some() => {
                    ("200", "$response.body#/items/0/id")
                }
                _ => continue,
            };
            let own = IDS.iter().find(|(name, _)| operation["operationId"] == *name);
            let id = own.map_or(id, |(_, place)| *place);
            let mut links = Map::new();
            for (target, _, target_id) in &all {
                let below = target.strip_prefix(collection).and_then(|rest| rest.strip_prefix("/{"));
                let Some((parameter, _)) = below.and_then(|rest| rest.split_once('}')) else { continue };
                links.insert(
                    target_id.clone(),
                    json!({"operationId": target_id, "parameters": {parameter: id}}),
                );
            }
            if operation["operationId"] == "create_checkout_session" {
                for (member, target) in DRAFTS {
                    let id = format!("$response.body#/{member}");
                    links.insert(target.to_owned(), json!({"operationId": target, "parameters": {"id": id}}));
                }
            }
            if !links.is_empty() {
                operation["responses"][status]["links"] = links.into();
            }
        }
    }
}
