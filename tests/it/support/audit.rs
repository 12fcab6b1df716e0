//! The invariants, as queries that return what breaks them. Run at the end of every scenario.

use checkoutd::{
    db::Pool,
    sandbox::{Ledger, LinkStatus, RefundStatus},
};
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{Row, types::Uuid};

/// Name and query; a row returned is a violation, described by its first column.
const QUERIES: &[(&str, &str)] = &[
    (
        "I2 completed means active, finalized, paid and succeeded, and nothing else does",
        "select s.id::text from checkout_sessions s
         join subscriptions u on u.environment_id = s.environment_id and u.id = s.subscription_id
         join invoices i on i.environment_id = s.environment_id and i.id = s.invoice_id
         join payments p on p.environment_id = s.environment_id and p.id = s.payment_id
         where (s.checkout_status = 'completed') <> (u.subscription_status = 'active')
            or (s.checkout_status = 'completed') <> (i.invoice_status = 'FINALIZED' and i.payment_status = 'SUCCEEDED')
            or (s.checkout_status = 'completed') <> (i.amount_paid_minor = i.total_minor)
            or (s.checkout_status = 'completed') <> (p.payment_status = 'SUCCEEDED')",
    ),
    (
        "I3 exactly one applied payment per completed session, none otherwise",
        "select s.id::text from checkout_sessions s
         where (select count(*) from provider_payments f
                where f.environment_id = s.environment_id and f.session_id = s.id and f.fate = 'applied')
             <> case when s.checkout_status = 'completed' then 1 else 0 end",
    ),
    (
        "I4 transitions start where the last one ended, and none leaves a terminal state",
        "select t.session_id::text || ' ' || t.sequence from (
            select *, lag(to_status, 1, 'initiated') over (partition by environment_id, session_id order by sequence) as before
            from session_transitions) t
         where t.from_status <> t.before or t.from_status in ('completed', 'failed', 'expired')",
    ),
    (
        "I5 one event per transition, without gaps, and the last one tells the session's state",
        "select s.id::text from checkout_sessions s
         where s.event_count <> (select count(*) from events e where e.environment_id = s.environment_id and e.subject_id = s.id)
            or s.event_count <> (select count(*) from session_transitions t where t.environment_id = s.environment_id and t.session_id = s.id)
            or s.event_count <> coalesce((select max(e.sequence) from events e where e.environment_id = s.environment_id and e.subject_id = s.id), 0)
            or s.checkout_status <> coalesce((select t.to_status from session_transitions t
                where t.environment_id = s.environment_id and t.session_id = s.id order by t.sequence desc limit 1), 'initiated')
            or exists (select 1 from events e join session_transitions t
                on t.environment_id = e.environment_id and t.session_id = e.subject_id and t.sequence = e.sequence
                where e.environment_id = s.environment_id and e.subject_id = s.id
                and e.event_type <> 'checkout.session.' || case t.to_status when 'pending' then 'initiated' else t.to_status end)",
    ),
    (
        "I8 session, invoice, payment and applied money agree, and are above zero",
        "select s.id::text from checkout_sessions s
         join invoices i on i.environment_id = s.environment_id and i.id = s.invoice_id
         join payments p on p.environment_id = s.environment_id and p.id = s.payment_id
         left join provider_payments f on f.environment_id = s.environment_id and f.session_id = s.id and f.fate = 'applied'
         where s.amount_minor <= 0 or i.total_minor <> s.amount_minor or p.amount_minor <> s.amount_minor
            or i.currency <> s.currency or p.currency <> s.currency
            or f.amount_minor <> s.amount_minor or f.currency <> s.currency
            or i.total_minor <> (select coalesce(sum(l.amount_minor), 0) from invoice_line_items l
                where l.environment_id = i.environment_id and l.invoice_id = i.id)",
    ),
    (
        "I9 at most one open session per idempotency key",
        "select idempotency_key from checkout_sessions
         where idempotency_key is not null and checkout_status in ('initiated', 'pending')
         group by environment_id, idempotency_key having count(*) > 1",
    ),
    (
        "I11 drafts follow the session",
        "select s.id::text from checkout_sessions s
         join subscriptions u on u.environment_id = s.environment_id and u.id = s.subscription_id
         join invoices i on i.environment_id = s.environment_id and i.id = s.invoice_id
         join payments p on p.environment_id = s.environment_id and p.id = s.payment_id
         where case when s.checkout_status in ('failed', 'expired') then 'archived' else 'published' end
            <> all (array[u.status, i.status, p.status])
            or u.status <> i.status or i.status <> p.status
            or (s.checkout_status in ('initiated', 'pending') and (u.subscription_status <> 'draft' or i.invoice_status <> 'DRAFT'))",
    ),
    (
        "I12 completed is told at most once",
        "select subject_id::text from events where event_type = 'checkout.session.completed'
         group by environment_id, subject_id having count(*) > 1",
    ),
    (
        "I13 nothing is stuck past its deadline",
        "select s.id::text from checkout_sessions s
         where s.checkout_status in ('initiated', 'pending') and s.expires_at < $1 - interval '11 minutes'
         union all select 'inbox ' || id::text from inbox where inbox_status = 'waiting' and received_at < $1 - interval '11 minutes'",
    ),
    (
        "I14 expired only by the deadline, a cancel, or the provider's own expiry",
        "select t.session_id::text from session_transitions t
         join checkout_sessions s on s.environment_id = t.environment_id and s.id = t.session_id
         where t.to_status = 'expired' and s.cancelled_at is null and t.created_at < s.expires_at
            and s.failure_reason not like '%payment_link.expired%'",
    ),
    (
        "I15 every transition has a cause on record",
        "select t.session_id::text from session_transitions t
         left join inbox i on i.environment_id = t.environment_id and i.id = t.inbox_id
         where (t.cause = 'webhook') <> (i.id is not null)",
    ),
    (
        "I16 one delivery per matching endpoint, made with its event",
        "select d.id::text from deliveries d join events e on e.environment_id = d.environment_id and e.id = d.event_id
         where d.created_at <> e.created_at",
    ),
    (
        "I18 attempts are numbered without gaps",
        "select d.id::text from deliveries d
         where d.attempt_count <> (select count(*) from delivery_attempts a where a.environment_id = d.environment_id and a.delivery_id = d.id)
            or d.attempt_count <> coalesce((select max(attempt_number) from delivery_attempts a
                where a.environment_id = d.environment_id and a.delivery_id = d.id), 0)",
    ),
    (
        "I24 at most one refund per provider payment, over what was captured; and one for each that goes back",
        "select f.provider_payment_id from provider_payments f
         left join refunds r on r.environment_id = f.environment_id and r.provider_payment_id = f.provider_payment_id
         where (f.fate = 'refund') <> (r.id is not null) or r.amount_minor <> f.amount_minor or r.currency <> f.currency",
    ),
    (
        "I5 a refund's events have no gap, and the last one tells its state",
        "select r.id::text || ' ' || r.refund_status from refunds r
         left join lateral (select count(*) as told, coalesce(max(e.sequence), 0) as last,
                array_agg(e.event_type order by e.sequence) as types from events e
             where e.environment_id = r.environment_id and e.subject_id = r.id) e on true
         where r.event_count <> e.told or r.event_count <> e.last
            or (r.refund_status = 'SUCCEEDED') <> (e.types[e.last] = 'refund.succeeded')
            or (r.refund_status = 'FAILED' and e.types[e.last] <> 'refund.failed')
            or e.types[1] <> case r.reason when 'late_payment' then 'payment.late' else 'refund.created' end
            or (select count(*) from unnest(e.types) as type where type in ('refund.created', 'refund.succeeded'))
                <> case r.refund_status when 'SUCCEEDED' then 2 else 1 end",
    ),
    (
        "invoice numbers have no gap",
        "select c.environment_id::text from invoice_counters c
         where c.last_number <> (select count(*) from invoices i
             where i.environment_id = c.environment_id and i.invoice_status = 'FINALIZED')",
    ),
];

pub async fn violations(
    pool: &Pool,
    ledger: &Ledger,
    now: DateTime<Utc>,
    canaries: &[String],
) -> Vec<String> {
    let mut found = Vec::new();
    for (name, query) in QUERIES {
        let query = sqlx::query(*query);
        let query = if name.starts_with("I13") { query.bind(now) } else { query };
        for row in query.fetch_all(pool).await.unwrap() {
            found.push(format!("{name}: {}", row.get::<String, _>(0)));
        }
    }
    found.extend(ledger_violations(pool, ledger, now).await);
    found.extend(leaks(pool, canaries).await);
    found
}

/// I1, I6, I7 and I8 against the provider's own books.
async fn ledger_violations(pool: &Pool, ledger: &Ledger, now: DateTime<Utc>) -> Vec<String> {
    let mut found = Vec::new();
    let rows = sqlx::query("select id, checkout_status, link_state, link_id, amount_minor, currency, updated_at from checkout_sessions")
        .fetch_all(pool)
        .await
        .unwrap();
    let id_of = |row: &sqlx::postgres::PgRow| checkoutd::kit::ids::encode("chk", row.get::<Uuid, _>("id"));
    for link in &ledger.links {
        let row = rows.iter().find(|row| id_of(row) == link.terms.reference_id);
        let Some(row) = row else {
            found.push(format!("I7 orphan link {} for {}", link.id, link.terms.reference_id));
            continue;
        };
        if link.terms.amount != row.get::<i64, _>("amount_minor")
            || !link.terms.currency.eq_ignore_ascii_case(row.get("currency"))
        {
            found.push(format!("I8 link {} is for other money than its session", link.id));
        }
        if link.terms.accept_partial {
            found.push(format!("I8 link {} takes partial payments", link.id));
        }
        let status: String = row.get("checkout_status");
        let closing = row.get::<String, _>("link_state") == "closing";
        if link.status == LinkStatus::Created
            && matches!(&*status, "completed" | "failed" | "expired")
            && !closing
        {
            found.push(format!("I6 link {} of a {status} session is payable", link.id));
        }
    }
    let known = sqlx::query("select provider_payment_id, created_at from provider_payments")
        .fetch_all(pool)
        .await
        .unwrap();
    for payment in ledger.payments.iter().filter(|payment| payment.was_captured()) {
        let is_known = known.iter().any(|row| row.get::<String, _>(0) == payment.id);
        let captured_at = DateTime::from_timestamp(payment.created_at, 0).unwrap();
        // Quiescence: a webhook or the deadline's read has had its chance.
        if !is_known && now - captured_at > TimeDelta::minutes(30) {
            found.push(format!("I1 captured payment {} is not accounted for", payment.id));
        }
    }
    found.extend(refund_violations(pool, ledger).await);
    found
}

/// I1 and I24 on the provider's side: what we call given back is, and only what must go back is sent.
async fn refund_violations(pool: &Pool, ledger: &Ledger) -> Vec<String> {
    let mut found = Vec::new();
    let rows = sqlx::query(
        "select f.provider_payment_id, f.fate, f.amount_minor, r.refund_status from provider_payments f
         left join refunds r on r.environment_id = f.environment_id and r.provider_payment_id = f.provider_payment_id",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    for row in rows {
        let (id, fate): (String, String) = (row.get(0), row.get(1));
        // Events that a test made up are about payments that the provider does not know.
        if !ledger.payments.iter().any(|payment| payment.id == id) {
            continue;
        }
        let refunds = || ledger.refunds.iter().filter(|refund| refund.payment_id == id);
        let given_back: i64 = refunds()
            .filter(|refund| refund.status == RefundStatus::Processed)
            .map(|refund| refund.amount)
            .sum();
        if given_back > row.get::<i64, _>(2) {
            found.push(format!("I24 more than was captured went back of {id}"));
        }
        if row.get::<Option<String>, _>(3).as_deref() == Some("SUCCEEDED")
            && given_back != row.get::<i64, _>(2)
        {
            found.push(format!("I1 {id} is said to have gone back, and {given_back} has"));
        }
        if fate == "applied" && refunds().any(|refund| refund.idempotency_key.is_some()) {
            found.push(format!("I1 {id} is applied and was sent back"));
        }
    }
    found
}

/// I22: no secret in any column of any table.
async fn leaks(pool: &Pool, canaries: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    let tables: Vec<String> =
        sqlx::query_scalar("select tablename::text from pg_tables where schemaname = 'public'")
            .fetch_all(pool)
            .await
            .unwrap();
    for table in tables {
        // Bytes as escapes, so that text inside a bytea is seen too.
        let sql = format!("select coalesce(string_agg(t::text, ' '), '') from \"{table}\" t");
        let mut connection = pool.acquire().await.unwrap();
        sqlx::query("set bytea_output = 'escape'").execute(&mut *connection).await.unwrap();
        let text: String =
            sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(&mut *connection).await.unwrap();
        sqlx::query("reset bytea_output").execute(&mut *connection).await.unwrap();
        for canary in canaries.iter().filter(|canary| text.contains(canary.as_str())) {
            found.push(format!("I22 a secret lies in {table}: {}…", &canary[..canary.len().min(12)]));
        }
    }
    found
}
