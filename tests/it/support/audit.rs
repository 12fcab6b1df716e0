//! The invariants: the doctor's queries, the provider's own books, and a search for secrets. Run at the end of every
//! scenario.

use checkoutd::{
    db::Pool,
    doctor,
    sandbox::{Ledger, LinkStatus, RefundStatus},
};
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{Row, types::Uuid};

pub async fn violations(
    pool: &Pool,
    ledger: &Ledger,
    now: DateTime<Utc>,
    canaries: &[String],
) -> Vec<String> {
    let mut found = Vec::new();
    // Tests of deliveries make up events that are about nothing.
    for rule in doctor::INVARIANTS.iter().filter(|rule| rule.name != "I21.events") {
        let (offenders, _) = doctor::run(pool, rule, now, 1000).await.unwrap();
        found
            .extend(offenders.into_iter().map(|offender| format!("{} {}: {offender}", rule.name, rule.text)));
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
    for table in super::db::tables(pool).await {
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
