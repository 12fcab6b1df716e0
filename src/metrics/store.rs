//! SQL of the gauges: one statement, each part of it on an index of what waits.

use chrono::{DateTime, Utc};

use super::gauges::{Gauges, Queue};
use crate::db::{self, Pool};

pub async fn read_any_scope(pool: &Pool, now: DateTime<Utc>) -> Result<Gauges, db::Error> {
    let row = sqlx::query!(
        r#"-- metrics.read_any_scope
        select s.open as "open!", s.overdue as "overdue!", s.overdue_since, l.count as "closing!", l.since as closing_since,
            w.count as "waiting!", w.since as waiting_since, p.count as "parked!", p.since as parked_since,
            r.count as "unsettled!", r.since as unsettled_since, f.count as "failed!", f.since as failed_since,
            d.count as "pending!", d.due as "due!", d.due_since
        from (select count(*) as open, count(*) filter (where expires_at <= $1) as overdue,
                min(expires_at) filter (where expires_at <= $1) as overdue_since
            from checkout_sessions where checkout_status in ('initiated', 'pending')) s,
            (select count(*), min(updated_at) as since from checkout_sessions where link_state = 'closing') l,
            (select count(*), min(received_at) as since from inbox where inbox_status = 'waiting') w,
            (select count(*), min(received_at) as since from inbox where inbox_status = 'parked') p,
            (select count(*), min(created_at) as since from refunds where refund_status in ('PENDING', 'PROCESSING')) r,
            (select count(*), min(created_at) as since from refunds where refund_status = 'FAILED') f,
            (select count(*), count(*) filter (where next_attempt_at <= $1) as due,
                min(next_attempt_at) filter (where next_attempt_at <= $1) as due_since
            from deliveries where delivery_status = 'pending') d"#,
        now,
    )
    .fetch_one(pool)
    .await?;
    let queue = |count, since: Option<DateTime<Utc>>| Queue {
        count,
        oldest_seconds: since.map_or(0.0, |since| (now - since).as_seconds_f64().max(0.0)),
    };
    Ok(Gauges {
        sessions_open: row.open,
        sessions_overdue: queue(row.overdue, row.overdue_since),
        links_closing: queue(row.closing, row.closing_since),
        inbox_waiting: queue(row.waiting, row.waiting_since),
        inbox_parked: queue(row.parked, row.parked_since),
        refunds_unsettled: queue(row.unsettled, row.unsettled_since),
        refunds_failed: queue(row.failed, row.failed_since),
        deliveries_pending: row.pending,
        deliveries_due: queue(row.due, row.due_since),
    })
}
