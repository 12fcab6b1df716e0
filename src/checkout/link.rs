//! What we ask Razorpay for: the link's amount, deadline, notes and return address. Pure but for the clock.

use chrono::TimeDelta;
use chrono_tz::Tz;
use serde_json::{Map, Value};

use super::{model::Session, settle::News};
use crate::{
    app::App,
    customers::{Customer, Profile},
    razorpay::{self, Link, NewLink, ProviderError},
};

/// Note that ties a payment to its session; the merchant's metadata cannot overwrite it.
pub const SESSION_NOTE: &str = "checkout_session_id";
const INVOICE_NOTE: &str = "invoice_id";
const CUSTOMER_NOTE: &str = "customer_id";

const MAX_NOTES: usize = 15;
const MAX_NOTE_CHARACTERS: usize = 255;

/// Razorpay refuses links that expire within 15 minutes of its own clock; two more for skew and travel.
const SHORTEST_LINK_LIFE: TimeDelta = TimeDelta::minutes(17);
/// The link outlives the session a little; at the deadline we cancel it ourselves.
const SLACK: TimeDelta = TimeDelta::minutes(2);

/// Who pays: what the link and the billing periods depend on.
#[derive(Clone, Debug)]
pub struct Payer {
    pub name: String,
    pub email: Option<String>,
    pub contact: Option<String>,
    pub timezone: Tz,
}

impl From<Customer> for Payer {
    fn from(customer: Customer) -> Self {
        let Profile { name, email, contact, timezone, .. } = customer.profile;
        Self { name, email, contact, timezone }
    }
}

/// The link of a session. The same for every try, but for a deadline that may not be too close.
pub fn wanted(app: &App, session: &Session, payer: &Payer) -> NewLink {
    let earliest = app.clock.now() + SHORTEST_LINK_LIFE;
    NewLink {
        reference_id: session.id.to_string(),
        amount: session.state.amount,
        description: format!("Invoice {}", session.invoice),
        expire_by: (session.expires_at + SLACK).max(earliest).timestamp(),
        customer: razorpay::Customer {
            name: Some(payer.name.clone()),
            email: payer.email.clone(),
            contact: payer.contact.clone().filter(|contact| (8..=14).contains(&contact.chars().count())),
        },
        notes: notes(session),
        callback_url: format!("{}return/{}/{}", app.config.public_url, session.scope.environment, session.id),
    }
}

/// What asking for a link came to, as news for its session. An error settles nothing: ask again.
pub fn news(outcome: Result<Link, ProviderError>) -> Result<News, ProviderError> {
    match outcome {
        Ok(link) => Ok(News::LinkCreated { link_id: link.id, url: link.short_url }),
        Err(ProviderError::Mismatch { link_id }) => Ok(News::LinkMismatched { link_id }),
        Err(ProviderError::Rejected { description, .. }) => Ok(News::LinkRejected { reason: description }),
        Err(error) => Err(error),
    }
}

/// Ours first, then as much of the metadata as fits.
fn notes(session: &Session) -> Map<String, Value> {
    let ours = [
        (SESSION_NOTE, session.id.to_string()),
        (INVOICE_NOTE, session.invoice.to_string()),
        (CUSTOMER_NOTE, session.customer.to_string()),
    ];
    let mut notes: Map<_, _> =
        ours.into_iter().map(|(key, value)| (key.to_owned(), Value::String(value))).collect();
    let metadata = session.metadata.as_object().into_iter().flatten();
    for (key, value) in metadata {
        if notes.len() < MAX_NOTES && !notes.contains_key(key) {
            let text = value.as_str().unwrap_or_default().chars().take(MAX_NOTE_CHARACTERS).collect();
            notes.insert(key.clone(), Value::String(text));
        }
    }
    notes
}
