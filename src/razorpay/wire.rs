//! Razorpay's JSON, read tolerantly: members come and go, and several have more than one shape.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

/// A payment link.
#[derive(Clone, Debug, Deserialize)]
pub struct Link {
    /// `plink_…`
    pub id: String,
    /// Ours; empty when none was set.
    #[serde(default, deserialize_with = "or_default")]
    pub reference_id: String,
    /// Minor units.
    pub amount: i64,
    /// Minor units captured so far.
    #[serde(default, deserialize_with = "or_default")]
    pub amount_paid: i64,
    /// Upper-case code.
    pub currency: String,
    /// Where it is in its life.
    pub status: LinkStatus,
    /// The page where the customer pays.
    #[serde(default, deserialize_with = "or_default")]
    pub short_url: String,
    /// Unix seconds.
    #[serde(default, deserialize_with = "or_default")]
    pub created_at: i64,
    /// Set once somebody tried to pay.
    #[serde(default)]
    pub order_id: Option<String>,
    /// Captured payments; `null`, `[]` or a list, and empty in lists of links.
    #[serde(default, deserialize_with = "or_default")]
    pub payments: Vec<LinkPayment>,
}

/// A captured payment as a link lists it.
#[derive(Clone, Debug, Deserialize)]
pub struct LinkPayment {
    /// `pay_…`
    pub payment_id: String,
}

/// Where a link is in its life; only `created` can be cancelled, nothing leaves the last three.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "each variant is its wire name")]
pub enum LinkStatus {
    Created,
    PartiallyPaid,
    Paid,
    Cancelled,
    Expired,
    /// A word that Razorpay did not have when this was written.
    #[serde(other)]
    Other,
}

/// A payment.
#[derive(Clone, Debug, Deserialize)]
pub struct Payment {
    /// `pay_…`
    pub id: String,
    /// Minor units.
    pub amount: i64,
    /// Upper-case code.
    pub currency: String,
    /// Where it is in its life.
    pub status: PaymentStatus,
    /// The order a link made for it.
    #[serde(default)]
    pub order_id: Option<String>,
    /// `#` and the link's id without its prefix, for payments on links.
    #[serde(default)]
    pub description: Option<String>,
    /// Copied from the link.
    #[serde(default)]
    pub notes: Notes,
    /// Why an attempt failed, in words for people.
    #[serde(default)]
    pub error_description: Option<String>,
}

/// Where a payment is in its life. `failed` is not final: it may still become `captured`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "each variant is its wire name")]
pub enum PaymentStatus {
    Created,
    Authorized,
    Captured,
    Refunded,
    Failed,
    #[serde(other)]
    Other,
}

impl PaymentStatus {
    /// Whether the money reached the merchant, even if it went back since.
    pub fn was_captured(self) -> bool {
        matches!(self, Self::Captured | Self::Refunded)
    }
}

/// A refund.
#[derive(Clone, Debug, Deserialize)]
pub struct Refund {
    /// `rfnd_…`
    pub id: String,
    /// The payment it gives back.
    pub payment_id: String,
    /// Minor units.
    pub amount: i64,
    /// Whatever the one who made it called it; ours have their idempotency key here.
    #[serde(default)]
    pub receipt: Option<String>,
    /// Where it is in its life.
    pub status: RefundStatus,
}

/// Where a refund is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "each variant is its wire name")]
pub enum RefundStatus {
    Created,
    Pending,
    Processed,
    Failed,
    /// A word that Razorpay did not have when this was written.
    #[serde(other)]
    Other,
}

/// Key-value pairs: an object, `null`, `[]`, or a list of `{key,value}`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes(pub Map<String, Value>);

impl Notes {
    /// The text under `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(Value::as_str)
    }
}

impl<'de> Deserialize<'de> for Notes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(match Value::deserialize(deserializer)? {
            Value::Object(pairs) => pairs,
            Value::Array(items) => items.into_iter().filter_map(pair).collect(),
            _ => Map::new(),
        }))
    }
}

fn pair(item: Value) -> Option<(String, Value)> {
    let key = item.get("key")?.as_str()?.to_owned();
    Some((key, item.get("value")?.clone()))
}

/// The list of links has an envelope of its own.
#[derive(Deserialize)]
pub struct LinkList {
    #[serde(default, deserialize_with = "or_default")]
    pub payment_links: Vec<Link>,
}

/// Every other list.
#[derive(Deserialize)]
pub struct Collection<T> {
    #[serde(default = "Vec::new")]
    pub items: Vec<T>,
}

/// `null` reads as the default.
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// Body of `POST /payment_links`.
#[derive(Debug, Serialize)]
pub struct CreateLink<'a> {
    pub amount: i64,
    pub currency: &'a str,
    pub accept_partial: bool,
    pub description: &'a str,
    pub reference_id: &'a str,
    pub expire_by: i64,
    pub customer: &'a Customer,
    pub notify: Notify,
    pub reminder_enable: bool,
    pub notes: &'a Map<String, Value>,
    pub callback_url: &'a str,
    pub callback_method: &'static str,
}

/// Razorpay would send messages of its own; the merchant redirects instead.
#[derive(Debug, Serialize)]
pub struct Notify {
    pub sms: bool,
    pub email: bool,
}

/// Whom the payment page greets.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Customer {
    /// Full name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// E-mail address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Telephone number, 8 to 14 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contact: Option<String>,
}

/// Body of `POST /payments/{id}/refund`.
#[derive(Debug, Serialize)]
pub struct CreateRefund<'a> {
    pub amount: i64,
    pub speed: &'static str,
    pub receipt: &'a str,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::kit::money::{Money, every_currency};

    #[test]
    fn reads_every_shape_that_was_seen() {
        for (notes, customer, payments) in [
            (json!(null), json!({}), json!(null)),
            (json!([]), json!([]), json!([])),
            (json!({"a": "b"}), json!({"name": "x"}), json!([{"payment_id": "pay_1", "amount": 1}])),
        ] {
            let link = json!({"id": "plink_1", "amount": 100, "currency": "INR", "status": "created", "short_url": "https://rzp.io/i/x",
                "notes": notes, "customer": customer, "payments": payments, "reference_id": null, "reminders": {}});
            serde_json::from_value::<Link>(link).expect("a link");
        }
        let notes: Notes =
            serde_json::from_value(json!([{"key": "k", "value": "v"}])).expect("a list of pairs");
        assert_eq!(notes.get("k"), Some("v"));
    }

    /// The amount and currency that a link for `money` is asked for with, in the bytes that are sent.
    fn sent(money: Money) -> String {
        let (customer, notes) = (Customer::default(), Map::new());
        let body = CreateLink {
            amount: money.minor,
            currency: money.currency.code(),
            accept_partial: false,
            description: "",
            reference_id: "",
            expire_by: 0,
            customer: &customer,
            notify: Notify { sms: false, email: false },
            reminder_enable: false,
            notes: &notes,
            callback_url: "",
            callback_method: "get",
        };
        serde_json::to_string(&body).expect("a body")
    }

    proptest! {
        // A failure prints its smallest case; no file of seeds is kept.
        #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn money_comes_back_from_the_wire_as_it_was_sent(minor in prop_oneof![1..=i64::MAX, 1..=999_999_i64]) {
            for &currency in every_currency() {
                let money = Money::parse(&Money::new(minor, currency).decimal(), currency).expect("money");
                let echoed: Value = serde_json::from_str(&sent(money)).expect("JSON");
                prop_assert!(echoed["amount"].is_i64() || echoed["amount"].is_u64());
                let link = json!({
                    "id": "plink_1", "status": "paid", "amount": echoed["amount"], "currency": echoed["currency"],
                    "amount_paid": echoed["amount"],
                });
                let link: Link = serde_json::from_str(&link.to_string()).expect("a link");
                let back = Money::new(link.amount_paid, link.currency.parse().expect("a currency"));
                prop_assert_eq!(back, money);
                prop_assert_eq!(link.amount, minor);
            }
        }
    }
}
