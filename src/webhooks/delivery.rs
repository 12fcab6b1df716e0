//! Deliveries: one event on its way to one endpoint, and the attempts at it.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;

use super::{EndpointId, EventId};
use crate::http::Named;

crate::define_ids! {
    /// One event for one endpoint, through all its attempts.
    DeliveryId = "dlv";
    /// One request.
    AttemptId = "att";
}

impl Named for DeliveryId {
    const NOUN: &'static str = "delivery";
}

crate::define_terms! {
    /// What became of a delivery.
    DeliveryStatus {
        /// It waits for its next attempt, or one is under way.
        Pending = "pending",
        /// The endpoint answered 2xx.
        Delivered = "delivered",
        /// The last attempt of the schedule failed, or the endpoint said 410.
        Exhausted = "exhausted",
        /// The endpoint was disabled or deleted first.
        Cancelled = "cancelled",
    }
}

/// What is shown of a delivery.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Delivery {
    /// Its id.
    pub id: DeliveryId,
    /// Where it goes.
    pub webhook_endpoint_id: EndpointId,
    /// What is delivered.
    pub event_id: EventId,
    /// The event's type.
    pub event_type: String,
    /// What became of it.
    #[schemars(with = "DeliveryStatus")]
    pub status: String,
    /// Attempts so far.
    pub attempt_count: i32,
    /// The last attempt's HTTP status; null when there was no answer.
    pub last_response_code: Option<i32>,
    /// Why the last attempt had no answer.
    pub last_error: Option<String>,
    /// When it is tried next; null once it no longer is.
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// When the endpoint answered 2xx, the last time.
    pub delivered_at: Option<DateTime<Utc>>,
    /// When the event happened.
    pub created_at: DateTime<Utc>,
    /// When the delivery last changed.
    pub updated_at: DateTime<Utc>,
}

/// What is shown of an attempt.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "DeliveryAttempt")]
pub struct Attempt {
    /// Its id.
    pub id: AttemptId,
    /// The delivery that it is an attempt at.
    pub delivery_id: DeliveryId,
    /// From 1, without gaps.
    pub attempt_number: i32,
    /// The HTTP status; null when there was no answer.
    pub response_code: Option<i32>,
    /// The first KiB of the answer.
    pub response_body: Option<String>,
    /// Why there was no answer.
    pub error: Option<String>,
    /// From the first byte out to the last one that was read.
    pub duration_ms: i64,
    /// When it began.
    pub attempted_at: DateTime<Utc>,
}
