//! What we ask Razorpay for: the link's amount, deadline, notes and return address. Pure but for the clock.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value};

use super::{model::Session, session::SessionId, settle::News};
use crate::{
    app::App,
    customers::{Customer, CustomerId},
    invoices::InvoiceId,
    kit::money::Money,
    razorpay::{self, Link, NewLink, ProviderError},
    tenancy::EnvironmentId,
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

/// The part of a session that its link is made from.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'s> {
    pub session: SessionId,
    pub invoice: InvoiceId,
    pub customer: CustomerId,
    pub amount: Money,
    pub expires_at: DateTime<Utc>,
    pub metadata: &'s Value,
}

impl<'s> From<&'s Session> for Terms<'s> {
    fn from(session: &'s Session) -> Self {
        Self {
            session: session.id,
            invoice: session.invoice,
            customer: session.customer,
            amount: session.state.amount,
            expires_at: session.expires_at,
            metadata: &session.metadata,
        }
    }
}

/// The link of a session. The same for every try, but for a deadline that may not be too close.
pub fn wanted(app: &App, environment: EnvironmentId, terms: &Terms<'_>, customer: &Customer) -> NewLink {
    let earliest = app.clock.now() + SHORTEST_LINK_LIFE;
    NewLink {
        reference_id: terms.session.to_string(),
        amount: terms.amount,
        description: format!("Invoice {}", terms.invoice),
        expire_by: (terms.expires_at + SLACK).max(earliest).timestamp(),
        customer: razorpay::Customer {
            name: Some(customer.name.clone()),
            email: customer.email.clone(),
            contact: customer.contact.clone().filter(|contact| (8..=14).contains(&contact.chars().count())),
        },
        notes: notes(terms),
        callback_url: format!("{}return/{environment}/{}", app.config.public_url, terms.session),
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
fn notes(terms: &Terms<'_>) -> Map<String, Value> {
    let ours = [
        (SESSION_NOTE, terms.session.to_string()),
        (INVOICE_NOTE, terms.invoice.to_string()),
        (CUSTOMER_NOTE, terms.customer.to_string()),
    ];
    let mut notes: Map<_, _> =
        ours.into_iter().map(|(key, value)| (key.to_owned(), Value::String(value))).collect();
    let metadata = terms.metadata.as_object().into_iter().flatten();
    for (key, value) in metadata {
        if notes.len() < MAX_NOTES && !notes.contains_key(key) {
            let text = value.as_str().unwrap_or_default().chars().take(MAX_NOTE_CHARACTERS).collect();
            notes.insert(key.clone(), Value::String(text));
        }
    }
    notes
}
