//! When a session is looked at next. Arithmetic only; the looks are in `expire` and `aftercare`.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    model::Session,
    session::{LinkState, Status},
};
use crate::{app::App, kit::backoff};

/// After this long without a known outcome the worker asks the provider about an `initiated` session.
pub const CREATE_PATIENCE: TimeDelta = TimeDelta::seconds(15);

/// How long a session waits past its deadline for a provider that does not answer.
pub const DEADLINE_PATIENCE: TimeDelta = TimeDelta::minutes(10);

/// A link that was made shows up in the provider's lists by then, as a rule …
pub const LIST_LAG: TimeDelta = TimeDelta::seconds(30);
/// … and by then at the latest.
pub const LONG_LIST_LAG: TimeDelta = TimeDelta::minutes(5);

/// Between two looks at an open session. With the jitter and the worker's own poll, one that is paid completes
/// within a minute even if no webhook ever comes.
const SHORTEST_GAP: Duration = Duration::from_secs(10);
const LONGEST_GAP: Duration = Duration::from_secs(45);

/// Until the budget of reads is tried again for a session that has ended.
const ENDED_GAP: Duration = Duration::from_hours(1);

/// After the end of a session, money may still come: in a second tab, by a bank that answers late (Razorpay: up to
/// three days). Webhooks tell; these looks are for when they do not.
const AFTERCARE: [TimeDelta; 4] =
    [TimeDelta::minutes(5), TimeDelta::hours(1), TimeDelta::hours(24), TimeDelta::hours(73)];

/// The next look at a pending session, in case no webhook comes: after half its age, within bounds, where the budget of
/// reads allows it, and at its deadline.
pub fn next_look(app: &App, session: &Session) -> DateTime<Utc> {
    let now = app.clock.now();
    let half = ((now - session.created_at) / 2).to_std().unwrap_or_default();
    let gap = backoff::jittered(half.clamp(SHORTEST_GAP, LONGEST_GAP), 0.1, app.ids.fraction());
    let next = now + TimeDelta::from_std(gap).unwrap_or(CREATE_PATIENCE);
    // Before there is budget for it, it would only be put off.
    let next = app.razorpay.turn(session.connection.into(), next);
    // At the deadline itself, and not again right before it.
    if next + TimeDelta::seconds(2) >= session.expires_at { session.expires_at } else { next }
}

/// The next look at a session of which the last one failed.
pub fn after_failure(app: &App, session: &Session) -> DateTime<Utc> {
    // What is open has a deadline to meet, and a payer who may wait; an ended session has neither.
    let cap = if session.state.status.is_terminal() { 3600 } else { 45 };
    let (base, cap) = (Duration::from_secs(2), Duration::from_secs(cap));
    app.clock.now() + backoff::after(session.check_count, base, cap, app.ids.fraction())
}

/// The next look at a session for which the account's budget of reads had nothing left: an open one has a turn, no later
/// than at its deadline.
pub fn after_budget(app: &App, session: &Session) -> DateTime<Utc> {
    if session.state.status.is_terminal() {
        app.clock.now() + backoff::after(0, ENDED_GAP, ENDED_GAP, app.ids.fraction())
    } else {
        app.razorpay.put_off(session.connection.into()).min(session.expires_at)
    }
}

/// The next look at an ended session's link, or none.
pub fn aftercare(session: &Session, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let end = end_of(session);
    AFTERCARE.iter().map(|offset| end + *offset).find(|look| *look > now)
}

/// Whether `now` is the first of those looks.
pub fn is_first_aftercare(session: &Session, now: DateTime<Utc>) -> bool {
    now < end_of(session) + AFTERCARE[1]
}

/// When a session ended, or would have by itself.
pub fn end_of(session: &Session) -> DateTime<Utc> {
    session.completed_at.or(session.cancelled_at).unwrap_or(session.expires_at)
}

/// When the worker looks at a session that has just changed its status.
pub fn after_change(app: &App, session: &Session, never_made: bool) -> Option<DateTime<Utc>> {
    let now = session.updated_at;
    match (session.state.status, session.state.link_state) {
        // Cancelled while it was being made.
        (Status::Initiated | Status::Pending, _) if session.cancelled_at.is_some() => Some(now),
        (Status::Initiated | Status::Pending, _) => Some(next_look(app, session)),
        (_, LinkState::Closing) => Some(now),
        (Status::Completed, _) => aftercare(session, now),
        (_, LinkState::None) if never_made => None,
        // The create may have reached the provider without our knowing: look once its lists have caught up.
        (_, LinkState::None) => Some(now + LIST_LAG),
        (_, LinkState::Open | LinkState::Closed) => aftercare(session, now),
    }
}
