//! What the provider's answers mean for a refund: pure.

use std::time::Duration;

use super::refund::Refund;
use crate::razorpay::{self, RefundStatus as Word};

/// What a look at the provider came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The refund that was asked for, and where it stands.
    Ours {
        /// `rfnd_…`
        id: String,
        /// As the provider says.
        status: razorpay::RefundStatus,
    },
    /// All of it went back by other refunds; this was the last of them.
    GivenBack {
        /// `rfnd_…`
        id: String,
    },
    /// A part went back by other refunds; this much is left, in minor units.
    Left(i64),
    /// Refused, or not answered.
    NotYet {
        /// For people.
        why: String,
        /// The provider's own wish.
        retry_after: Option<Duration>,
    },
}

/// What follows from the refunds that a payment has at the provider, after ours, sent under `key`, was refused
/// for the reason `why`.
pub fn judge(
    listed: &[razorpay::Refund],
    refund: &Refund,
    why: String,
    retry_after: Option<Duration>,
) -> Answer {
    let key = refund.idempotency_key.to_string();
    // A try of ours whose answer was lost.
    if let Some(ours) = listed.iter().find(|listed| listed.receipt.as_deref() == Some(&*key)) {
        return Answer::Ours { id: ours.id.clone(), status: ours.status };
    }
    let living = || listed.iter().filter(|listed| listed.status != Word::Failed);
    if living().any(|listed| listed.status != Word::Processed) {
        let why = "another refund of the same payment is under way".into();
        return Answer::NotYet { why, retry_after };
    }
    let given_back = living().fold(0_i64, |sum, listed| sum.saturating_add(listed.amount));
    let left = refund.amount.minor.saturating_sub(given_back);
    // The list has the newest first.
    match living().next() {
        Some(last) if left <= 0 => Answer::GivenBack { id: last.id.clone() },
        _ if left != refund.asked_minor() => Answer::Left(left),
        _ => Answer::NotYet { why, retry_after },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payments::refunds::{RefundId, RefundReason, RefundStatus};

    const WHY: &str = "the payment has been fully refunded already";

    /// Of 499.00, sent under its own id.
    fn ours(send_minor: Option<i64>) -> Refund {
        let id = RefundId::from(uuid::Uuid::from_u128(7));
        let now = chrono::DateTime::UNIX_EPOCH;
        Refund {
            scope: crate::tenancy::Scope {
                tenant: uuid::Uuid::nil().into(),
                environment: uuid::Uuid::nil().into(),
            },
            id,
            session: uuid::Uuid::nil(),
            payment: uuid::Uuid::nil().into(),
            invoice: uuid::Uuid::nil().into(),
            connection: uuid::Uuid::nil().into(),
            provider_payment_id: "pay_1".into(),
            amount: crate::kit::money::Money::new(49_900, "INR".parse().expect("a currency")),
            status: RefundStatus::Pending,
            reason: RefundReason::LatePayment,
            gateway_refund_id: None,
            idempotency_key: id,
            send_minor,
            attempt_count: 0,
            failure_count: 0,
            last_error: None,
            next_attempt_at: now,
            lease_token: None,
            event_count: 2,
            initiated_at: None,
            succeeded_at: None,
            failed_at: None,
            alerted_at: None,
            created_at: now,
            updated_at: now,
        }
    }

    fn listed(id: &str, amount: i64, status: Word, receipt: Option<&str>) -> razorpay::Refund {
        razorpay::Refund {
            id: id.into(),
            payment_id: "pay_1".into(),
            amount,
            receipt: receipt.map(str::to_owned),
            status,
        }
    }

    fn judged(refund: &Refund, list: &[razorpay::Refund]) -> Answer {
        judge(list, refund, WHY.into(), None)
    }

    #[test]
    fn a_refusal_is_explained_by_the_refunds_that_are_there() {
        let refund = ours(None);
        let key = refund.idempotency_key.to_string();
        let refused = Answer::NotYet { why: WHY.into(), retry_after: None };
        assert_eq!(judged(&refund, &[]), refused);
        for status in [Word::Pending, Word::Processed, Word::Failed] {
            let own = listed("rfnd_own", 49_900, status, Some(&key));
            assert_eq!(judged(&refund, &[own]), Answer::Ours { id: "rfnd_own".into(), status });
        }
        let whole = |status| listed("rfnd_1", 49_900, status, None);
        assert_eq!(judged(&refund, &[whole(Word::Processed)]), Answer::GivenBack { id: "rfnd_1".into() });
        assert_eq!(judged(&refund, &[whole(Word::Failed)]), refused);
        // It may still fail: nothing is concluded, and nothing is sent beside it.
        let waiting = judged(&refund, &[whole(Word::Pending)]);
        assert!(matches!(&waiting, Answer::NotYet { why, .. } if why != WHY), "{waiting:?}");
    }

    #[test]
    fn what_went_back_in_parts_leaves_the_rest() {
        let part = |amount, status| listed("rfnd_2", amount, status, Some("by hand"));
        let first = listed("rfnd_1", 10_000, Word::Processed, None);
        let refund = ours(None);
        assert_eq!(judged(&refund, &[part(1, Word::Failed), first.clone()]), Answer::Left(39_900));
        assert_eq!(judged(&refund, &[part(9_900, Word::Processed), first.clone()]), Answer::Left(30_000));
        let rest = judged(&refund, &[part(39_900, Word::Processed), first.clone()]);
        assert_eq!(rest, Answer::GivenBack { id: "rfnd_2".into() }, "the newest");
        assert!(matches!(judged(&refund, &[part(1, Word::Created), first.clone()]), Answer::NotYet { .. }));
        // The rest was asked for already, so there is another reason; and it may have become more.
        assert!(matches!(judged(&ours(Some(39_900)), &[first]), Answer::NotYet { why, .. } if why == WHY));
        assert_eq!(judged(&ours(Some(39_900)), &[]), Answer::Left(49_900));
    }
}
