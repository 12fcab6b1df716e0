//! In-process hints that there is work. Postgres stays the truth: a lost hint costs a poll interval.

use std::future::Future;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// A kind of background work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Sessions whose `check_at` has come.
    Sessions,
    /// Provider events that wait.
    Inbox,
    /// Deliveries to merchants.
    Deliveries,
    /// Replays of endpoints.
    Replays,
    /// Refunds to send.
    Refunds,
    /// Subscriptions whose planned end has come.
    Cancellations,
    /// Old rows to remove.
    Sweep,
}

/// Who is told of what.
#[derive(Debug, Default)]
pub struct Wake {
    sessions: Notify,
    inbox: Notify,
    deliveries: Notify,
    replays: Notify,
    refunds: Notify,
    cancellations: Notify,
    sweep: Notify,
    session_ended: Notify,
    stopping: CancellationToken,
}

impl Wake {
    fn of(&self, work: Work) -> &Notify {
        match work {
            Work::Sessions => &self.sessions,
            Work::Inbox => &self.inbox,
            Work::Deliveries => &self.deliveries,
            Work::Replays => &self.replays,
            Work::Refunds => &self.refunds,
            Work::Cancellations => &self.cancellations,
            Work::Sweep => &self.sweep,
        }
    }

    /// Says that there is `work`; call it after the commit.
    pub fn notify(&self, work: Work) {
        self.of(work).notify_one();
    }

    /// Resolves when there may be `work`.
    pub async fn notified(&self, work: Work) {
        self.of(work).notified().await;
    }

    /// Says that some session of this process reached its end.
    pub fn session_ended(&self) {
        self.session_ended.notify_waiters();
    }

    /// Says that the process stops: who waits for something answers now.
    pub fn stop(&self) {
        self.stopping.cancel();
    }

    /// Whether the process is about to end: nothing more should be begun.
    pub fn is_stopping(&self) -> bool {
        self.stopping.is_cancelled()
    }

    /// Resolves once the process stops.
    pub async fn stopping(&self) {
        self.stopping.cancelled().await;
    }

    /// Resolves when some session of this process ends after this call.
    pub fn until_session_ended(&self) -> impl Future<Output = ()> + '_ {
        self.session_ended.notified()
    }
}
