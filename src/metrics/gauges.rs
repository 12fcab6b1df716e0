//! Gauges: how much waits in Postgres, and how long the oldest has waited. The same for every process.

use std::fmt::Write;

use chrono::{DateTime, TimeDelta, Utc};

use super::{Metrics, store};
use crate::{app::App, db};

/// So many scrapes as there may be: Postgres is asked once in this time.
const KEPT: TimeDelta = TimeDelta::seconds(5);

/// A number of rows, and the age of the oldest in seconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Queue {
    pub count: i64,
    pub oldest_seconds: f64,
}

/// What waits.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gauges {
    /// `initiated` and `pending` sessions.
    pub sessions_open: i64,
    /// Of these, those past their deadline; the age is the time since then.
    pub sessions_overdue: Queue,
    /// Links of ended sessions that Razorpay has not confirmed dead.
    pub links_closing: Queue,
    pub inbox_waiting: Queue,
    pub inbox_parked: Queue,
    /// Money that has not gone back yet.
    pub refunds_unsettled: Queue,
    /// Refunds that only a person can settle.
    pub refunds_failed: Queue,
    pub deliveries_pending: i64,
    /// Of these, those that should be sent by now; the age is the time since then.
    pub deliveries_due: Queue,
}

/// Gauges with the time they were read at; none where Postgres did not answer.
pub struct Read {
    at: DateTime<Utc>,
    /// Whether it answered at all: a count that takes too long is not an outage.
    is_up: bool,
    gauges: Option<Gauges>,
}

impl Metrics {
    /// Prometheus's text format, version 0.0.4. Without Postgres the gauges of its queues are missing, and
    /// `checkoutd_database_up` is 0. Where only the count failed, they are missing and it is 1.
    pub async fn render(&self, app: &App) -> String {
        let mut text = self.counters.render();
        let (is_up, gauges) = self.gauges(app).await;
        gauge(&mut text, "database_up", "Whether Postgres answered", f64::from(u8::from(is_up)));
        if let Some(gauges) = gauges {
            write_all(&mut text, &gauges);
        }
        text
    }

    async fn gauges(&self, app: &App) -> (bool, Option<Gauges>) {
        // Held while Postgres is asked: scrapes that come meanwhile wait for the same answer.
        let mut last = self.gauges.lock().await;
        let now = app.clock.now();
        if let Some(read) = &*last
            && (TimeDelta::zero()..KEPT).contains(&(now - read.at))
        {
            return (read.is_up, read.gauges);
        }
        let gauges = store::read_any_scope(&app.pool, now).await;
        let gauges = gauges.inspect_err(|error| tracing::warn!(%error, "gauges could not be read")).ok();
        // On other connections: the API may have taken all of its own.
        let is_up = gauges.is_some() || db::is_ready(&app.pools.payments).await.is_ok();
        *last = Some(Read { at: now, is_up, gauges });
        (is_up, gauges)
    }
}

fn write_all(text: &mut String, gauges: &Gauges) {
    #[expect(clippy::cast_precision_loss, reason = "counts of rows are far below 2^52")]
    let number = |count: i64| count as f64;
    gauge(text, "sessions_open", "Open sessions", number(gauges.sessions_open));
    gauge(text, "deliveries_pending", "Deliveries that will be tried", number(gauges.deliveries_pending));
    let queues = [
        ("sessions_overdue", "Open sessions past their deadline", gauges.sessions_overdue),
        ("links_closing", "Payment links that Razorpay has not confirmed dead", gauges.links_closing),
        ("inbox_waiting", "Razorpay's events that wait", gauges.inbox_waiting),
        ("inbox_parked", "Razorpay's events that were given up", gauges.inbox_parked),
        ("refunds_unsettled", "Refunds that have not ended", gauges.refunds_unsettled),
        ("refunds_failed", "Refunds that need a person", gauges.refunds_failed),
        ("deliveries_due", "Deliveries that should be sent by now", gauges.deliveries_due),
    ];
    for (name, help, queue) in queues {
        gauge(text, name, help, number(queue.count));
        let help = format!("{help}: age of the oldest");
        gauge(text, &format!("{name}_oldest_seconds"), &help, queue.oldest_seconds);
    }
}

fn gauge(text: &mut String, name: &str, help: &str, value: f64) {
    let name = format!("checkoutd_{name}");
    writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}")
        .expect("writing to a string cannot fail");
}
