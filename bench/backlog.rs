//! Deliveries that are due, in bulk.

use sqlx::{Executor, PgPool};

use super::world::Merchant;

/// Makes `events` events of the merchant, each due at all its endpoints; their bodies are one that the service wrote.
/// Those of another `round` are others.
pub async fn add_backlog(
    pool: &PgPool,
    merchant: &Merchant,
    round: usize,
    events: usize,
) -> anyhow::Result<()> {
    let ids = format!("01b00000-0000-7000-80{round:02}-");
    let insert = "insert into events (environment_id, id, event_type, subject_id, sequence, body, created_at)
        select $1, id, 'checkout.session.completed', id, 1, body, now()
        from generate_series(1, $2) n,
            lateral (select ($3 || lpad(n::text, 12, '0'))::uuid) i (id),
            (select body from events where environment_id = $1 and event_type = 'checkout.session.completed' limit 1) b";
    sqlx::query(insert)
        .bind(merchant.environment)
        .bind(i32::try_from(events)?)
        .bind(&ids)
        .execute(pool)
        .await?;
    let insert = "insert into deliveries (environment_id, id, event_id, subject_id, sequence, endpoint_id,
            delivery_status, attempt_count, next_attempt_at, created_at, updated_at)
        select $1, overlay(e.id::text placing '7' || lpad(w.place::text, 3, '0') from 15 for 4)::uuid, e.id, e.id, 1, w.id,
            'pending', 0, e.created_at, e.created_at, e.created_at
        from events e, (select id, row_number() over (order by id) as place from webhook_endpoints where environment_id = $1) w
        where e.environment_id = $1 and e.id > ($2 || repeat('0', 12))::uuid and e.id <= ($2 || repeat('9', 12))::uuid
        order by e.id";
    sqlx::query(insert).bind(merchant.environment).bind(&ids).execute(pool).await?;
    pool.execute("vacuum analyze").await?;
    Ok(())
}
