//! Every answer in every scenario is one that the description of the API has: its status, and its body by the schema.

use std::{
    cmp::Reverse,
    collections::HashMap,
    sync::{LazyLock, Mutex},
};

use axum::http::Method;
use jsonschema::Validator;
use serde_json::{Value, json};

use super::Reply;

pub static DOCUMENT: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_slice(&checkoutd::http::document()).unwrap());

/// Compiled schemas by their place in the document; none where an answer has no body.
static VALIDATORS: LazyLock<Mutex<HashMap<String, Option<&'static Validator>>>> =
    LazyLock::new(Mutex::default);

/// Every operation: its path, its method in lower case, and what is said of it.
pub fn operations() -> impl Iterator<Item = (&'static str, &'static str, &'static Value)> {
    let paths = DOCUMENT["paths"].as_object().unwrap();
    paths.iter().flat_map(|(path, item)| {
        let operations = item.as_object().unwrap().iter();
        operations.map(move |(method, operation)| (path.as_str(), method.as_str(), operation))
    })
}

/// Panics when the answer is not described.
#[track_caller]
pub fn check(method: &Method, path: &str, reply: &Reply) {
    // Others answer tests too: the sandbox, receivers.
    if !reply.headers.contains_key("x-request-id") {
        return;
    }
    // What is not served is not described, though a described path may fit its own: `/customers/usage`.
    if reply.status == 501 && reply.json()["details"]["reason"] == "operation_not_supported" {
        return;
    }
    let Some((template, operation)) = find(method, path) else { return };
    let status = reply.status.to_string();
    let response = resolve(&operation["responses"][&status]);
    assert!(!response.is_null(), "{method} {template} does not describe the answer {status}: {}", reply.text);
    let place = format!("{method} {template} {status}");
    match validator(&place, response) {
        None => assert_eq!(reply.text, "", "{place} describes no body"),
        Some(validator) => {
            let errors: Vec<_> = validator
                .iter_errors(&reply.json())
                .map(|error| format!("{} {error}", error.instance_path()))
                .collect();
            assert!(errors.is_empty(), "{place} does not describe {}: {errors:#?}", reply.text);
        }
    }
}

/// The operation that a path means: literal segments win over parameters, as in the router.
pub fn find(method: &Method, path: &str) -> Option<(&'static str, &'static Value)> {
    let paths = DOCUMENT["paths"].as_object().unwrap();
    let fits = paths.iter().filter(|(template, _)| matches(template, path));
    let (template, item) =
        fits.min_by_key(|(template, _)| (template.matches('{').count(), Reverse(template.len())))?;
    let operation = item.get(method.as_str().to_ascii_lowercase())?;
    Some((template, operation))
}

fn matches(template: &str, path: &str) -> bool {
    // The one parameter that may hold slashes, and what may follow it.
    if let Some(prefix) = template.strip_suffix("{external_id}/subscriptions") {
        let name = path.strip_prefix(prefix).and_then(|rest| rest.strip_suffix("/subscriptions"));
        return name.is_some_and(|name| !name.is_empty());
    }
    if let Some(prefix) = template.strip_suffix("{external_id}") {
        return path.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty());
    }
    let (mut wanted, mut given) = (template.split('/'), path.split('/'));
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return true,
            (Some(wanted), Some(given))
                if wanted == given || wanted.starts_with('{') && !given.is_empty() => {}
            _ => return false,
        }
    }
}

fn resolve(response: &'static Value) -> &'static Value {
    match response["$ref"].as_str() {
        Some(reference) => DOCUMENT.pointer(reference.trim_start_matches('#')).unwrap(),
        None => response,
    }
}

fn validator(place: &str, response: &Value) -> Option<&'static Validator> {
    let mut validators = VALIDATORS.lock().unwrap();
    *validators.entry(place.to_owned()).or_insert_with(|| {
        let schema = response["content"]["application/json"].get("schema")?;
        // With those that it refers to, by their place in the document, and no others: each is compiled.
        let mut needed = serde_json::Map::new();
        gather(schema, &mut needed);
        let whole = json!({"allOf": [schema], "components": {"schemas": needed}});
        let validator = jsonschema::options().should_validate_formats(true).build(&whole).unwrap();
        Some(Box::leak(Box::new(validator)))
    })
}

/// The schemas that one refers to, and theirs.
fn gather(schema: &Value, needed: &mut serde_json::Map<String, Value>) {
    match schema {
        Value::Object(members) => {
            let name = members.get("$ref").and_then(Value::as_str);
            if let Some(name) = name.and_then(|place| place.strip_prefix("#/components/schemas/"))
                && !needed.contains_key(name)
            {
                let found = &DOCUMENT["components"]["schemas"][name];
                needed.insert(name.to_owned(), found.clone());
                gather(found, needed);
            }
            members.values().for_each(|member| gather(member, needed));
        }
        Value::Array(items) => items.iter().for_each(|item| gather(item, needed)),
        _ => {}
    }
}
