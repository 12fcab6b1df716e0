//! Deliveries: one event on its way to one endpoint.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::{EndpointId, EventId};

crate::define_ids! {
    /// One event for one endpoint, through all its attempts.
    DeliveryId = "dlv";
}

/// What is shown of a delivery.
#[derive(Debug, Serialize)]
pub struct Delivery {
    /// Its id.
    pub id: DeliveryId,
    /// Where it goes.
    pub webhook_endpoint_id: EndpointId,
    /// What is delivered.
    pub event_id: EventId,
    /// The event's type.
    pub event_type: String,
    /// `pending`, `delivered`, `exhausted` (the last attempt failed, or the endpoint said 410) or
    /// `cancelled` (the endpoint was disabled or deleted first).
    pub status: String,
    /// Attempts so far.
    pub attempt_count: i32,
    /// The last attempt's HTTP status; null when there was no answer.
    pub last_response_code: Option<i32>,
    /// Why the last attempt had no answer.
    pub last_error: Option<String>,
    /// When it is tried next; null once it no longer is.
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// When the endpoint answered 2xx.
    pub delivered_at: Option<DateTime<Utc>>,
    /// When the event happened.
    pub created_at: DateTime<Utc>,
    /// When the delivery last changed.
    pub updated_at: DateTime<Utc>,
}
