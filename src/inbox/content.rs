//! What is kept of a provider event: an allow-list of its fields. No card, VPA, e-mail address or telephone
//! number is read, so none can be stored or logged.

use serde::{Deserialize, Deserializer, Serialize, de::Error};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::{
    checkout::{News, SESSION_NOTE, SessionId},
    kit::text::bounded,
    payments::{ProviderPayment, RefundId, RefundNews},
    razorpay::{LinkStatus, Payment, PaymentStatus, RefundStatus},
};

/// The envelope of every Razorpay webhook.
#[derive(Debug)]
pub struct Envelope {
    event: String,
    payload: Payload,
}

impl<'de> Deserialize<'de> for Envelope {
    /// The payload is read only of events that mean something here: others may have any shape, and an answer
    /// other than 2xx would make Razorpay repeat them for a day and then give the webhook up.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Raw {
            event: String,
            // Not looked into unless it is needed, then with the parser's own limits; never stored.
            payload: Option<Box<RawValue>>,
        }
        let Raw { event, payload } = Raw::deserialize(deserializer)?;
        let known =
            ["payment_link.", "payment.", "order.", "refund."].iter().any(|kind| event.starts_with(kind));
        let payload = match payload.filter(|_| known) {
            Some(payload) => serde_json::from_str(payload.get()).map_err(D::Error::custom)?,
            None => Payload::default(),
        };
        Ok(Self { event, payload })
    }
}

#[derive(Debug, Default, Deserialize)]
struct Payload {
    payment_link: Option<Entity<LinkEntity>>,
    payment: Option<Entity<Payment>>,
    order: Option<Entity<OrderEntity>>,
    refund: Option<Entity<RefundEntity>>,
}

#[derive(Debug, Deserialize)]
struct Entity<T> {
    entity: T,
}

#[derive(Debug, Deserialize)]
struct LinkEntity {
    id: String,
    #[serde(default)]
    reference_id: Option<String>,
    status: LinkStatus,
}

#[derive(Debug, Deserialize)]
struct OrderEntity {
    #[serde(default)]
    receipt: Option<String>,
}

#[derive(Debug, Deserialize)]
struct RefundEntity {
    id: String,
    payment_id: String,
    amount: i64,
    #[serde(default)]
    receipt: Option<String>,
    status: RefundStatus,
}

/// The kept part, as it lies in the inbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// `payment_link.paid` …
    pub event: String,
    /// `plink_…`
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub link_id: Option<String>,
    /// The session that the event claims to be about.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub session: Option<SessionId>,
    /// The payment's part.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub payment: Option<PaymentContent>,
    /// The refund's part.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub refund: Option<RefundContent>,
    /// The link's status, as the event saw it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub link_status: Option<String>,
    /// Whether Razorpay itself ties it to its session: by the link that it shows, or by the order's receipt.
    #[serde(default)]
    pub is_bound: bool,
}

/// The kept part of a payment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentContent {
    /// `pay_…`
    pub id: String,
    /// Minor units.
    pub amount: i64,
    /// Upper-case code.
    pub currency: String,
    /// Whether the money was captured, even if it went back since.
    pub captured: bool,
    /// Whether the try failed.
    pub failed: bool,
    /// Whether all of it has gone back.
    #[serde(default)]
    pub refunded: bool,
    /// Why, in the provider's words.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub failure: Option<String>,
}

/// The kept part of a refund.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefundContent {
    /// `rfnd_…`
    pub id: String,
    /// `pay_…`
    pub payment_id: String,
    /// Minor units.
    pub amount: i64,
    /// Our refund's id, where it is ours.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub receipt: Option<RefundId>,
    /// `created`, `pending`, `processed`, `failed`
    pub status: String,
}

/// What an event asks for.
#[derive(Debug)]
pub enum Meaning {
    /// A fact about a session.
    News(News),
    /// A fact about a refund of ours.
    Refund(RefundNews),
    /// Nothing that changes anything.
    Nothing,
    /// A captured payment that cannot be taken: unknown currency or no amount.
    Unusable,
}

impl Content {
    /// Keeps what is needed of a verified event.
    pub fn of(envelope: Envelope) -> Self {
        let payload = envelope.payload;
        let (link, payment) =
            (payload.payment_link.map(|link| link.entity), payload.payment.map(|payment| payment.entity));
        let receipt = payload.order.and_then(|order| order.entity.receipt);
        // Three ways to tie a bare payment to a link: the note, the order's receipt, and the description.
        let note = payment.as_ref().and_then(|payment| payment.notes.get(SESSION_NOTE));
        let reference =
            link.as_ref().and_then(|link| link.reference_id.as_deref()).or(receipt.as_deref()).or(note);
        let described =
            payment.as_ref().and_then(|payment| payment.description.as_deref()?.strip_prefix('#'));
        let link_id =
            link.as_ref().map(|link| link.id.clone()).or_else(|| described.map(|id| format!("plink_{id}")));
        let is_receipt = receipt.as_ref().is_some_and(|receipt| receipt.parse::<SessionId>().is_ok());
        Self {
            is_bound: link.is_some() || is_receipt,
            event: envelope.event.chars().take(100).collect(),
            session: reference.and_then(|reference| reference.parse().ok()),
            link_status: link.map(|link| format!("{:?}", link.status).to_ascii_lowercase()),
            link_id: link_id.map(|id| id.chars().take(100).collect()),
            payment: payment.map(Into::into),
            refund: payload.refund.map(|refund| refund.entity.into()),
        }
    }

    /// The same for two deliveries of the same event, whatever their unsigned headers say.
    pub fn hash(&self) -> Vec<u8> {
        let canonical = serde_json::to_vec(self).expect("strings, numbers and flags are JSON");
        Sha256::digest(canonical).to_vec()
    }

    /// Whether it tells of captured money that only the payer's browser ties to a session: notes and description of a
    /// payment can be set there, with any purchase at the same account. The link itself must be asked.
    pub fn is_hearsay(&self) -> bool {
        !self.is_bound && self.payment.as_ref().is_some_and(|payment| payment.captured)
    }

    /// Whether it may be about a session that is not there yet: it names one, or it is a bare payment that names
    /// nothing but a link. An event that shows the link itself shows whose it is.
    pub fn may_be_ours(&self) -> bool {
        self.session.is_some() || (self.link_id.is_some() && self.link_status.is_none())
    }

    /// What it asks for.
    pub fn meaning(&self) -> Meaning {
        if let Some(refund) = self.refund.as_ref().filter(|_| self.event.starts_with("refund.")) {
            return Meaning::Refund(refund.news());
        }
        match (&*self.event, &self.payment) {
            // The payment decides, not the event's name: an order or a link is paid by a captured payment.
            (
                "payment_link.paid" | "payment_link.partially_paid" | "payment.captured" | "order.paid",
                Some(payment),
            ) if payment.captured => match payment.provider_payment() {
                Some(captured) => {
                    Meaning::News(News::Paid { payment: captured, link_id: self.link_id.clone() })
                }
                None => Meaning::Unusable,
            },
            ("payment.failed", Some(payment)) if payment.failed => Meaning::News(News::AttemptFailed {
                provider_payment_id: payment.id.clone(),
                reason: payment.failure.clone(),
            }),
            ("payment_link.cancelled", _) => Meaning::News(News::LinkCancelled),
            ("payment_link.expired", _) => Meaning::News(News::LinkExpired),
            _ => Meaning::Nothing,
        }
    }
}

impl PaymentContent {
    fn provider_payment(&self) -> Option<ProviderPayment> {
        ProviderPayment::captured(&self.id, self.amount, &self.currency, self.refunded)
    }
}

impl From<Payment> for PaymentContent {
    fn from(payment: Payment) -> Self {
        Self {
            captured: payment.status.was_captured(),
            failed: payment.status == PaymentStatus::Failed,
            refunded: payment.status == PaymentStatus::Refunded,
            failure: payment.error_description.map(|text| bounded(&text, 500)),
            id: payment.id.chars().take(100).collect(),
            amount: payment.amount,
            currency: payment.currency.chars().take(10).collect(),
        }
    }
}

impl From<RefundEntity> for RefundContent {
    fn from(refund: RefundEntity) -> Self {
        Self {
            status: format!("{:?}", refund.status).to_ascii_lowercase(),
            id: refund.id.chars().take(100).collect(),
            payment_id: refund.payment_id.chars().take(100).collect(),
            amount: refund.amount,
            receipt: refund.receipt.and_then(|receipt| receipt.parse().ok()),
        }
    }
}

impl RefundContent {
    fn news(&self) -> RefundNews {
        RefundNews {
            provider_payment_id: self.payment_id.clone(),
            gateway_refund_id: self.id.clone(),
            receipt: self.receipt,
            amount_minor: self.amount,
            status: match &*self.status {
                "processed" => RefundStatus::Processed,
                "failed" => RefundStatus::Failed,
                "created" => RefundStatus::Created,
                _ => RefundStatus::Pending,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn content(value: serde_json::Value) -> Content {
        Content::of(serde_json::from_str(&value.to_string()).expect("an envelope"))
    }

    fn captured() -> serde_json::Value {
        json!({"entity": "event", "account_id": "acc_1", "event": "payment.captured", "contains": ["payment"], "payload": {"payment": {"entity": {
            "id": "pay_1", "amount": 49900, "currency": "INR", "status": "captured", "order_id": "order_1", "description": "#TT0ZukO5RmwdTF",
            "email": "person@example.com", "contact": "+919000090000", "vpa": "person@bank", "card": {"last4": "1007"}, "notes": []}}},
            "created_at": 1})
    }

    #[test]
    fn keeps_no_personal_data() {
        let kept = serde_json::to_string(&content(captured())).expect("JSON");
        for personal in ["person", "9000090000", "1007"] {
            assert!(!kept.contains(personal), "{kept}");
        }
        assert!(kept.contains("plink_TT0ZukO5RmwdTF"));
    }

    #[test]
    fn a_repeat_hashes_the_same_and_another_state_does_not() {
        let first = content(captured());
        let mut later = captured();
        later["created_at"] = json!(99);
        assert_eq!(first.hash(), content(later).hash());
        let mut failed = captured();
        failed["payload"]["payment"]["entity"]["status"] = json!("failed");
        assert_ne!(first.hash(), content(failed).hash());
    }

    #[test]
    fn unknown_events_and_words_are_no_errors() {
        let unknown =
            content(json!({"event": "subscription.charged", "payload": {"payment": {"entity": {"id": 7}}}}));
        assert!(matches!(unknown.meaning(), Meaning::Nothing));
        let link = json!({"entity": {"id": "plink_1", "reference_id": null, "status": "on_hold"}});
        let held = content(json!({"event": "payment_link.held", "payload": {"payment_link": link}}));
        assert!(matches!(held.meaning(), Meaning::Nothing));
        let wrong = json!({"event": "payment.captured", "payload": {"payment": {"entity": {"id": "pay_1", "amount": "5"}}}});
        assert!(serde_json::from_str::<Envelope>(&wrong.to_string()).is_err(), "money is never guessed");
    }

    #[test]
    fn an_authorized_payment_is_not_money() {
        let mut authorized = captured();
        authorized["payload"]["payment"]["entity"]["status"] = json!("authorized");
        assert!(matches!(content(authorized).meaning(), Meaning::Nothing));
        assert!(matches!(content(captured()).meaning(), Meaning::News(News::Paid { .. })));
    }
}
