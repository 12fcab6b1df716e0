//! A refund and the rules of its life: pure.
//!
//! ```text
//! PENDING ──> PROCESSING ──> SUCCEEDED     never changes again
//!    ^ └───────────┴──────> FAILED         Razorpay will not do it by itself
//!    └──── retry ─────────────┘
//! ```
//!
//! A person can close any of them as succeeded, without Razorpay.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::{judge::Answer, note::RefundNews};
use crate::{
    http::Named,
    invoices::InvoiceId,
    kit::{backoff, money::Money},
    payments::PaymentId,
    razorpay,
    tenancy::{ConnectionId, Scope},
    webhooks::EventType,
};

crate::define_ids! {
    /// A refund; also an idempotency key and receipt at the provider.
    RefundId = "refund";
}

impl Named for RefundId {
    const NOUN: &'static str = "refund";
}

crate::define_terms! {
    /// Where a refund is in its life.
    RefundStatus {
        /// To be sent, or refused or unanswered and to be sent again.
        Pending = "PENDING",
        /// The provider has it.
        Processing = "PROCESSING",
        /// The money went back.
        Succeeded = "SUCCEEDED",
        /// The provider gave it up.
        Failed = "FAILED",
    }

    /// Why captured money goes back.
    RefundReason {
        /// The session had ended unpaid.
        LatePayment = "late_payment",
        /// The session was paid already.
        DuplicatePayment = "duplicate_payment",
        /// Not the amount or not the currency that was owed.
        AmountMismatch = "amount_mismatch",
        /// It went back at the provider before we heard of it.
        RefundedAlready = "refunded_already",
    }
}

impl RefundStatus {
    /// Whether it is the worker's.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Pending | Self::Processing)
    }
}

/// Money that goes back.
#[derive(Clone, Debug)]
pub struct Refund {
    pub scope: Scope,
    pub id: RefundId,
    pub session: Uuid,
    pub payment: PaymentId,
    pub invoice: InvoiceId,
    /// The account that holds the money.
    pub connection: ConnectionId,
    pub provider_payment_id: String,
    /// What was captured.
    pub amount: Money,
    pub status: RefundStatus,
    pub reason: RefundReason,
    pub gateway_refund_id: Option<String>,
    /// The provider knows the present try by it.
    pub idempotency_key: RefundId,
    /// What is asked for when it is less than the amount: the rest went back by hand.
    pub send_minor: Option<i64>,
    /// Requests to give it back so far.
    pub attempt_count: i32,
    /// Those in a row that were refused or not answered.
    pub failure_count: i32,
    pub last_error: Option<String>,
    pub next_attempt_at: DateTime<Utc>,
    pub lease_token: Option<Uuid>,
    pub event_count: i32,
    pub initiated_at: Option<DateTime<Utc>>,
    pub succeeded_at: Option<DateTime<Utc>>,
    pub failed_at: Option<DateTime<Utc>>,
    pub alerted_at: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// Refused or unanswered this often in a row, which takes about 45 minutes, people are told.
const ALERT_AFTER_FAILURES: i32 = 10;
/// So are they of one that takes longer.
const ALERT_AFTER: TimeDelta = TimeDelta::hours(24);
/// And are told again while it lasts.
const ALERT_EVERY: TimeDelta = TimeDelta::hours(24);
const SEND_AGAIN_BASE: Duration = Duration::from_secs(5);
const SEND_AGAIN_CAP: Duration = Duration::from_secs(3600);
/// A refund under way is asked about at growing intervals, when no webhook says more.
const FOLLOW_UP_BASE: Duration = Duration::from_secs(10);
const FOLLOW_UP_CAP: Duration = Duration::from_secs(600);

impl Refund {
    /// What the provider is asked to give back, minor units.
    pub fn asked_minor(&self) -> i64 {
        self.send_minor.unwrap_or(self.amount.minor)
    }

    /// Takes over what a look at the provider came to; the event that tells of it, if one does. `fraction` is
    /// for jitter, `new_key` for another request than the last.
    pub fn learn(
        &mut self,
        answer: &Answer,
        now: DateTime<Utc>,
        fraction: f64,
        new_key: RefundId,
    ) -> Option<EventType> {
        if !self.status.is_open() {
            return None;
        }
        match answer {
            Answer::Ours { id, status } => self.become_what(id, *status, now, fraction),
            Answer::GivenBack { id } => {
                self.become_what(id, razorpay::RefundStatus::Processed, now, fraction)
            }
            // A webhook said meanwhile that the provider has ours.
            Answer::Left(_) if self.gateway_refund_id.is_some() => None,
            Answer::Left(minor) => {
                let first = self.send_minor.is_none();
                // Another amount is another request: under the old key it would be refused.
                self.send_minor = Some(*minor);
                self.idempotency_key = new_key;
                self.next_attempt_at = if first { now } else { now + self.back_off(fraction) };
                self.failure_count = self.failure_count.saturating_add(1);
                None
            }
            Answer::NotYet { why, retry_after } => {
                self.last_error = Some(why.clone());
                let wait = match self.status {
                    RefundStatus::Processing => self.follow_up(now, fraction),
                    _ => self.back_off(fraction),
                };
                let wished = retry_after.and_then(|wait| TimeDelta::from_std(wait).ok());
                self.next_attempt_at = now + wished.map_or(wait, |wished| wished.max(wait));
                self.failure_count = self.failure_count.saturating_add(1);
                None
            }
        }
    }

    /// Before the next request.
    fn back_off(&self, fraction: f64) -> TimeDelta {
        backoff::after(self.failure_count, SEND_AGAIN_BASE, SEND_AGAIN_CAP, fraction)
    }

    /// Whether `news` is about this refund. Merchants give money back by hand too: that counts when it is the
    /// whole payment and ours is not on its way.
    pub fn is_meant_by(&self, news: &RefundNews) -> bool {
        let by_id = self.gateway_refund_id.as_ref() == Some(&news.gateway_refund_id);
        let by_key = news.receipt == Some(self.idempotency_key);
        let by_hand = news.status == razorpay::RefundStatus::Processed
            && news.amount_minor == self.amount.minor
            && (self.gateway_refund_id.is_none() || self.status == RefundStatus::Failed);
        by_id || by_key || by_hand
    }

    /// Takes over what a webhook says; the event that tells of it, if one does. Webhooks come in any order: only
    /// success ends a failure, and nothing ends a success.
    pub fn hear(&mut self, news: &RefundNews, now: DateTime<Utc>, fraction: f64) -> Option<EventType> {
        let processed = news.status == razorpay::RefundStatus::Processed;
        if self.status == RefundStatus::Succeeded || (self.status == RefundStatus::Failed && !processed) {
            return None;
        }
        self.become_what(&news.gateway_refund_id, news.status, now, fraction)
    }

    /// Only from a state that may still change.
    fn become_what(
        &mut self,
        gateway_id: &str,
        status: razorpay::RefundStatus,
        now: DateTime<Utc>,
        fraction: f64,
    ) -> Option<EventType> {
        use razorpay::RefundStatus as Word;

        self.gateway_refund_id = Some(gateway_id.to_owned());
        self.initiated_at.get_or_insert(now);
        let event = match status {
            Word::Processed => {
                self.status = RefundStatus::Succeeded;
                self.last_error = None;
                (self.succeeded_at, self.failed_at) = (Some(now), None);
                EventType::RefundSucceeded
            }
            Word::Failed => {
                self.status = RefundStatus::Failed;
                self.last_error = Some("Razorpay reports the refund as failed".into());
                self.failed_at = Some(now);
                EventType::RefundFailed
            }
            Word::Created | Word::Pending | Word::Other => {
                self.status = RefundStatus::Processing;
                (self.last_error, self.failure_count) = (None, 0);
                self.next_attempt_at = now + self.follow_up(now, fraction);
                return None;
            }
        };
        self.event_count += 1;
        Some(event)
    }

    /// As long as it has been under way, within bounds: each wait is about twice the last.
    fn follow_up(&self, now: DateTime<Utc>, fraction: f64) -> TimeDelta {
        let under_way = (now - self.initiated_at.unwrap_or(now)).to_std().unwrap_or_default();
        let gap = under_way.clamp(FOLLOW_UP_BASE, FOLLOW_UP_CAP);
        TimeDelta::from_std(backoff::jittered(gap, 0.2, fraction)).unwrap_or(TimeDelta::MAX)
    }

    /// Whether people are to be told that it does not get through; notes that they were.
    pub fn is_stuck(&mut self, now: DateTime<Utc>) -> bool {
        let late = self.failure_count >= ALERT_AFTER_FAILURES || now - self.created_at >= ALERT_AFTER;
        let told = self.alerted_at.is_some_and(|at| now - at < ALERT_EVERY);
        let stuck = self.status.is_open() && late && !told;
        if stuck {
            self.alerted_at = Some(now);
        }
        stuck
    }

    /// Ends it on a person's word; the event that tells of it, unless it had succeeded before.
    pub fn close(&mut self, note: &str, now: DateTime<Utc>) -> Option<EventType> {
        if self.status == RefundStatus::Succeeded {
            return None;
        }
        self.status = RefundStatus::Succeeded;
        self.last_error = Some(format!("closed by hand: {note}"));
        // A worker that is at it must not write into it any more.
        self.lease_token = None;
        (self.succeeded_at, self.failed_at) = (Some(now), None);
        self.event_count += 1;
        Some(EventType::RefundSucceeded)
    }

    /// Makes it due at once: a failed one under `new_key`, since the old one would be answered with the failure.
    /// The status that forbids it, else.
    pub fn try_again(&mut self, new_key: RefundId, now: DateTime<Utc>) -> Result<(), RefundStatus> {
        match self.status {
            RefundStatus::Pending => {
                self.next_attempt_at = self.next_attempt_at.min(now);
                Ok(())
            }
            RefundStatus::Failed => {
                self.status = RefundStatus::Pending;
                self.idempotency_key = new_key;
                // A worker that still holds the failed try must not write into the new one.
                self.lease_token = None;
                (self.gateway_refund_id, self.initiated_at, self.failed_at) = (None, None, None);
                (self.failure_count, self.alerted_at) = (0, None);
                self.next_attempt_at = now;
                Ok(())
            }
            RefundStatus::Processing | RefundStatus::Succeeded => Err(self.status),
        }
    }
}
