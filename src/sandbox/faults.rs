//! Faults: what can be told to go wrong, and when.

use serde::{Deserialize, Serialize};

use super::ledger::RefundStatus;

/// Everything that goes wrong at the moment. The default is: nothing.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Faults {
    /// Looked through in order on every API call; the first that matches and is not used up applies.
    pub rules: Vec<FaultRule>,
    /// Links younger than this are missing from `GET /v1/payment_links`, milliseconds of sandbox time.
    pub list_lag_ms: i64,
    /// What happens to webhooks.
    pub webhooks: WebhookFaults,
    /// How refunds made from now on end; `pending` ones wait to be settled by the control API.
    pub refund_outcome: RefundStatus,
}

/// One thing that goes wrong on one kind of call.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FaultRule {
    /// The call it applies to.
    pub op: Op,
    /// How many calls are left to fail; none: all of them.
    #[serde(default)]
    pub times: Option<u32>,
    /// What happens.
    #[serde(flatten)]
    pub kind: FaultKind,
}

impl FaultRule {
    /// The next `times` calls of `op`.
    pub fn times(times: u32, op: Op, kind: FaultKind) -> Self {
        Self { op, times: Some(times), kind }
    }

    /// Every call of `op` until faults are cleared.
    pub fn always(op: Op, kind: FaultKind) -> Self {
        Self { op, times: None, kind }
    }
}

/// The calls that can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// `POST /v1/payment_links`
    CreateLink,
    /// `GET /v1/payment_links/{id}`
    FetchLink,
    /// `GET /v1/payment_links`
    ListLinks,
    /// `POST /v1/payment_links/{id}/cancel`
    CancelLink,
    /// `GET /v1/payments/{id}`
    FetchPayment,
    /// `GET /v1/orders/{id}/payments`
    OrderPayments,
    /// `POST /v1/payments/{id}/refund`
    Refund,
    /// `GET /v1/refunds/{id}` and `GET /v1/payments/{id}/refunds`
    FetchRefund,
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum FaultKind {
    /// Answers this status without doing the work.
    Status {
        /// HTTP status; a 200 with a `body` is a well-mannered lie.
        code: u16,
        /// Sent as it is; none: what Razorpay sends with such a status.
        #[serde(default)]
        body: Option<String>,
        /// `Retry-After`, seconds.
        #[serde(default)]
        retry_after: Option<u32>,
    },
    /// Hangs without doing the work, until the client gives up.
    TimeoutBefore,
    /// Does the work, then hangs until the client gives up.
    TimeoutAfter,
    /// Does the work, then closes the connection without an answer.
    ResetAfter,
    /// Does the work and answers 200 with half of the JSON.
    Malformed,
    /// Does the work, late.
    DelayMs {
        /// Milliseconds of real time.
        delay_ms: u64,
    },
    /// Does the work of a create twice, as Razorpay promises not to: two links under one reference.
    Twice,
    /// Does the work and answers with another amount than was recorded.
    OtherAmount,
}

/// What goes wrong with webhooks.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct WebhookFaults {
    /// False: events that happen meanwhile are lost, as with a disabled webhook.
    pub enabled: bool,
    /// Every event comes this much later, milliseconds of sandbox time.
    pub delay_ms: i64,
    /// Every event comes twice.
    pub duplicate: bool,
    /// Events that are due come newest first.
    pub reorder: bool,
}

impl Default for WebhookFaults {
    fn default() -> Self {
        Self { enabled: true, delay_ms: 0, duplicate: false, reorder: false }
    }
}

impl Faults {
    /// Uses up one turn of the first matching rule.
    pub(super) fn take(&mut self, op: Op) -> Option<FaultKind> {
        let rule = self.rules.iter_mut().find(|rule| rule.op == op && rule.times != Some(0))?;
        if let Some(times) = &mut rule.times {
            *times -= 1;
        }
        Some(rule.kind.clone())
    }
}
