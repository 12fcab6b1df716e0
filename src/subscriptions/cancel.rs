//! Cancelling: now, at the period's end, or on a day that the merchant names.
//!
//! What a wish comes to is decided without I/O, and written under the subscription's lock. `cancel_due.rs` carries
//! out what was planned.

use chrono::{DateTime, Utc};

use super::{CancellationType, Subscription, SubscriptionId, SubscriptionStatus, draft, store};
use crate::{
    app::App,
    db,
    http::{ApiError, Named, Reserved},
    tenancy::Scope,
};

/// What the merchant asks for.
#[derive(Clone, Debug)]
pub struct Wish {
    pub kind: CancellationType,
    /// Required for a scheduled date; a day that has passed for an immediate one; else absent.
    pub cancel_at: Option<DateTime<Utc>>,
    pub reason: Option<String>,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Cancellation {
    /// As it is now.
    pub subscription: Subscription,
    /// When it ends, or ended.
    pub effective_at: DateTime<Utc>,
    /// When the wish was looked at.
    pub processed_at: DateTime<Utc>,
}

/// Ends a subscription, or plans its end. The last wish counts; the same one again changes nothing, and of several runs
/// of the same request one has an effect.
///
/// # Errors
/// 404 unknown or archived; 400 `invalid_operation` for a draft, which its checkout decides about, and for one that is
/// cancelled; 400 `validation_error` for a day before it started.
pub async fn cancel(
    app: &App,
    scope: Scope,
    id: SubscriptionId,
    wish: Wish,
    reserved: Reserved,
) -> Result<Cancellation, ApiError> {
    draft::refuse_draft(app, scope, id, "it has not started").await?;
    let now = app.clock.now();
    db::transact(&app.pool, "cancel_subscription", move |tx| {
        let (wish, reserved) = (wish.clone(), reserved.clone());
        Box::pin(async move {
            let locked = store::lock(tx, scope, id).await?;
            let before = locked.ok_or_else(|| ApiError::not_found(SubscriptionId::NOUN))?;
            if let Some(cancelled_at) =
                before.cancelled_at.filter(|_| reserved.may_have_made(before.updated_at))
            {
                let processed_at = before.updated_at;
                return Ok(Cancellation { subscription: before, effective_at: cancelled_at, processed_at });
            }
            let (after, effective_at) = cancelled(&before, &wish, now)?;
            if is_other(&before, &after) {
                let from = before.subscription_status;
                let subscription = Subscription { version: before.version + 1, updated_at: now, ..after };
                if !store::mark_cancellation(tx, scope, &subscription, from).await? {
                    return Err(ApiError::internal(anyhow::anyhow!(
                        "subscription {id} changed under its lock"
                    )));
                }
                return Ok(Cancellation { subscription, effective_at, processed_at: now });
            }
            Ok(Cancellation { subscription: before, effective_at, processed_at: now })
        })
    })
    .await
}

/// The subscription after `wish`, and when it ends; or why not.
fn cancelled(
    before: &Subscription,
    wish: &Wish,
    now: DateTime<Utc>,
) -> Result<(Subscription, DateTime<Utc>), ApiError> {
    match before.subscription_status {
        SubscriptionStatus::Active
        | SubscriptionStatus::Paused
        | SubscriptionStatus::Incomplete
        | SubscriptionStatus::Trialing => {}
        SubscriptionStatus::Cancelled => return Err(already_cancelled()),
        // Only its checkout's payment takes it out of this state; see `draft::refuse_draft`.
        SubscriptionStatus::Draft => {
            return Err(ApiError::invalid_operation("the subscription is a draft").detail("reason", "draft"));
        }
    }
    if wish.cancel_at.is_some_and(|time| time <= now && time < before.start_date) {
        return Err(ApiError::validation("cancel_at", "must not be before the subscription's start_date"));
    }
    let effective_at = match wish.kind {
        CancellationType::Immediate => wish.cancel_at.unwrap_or(now),
        CancellationType::EndOfPeriod => before.current_period_end,
        CancellationType::ScheduledDate => {
            wish.cancel_at.ok_or_else(|| ApiError::validation("cancel_at", "is required"))?
        }
    };
    let mut after = before.clone();
    after.cancel_at = (wish.kind != CancellationType::Immediate).then_some(effective_at);
    after.cancel_at_period_end = wish.kind == CancellationType::EndOfPeriod;
    after.cancellation_reason = wish.reason.clone().or(after.cancellation_reason);
    if effective_at <= now {
        after.subscription_status = SubscriptionStatus::Cancelled;
        after.cancelled_at = Some(effective_at);
    }
    Ok((after, effective_at))
}

fn is_other(before: &Subscription, after: &Subscription) -> bool {
    let said = |subscription: &Subscription| {
        (
            subscription.subscription_status,
            subscription.cancel_at,
            subscription.cancel_at_period_end,
            subscription.cancellation_reason.clone(),
        )
    };
    said(before) != said(after)
}

pub fn already_cancelled() -> ApiError {
    ApiError::invalid_operation("the subscription is cancelled").detail("reason", "subscription_cancelled")
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::{catalog::BillingPeriod, db::RowStatus};

    fn now() -> DateTime<Utc> {
        "2026-11-23T09:30:00Z".parse().expect("a time")
    }

    /// Ten days into its month.
    fn active() -> Subscription {
        let start = now() - TimeDelta::days(10);
        Subscription {
            id: uuid::Uuid::nil().into(),
            customer: uuid::Uuid::nil().into(),
            plan: uuid::Uuid::nil().into(),
            subscription_status: SubscriptionStatus::Active,
            currency: "inr".parse().expect("a currency"),
            billing_period: BillingPeriod::Monthly,
            billing_period_count: 1,
            billing_anchor: start,
            timezone: "UTC".into(),
            start_date: start,
            end_date: None,
            current_period_start: start,
            current_period_end: start + TimeDelta::days(30),
            collection_method: "send_invoice".into(),
            lookup_key: None,
            metadata: serde_json::json!({}),
            version: 2,
            activated_at: Some(start),
            cancel_at: None,
            cancel_at_period_end: false,
            cancelled_at: None,
            cancellation_reason: None,
            status: RowStatus::Published,
            created_at: start,
            updated_at: start,
        }
    }

    fn wish(kind: CancellationType, cancel_at: Option<DateTime<Utc>>) -> Wish {
        Wish { kind, cancel_at, reason: None }
    }

    #[test]
    fn a_subscription_ends_when_its_cancellation_says_and_not_before() {
        use CancellationType::{EndOfPeriod, Immediate, ScheduledDate};
        let (yesterday, tomorrow) = (now() - TimeDelta::days(1), now() + TimeDelta::days(1));
        let period_end = active().current_period_end;
        for (wish, effective_at, cancel_at, ends) in [
            (wish(Immediate, None), now(), None, true),
            (wish(Immediate, Some(yesterday)), yesterday, None, true),
            (wish(EndOfPeriod, None), period_end, Some(period_end), false),
            (wish(ScheduledDate, Some(tomorrow)), tomorrow, Some(tomorrow), false),
            (wish(ScheduledDate, Some(now())), now(), Some(now()), true),
            (wish(ScheduledDate, Some(yesterday)), yesterday, Some(yesterday), true),
        ] {
            let (after, effective) = cancelled(&active(), &wish, now()).expect("possible");
            assert_eq!(effective, effective_at, "{wish:?}");
            assert_eq!(after.cancel_at, cancel_at, "{wish:?}");
            assert_eq!(after.cancel_at_period_end, wish.kind == EndOfPeriod);
            assert_eq!(after.cancelled_at, ends.then_some(effective_at), "{wish:?}");
            assert_eq!(after.subscription_status == SubscriptionStatus::Cancelled, ends, "{wish:?}");
            if ends {
                let again = cancelled(&after, &wish, now());
                assert!(again.is_err(), "{wish:?}");
            } else {
                let (again, _) = cancelled(&after, &wish, now() + TimeDelta::hours(1)).expect("harmless");
                assert!(!is_other(&after, &again), "{wish:?}");
            }
        }
    }

    #[test]
    fn the_last_wish_counts_and_a_passed_period_ends_it_at_once() {
        let planned = Subscription {
            cancel_at: Some(active().current_period_end),
            cancel_at_period_end: true,
            ..active()
        };
        let (after, _) =
            cancelled(&planned, &wish(CancellationType::Immediate, None), now()).expect("possible");
        assert_eq!((after.cancel_at, after.cancel_at_period_end), (None, false));
        assert_eq!(after.cancelled_at, Some(now()));
        let later = now() + TimeDelta::days(60);
        let (after, _) =
            cancelled(&active(), &wish(CancellationType::EndOfPeriod, None), later).expect("possible");
        assert_eq!(after.cancelled_at, Some(active().current_period_end));
    }

    #[test]
    fn nothing_ends_before_it_started() {
        let early = active().start_date - TimeDelta::seconds(1);
        for kind in [CancellationType::Immediate, CancellationType::ScheduledDate] {
            assert!(cancelled(&active(), &wish(kind, Some(early)), now()).is_err());
        }
        // It may end before it starts, as long as neither has come.
        let start_date = now() + TimeDelta::days(5);
        let future =
            Subscription { start_date, current_period_end: start_date + TimeDelta::days(30), ..active() };
        let date = wish(CancellationType::ScheduledDate, Some(now() + TimeDelta::days(1)));
        assert!(cancelled(&future, &date, now()).is_ok());
        assert!(cancelled(&future, &wish(CancellationType::Immediate, None), now()).is_ok());
    }
}
