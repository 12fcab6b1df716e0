//! Events: what merchants are told, frozen as bytes at the moment it became true.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize, Serializer, ser::SerializeMap};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::http::Named;

crate::define_ids! {
    /// An event; also its `webhook-id`, by which receivers drop repetitions.
    EventId = "evt";
}

impl Named for EventId {
    const NOUN: &'static str = "event";
}

/// What an event says. A closed list: endpoints subscribe by these names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventType {
    /// The session has a payment link.
    CheckoutSessionInitiated,
    /// The session is paid and its subscription active.
    CheckoutSessionCompleted,
    /// The provider refused or cancelled the link.
    CheckoutSessionFailed,
    /// The session ended unpaid.
    CheckoutSessionExpired,
    /// Money came after the session had ended; a refund follows.
    PaymentLate,
    /// Money is to be given back.
    RefundCreated,
    /// The provider gave it back.
    RefundSucceeded,
    /// The provider will not give it back by itself.
    RefundFailed,
    /// An endpoint gets nothing any more: it said so, or it failed for five days.
    WebhookEndpointDisabled,
    /// A merchant tries an endpoint.
    WebhookEndpointTest,
}

impl EventType {
    /// Every event type, in the order in which they are listed to people.
    pub const ALL: [Self; 10] = [
        Self::CheckoutSessionInitiated,
        Self::CheckoutSessionCompleted,
        Self::CheckoutSessionFailed,
        Self::CheckoutSessionExpired,
        Self::PaymentLate,
        Self::RefundCreated,
        Self::RefundSucceeded,
        Self::RefundFailed,
        Self::WebhookEndpointDisabled,
        Self::WebhookEndpointTest,
    ];

    /// As on the wire and in the tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CheckoutSessionInitiated => "checkout.session.initiated",
            Self::CheckoutSessionCompleted => "checkout.session.completed",
            Self::CheckoutSessionFailed => "checkout.session.failed",
            Self::CheckoutSessionExpired => "checkout.session.expired",
            Self::PaymentLate => "payment.late",
            Self::RefundCreated => "refund.created",
            Self::RefundSucceeded => "refund.succeeded",
            Self::RefundFailed => "refund.failed",
            Self::WebhookEndpointDisabled => "webhook.endpoint.disabled",
            Self::WebhookEndpointTest => "webhook.endpoint.test",
        }
    }
}

/// A name that is no event type.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an event type; known are {known}", known = EventType::ALL.map(EventType::as_str).join(", "))]
pub struct UnknownEventType(pub String);

impl FromStr for EventType {
    type Err = UnknownEventType;

    fn from_str(text: &str) -> Result<Self, UnknownEventType> {
        let found = Self::ALL.into_iter().find(|event_type| event_type.as_str() == text);
        found.ok_or_else(|| UnknownEventType(text.to_owned()))
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for EventType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl schemars::JsonSchema for EventType {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "EventType".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "enum": Self::ALL.map(Self::as_str)})
    }
}

impl<'de> Deserialize<'de> for EventType {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// An event with its final bytes; every attempt at every endpoint signs and sends exactly these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrozenEvent {
    /// Its id.
    pub id: EventId,
    /// What it says.
    pub event_type: EventType,
    /// What it is about: the id of a session, payment or refund.
    pub subject: Uuid,
    /// Its place among its subject's events: 1, 2, 3 … without gaps.
    pub sequence: i32,
    /// Compact JSON.
    pub body: Vec<u8>,
    /// When it became true.
    pub created_at: DateTime<Utc>,
}

/// Freezes an event about `object`, which appears as `data` and again as `object_name`
/// (`checkout_session`): the guide's handlers read the one, the SDK's types name the other.
///
/// Fails only when `object` cannot be JSON (a map whose keys are not strings).
pub fn freeze(
    id: EventId,
    event_type: EventType,
    subject: Uuid,
    sequence: i32,
    created_at: DateTime<Utc>,
    object_name: &'static str,
    object: &impl Serialize,
) -> Result<FrozenEvent, serde_json::Error> {
    let object = serde_json::value::to_raw_value(object)?;
    let envelope = Envelope { id, event_type, created_at, sequence, object_name, object: &object };
    let body = serde_json::to_vec(&envelope)?;
    Ok(FrozenEvent { id, event_type, subject, sequence, body, created_at })
}

struct Envelope<'o> {
    id: EventId,
    event_type: EventType,
    created_at: DateTime<Utc>,
    sequence: i32,
    object_name: &'static str,
    object: &'o RawValue,
}

impl Serialize for Envelope<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(6))?;
        map.serialize_entry("id", &self.id)?;
        map.serialize_entry("event_type", &self.event_type)?;
        map.serialize_entry("created_at", &self.created_at)?;
        map.serialize_entry("sequence", &self.sequence)?;
        map.serialize_entry("data", self.object)?;
        map.serialize_entry(self.object_name, self.object)?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_reads_back() {
        for event_type in EventType::ALL {
            assert_eq!(event_type.as_str().parse(), Ok(event_type));
            let json = serde_json::to_string(&event_type).expect("a string");
            assert_eq!(json, format!("\"{event_type}\""));
            assert_eq!(serde_json::from_str::<EventType>(&json).expect("the same string"), event_type);
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_known_ones() {
        let error = "checkout.session.paid".parse::<EventType>().expect_err("no such type").to_string();
        assert!(error.contains("checkout.session.paid"), "{error}");
        assert!(EventType::ALL.iter().all(|known| error.contains(known.as_str())), "{error}");
    }

    #[test]
    fn the_body_is_the_envelope_of_the_contract() {
        let frozen = freeze(
            EventId::from(Uuid::nil()),
            EventType::CheckoutSessionCompleted,
            Uuid::from_u128(7),
            2,
            DateTime::from_timestamp(1_767_225_600, 0).expect("a valid time"),
            "checkout_session",
            &serde_json::json!({"id": "chk_1", "amount": "499.00"}),
        )
        .expect("an object");
        let object = r#"{"amount":"499.00","id":"chk_1"}"#;
        let expected = format!(
            r#"{{"id":"evt_00000000000000000000000000","event_type":"checkout.session.completed","created_at":"2026-01-01T00:00:00Z","sequence":2,"data":{object},"checkout_session":{object}}}"#
        );
        assert_eq!(String::from_utf8(frozen.body).expect("JSON is UTF-8"), expected);
    }
}
