//! The body of a create request: every rule that Razorpay has for it, with the texts it answers.

use chrono::{DateTime, Months, Utc};
use iso_currency::Currency;
use serde::Deserialize;
use serde_json::{Map, Value};
use url::Url;

use super::errors::WireError;
use super::ledger::LinkTerms;

/// A test account's cap, INR 500,000.00.
const MAX_INR_MINOR: i64 = 50_000_000;
const MIN_INR_MINOR: i64 = 100;
const MIN_LIFE_SECONDS: i64 = 15 * 60;
const FIELDS: [&str; 15] = [
    "amount",
    "currency",
    "accept_partial",
    "first_min_partial_amount",
    "description",
    "reference_id",
    "customer",
    "expire_by",
    "notify",
    "reminder_enable",
    "notes",
    "callback_url",
    "callback_method",
    "upi_link",
    "options",
];

#[derive(Default, Deserialize)]
#[serde(default)]
struct Body {
    amount: Value,
    currency: Option<String>,
    accept_partial: Option<bool>,
    first_min_partial_amount: Option<i64>,
    description: Option<String>,
    reference_id: Option<String>,
    customer: Value,
    expire_by: Option<i64>,
    notify: Option<Notify>,
    reminder_enable: Option<bool>,
    notes: Value,
    callback_url: Option<String>,
    callback_method: Option<String>,
    upi_link: Option<bool>,
    options: Option<Value>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Notify {
    sms: bool,
    email: bool,
}

/// Parses and validates the body of `POST /v1/payment_links`. All problems are told at once, joined by `; `.
pub(super) fn parse_terms(body: &[u8], live: bool, now: DateTime<Utc>) -> Result<LinkTerms, WireError> {
    let body = parse_body(body)?;
    let mut problems = Vec::new();
    let amount = check_amount(&body, &mut problems)?;
    check_partial(&body, amount, &mut problems);
    check_texts(&body, &mut problems);
    check_expire_by(&body, now, &mut problems);
    check_callback(&body, &mut problems);
    check_upi(&body, live, &mut problems);
    let customer = check_customer(&body, &mut problems)?;
    let notes = check_notes(&body, &mut problems)?;
    if !problems.is_empty() {
        return Err(WireError::link(format!("{}.", problems.join("; "))));
    }
    let accept_partial = body.accept_partial.unwrap_or(false);
    let notify = body.notify.unwrap_or_default();
    Ok(LinkTerms {
        amount,
        currency: body.currency.unwrap_or_else(|| "INR".to_owned()),
        accept_partial,
        first_min_partial_amount: body.first_min_partial_amount.unwrap_or(i64::from(accept_partial) * 100),
        description: body.description.unwrap_or_default(),
        reference_id: body.reference_id.unwrap_or_default(),
        customer,
        expire_by: body.expire_by.unwrap_or(0),
        notify_email: notify.email,
        notify_sms: notify.sms,
        reminder_enable: body.reminder_enable.unwrap_or(false),
        notes,
        callback_url: body.callback_url,
        callback_method: body.callback_method,
        has_options: body.options.is_some(),
    })
}

fn parse_body(body: &[u8]) -> Result<Body, WireError> {
    if body.is_empty() {
        return Ok(Body::default());
    }
    let fields: Map<String, Value> = serde_json::from_slice(body)
        .map_err(|_| WireError::link("incorrect JSON object received - faulty key: ."))?;
    if fields.keys().any(|key| !FIELDS.contains(&key.as_str())) {
        return Err(WireError::link("extra fields sent."));
    }
    serde_path_to_error::deserialize(Value::Object(fields))
        .map_err(|error| faulty_key(&error.path().to_string()))
}

fn faulty_key(key: &str) -> WireError {
    WireError::link(format!("incorrect JSON object received - faulty key: {key}."))
}

fn check_amount(body: &Body, problems: &mut Vec<String>) -> Result<i64, WireError> {
    let amount = match &body.amount {
        Value::Null => 0,
        Value::Number(number) if number.is_f64() => {
            return Err(WireError::link("amount, should be a whole number for e.g. 2234"));
        }
        // Only an integer above i64::MAX is neither a float nor an i64.
        Value::Number(number) => number.as_i64().unwrap_or(i64::MAX),
        _ => return Err(faulty_key("amount")),
    };
    let currency = body.currency.as_deref().unwrap_or("INR");
    if Currency::from_code(currency).is_none() {
        problems.push(
            "amount: currency: wrong input field, please find the list of supported currencies on the documentation"
                .to_owned(),
        );
    } else if amount == 0 {
        problems.push("amount: cannot be blank".to_owned());
    } else if currency == "INR" && amount < MIN_INR_MINOR {
        problems.push("amount: amount should be minimum 1.00 for INR".to_owned());
    } else if amount < 0 {
        problems.push(format!("amount: amount should be minimum 1 for {currency}"));
    } else if (currency == "INR" && amount > MAX_INR_MINOR) || amount == i64::MAX {
        return Err(WireError::link("amount exceeds maximum amount allowed."));
    }
    Ok(amount)
}

fn check_partial(body: &Body, amount: i64, problems: &mut Vec<String>) {
    let accept = body.accept_partial.unwrap_or(false);
    let first = body.first_min_partial_amount.unwrap_or(i64::from(accept) * 100);
    if body.first_min_partial_amount.is_some_and(|first| !accept || first < MIN_INR_MINOR) {
        problems.push("first_min_partial_amount: amount should be minimum 100 for INR".to_owned());
    } else if amount != 0 && first > amount {
        // Zero counts as well: that is how the live API answers a negative amount.
        problems.push(format!("first_min_partial_amount: {first} must be less than or equal to {amount}"));
    }
}

fn check_texts(body: &Body, problems: &mut Vec<String>) {
    let too_long = |text: &Option<String>, max| text.as_ref().is_some_and(|text| text.chars().count() > max);
    if too_long(&body.description, 2048) {
        problems.push("description: the length must be no more than 2048".to_owned());
    }
    if too_long(&body.reference_id, 40) {
        problems.push("reference_id: the length must be no more than 40".to_owned());
    }
}

fn check_expire_by(body: &Body, now: DateTime<Utc>, problems: &mut Vec<String>) {
    let Some(expire_by) = body.expire_by.filter(|at| *at != 0) else { return };
    let latest = now.checked_add_months(Months::new(6)).map_or(i64::MAX, |at| at.timestamp());
    if expire_by < now.timestamp() + MIN_LIFE_SECONDS {
        problems.push("expire_by: timestamp must be atleast 15 minutes in future".to_owned());
    } else if expire_by > latest {
        problems.push("expire_by: timestamp must be at most 6 months in future".to_owned());
    }
}

fn check_callback(body: &Body, problems: &mut Vec<String>) {
    let Some(callback_url) = &body.callback_url else { return };
    if !Url::parse(callback_url).is_ok_and(|url| url.has_host()) {
        problems.push("callback_url: URL should be sent in callback_url field".to_owned());
    }
    if body.callback_method.as_deref() != Some("get") {
        problems.push("callback_method: must be a valid value".to_owned());
    }
}

fn check_upi(body: &Body, live: bool, problems: &mut Vec<String>) {
    if !body.upi_link.unwrap_or(false) {
        return;
    }
    problems.push(
        if !live {
            "UPI Payment Links is not supported in Test Mode. Please experience the product in Live Mode"
        } else if body.currency.as_deref().is_some_and(|currency| currency != "INR") {
            "upi is currently supported only in indian currency"
        } else if body.accept_partial.unwrap_or(false) {
            "partial payment not supported in upi link"
        } else {
            return;
        }
        .to_owned(),
    );
}

/// An object, or what clients send for an empty one: null, `[]`.
fn object_at(value: &Value, key: &str) -> Result<Option<Map<String, Value>>, WireError> {
    match value {
        Value::Null => Ok(None),
        Value::Array(items) if items.is_empty() => Ok(None),
        Value::Object(fields) if fields.is_empty() => Ok(None),
        Value::Object(fields) => Ok(Some(fields.clone())),
        _ => Err(faulty_key(key)),
    }
}

fn check_customer(body: &Body, problems: &mut Vec<String>) -> Result<Option<Map<String, Value>>, WireError> {
    let Some(customer) = object_at(&body.customer, "customer")? else { return Ok(None) };
    for (key, value) in &customer {
        let Some(text) = value.as_str() else { return Err(faulty_key(&format!("customer.{key}"))) };
        match key.as_str() {
            "email" if !text.is_empty() && !looks_like_email(text) => {
                problems.push("email: must be in a valid format".to_owned());
            }
            "contact" if !text.is_empty() && !(8..=14).contains(&text.chars().count()) => {
                problems.push("contact: the length must be between 8 and 14".to_owned());
            }
            _ => {}
        }
    }
    Ok(Some(customer))
}

fn looks_like_email(text: &str) -> bool {
    text.split_once('@').is_some_and(|(name, domain)| {
        !name.is_empty() && domain.contains('.') && !domain.starts_with('.') && !domain.ends_with('.')
    }) && !text.contains(char::is_whitespace)
}

fn check_notes(body: &Body, problems: &mut Vec<String>) -> Result<Option<Map<String, Value>>, WireError> {
    let Some(notes) = object_at(&body.notes, "notes")? else { return Ok(None) };
    if notes.len() > 15 {
        problems.push("notes: the length must be no more than 15".to_owned());
    }
    let length = |value: &Value| match value {
        Value::Object(_) | Value::Array(_) => Err(faulty_key("notes")),
        Value::String(text) => Ok(text.chars().count()),
        scalar => Ok(scalar.to_string().len()),
    };
    for (key, value) in &notes {
        if length(value)? > 255 {
            problems.push("value: the length must not be greater than 255".to_owned());
        }
        if key.chars().count() > 255 {
            problems.push("key: the length must not be greater than 255".to_owned());
        }
    }
    Ok(Some(notes))
}
