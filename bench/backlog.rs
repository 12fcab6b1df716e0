//! Deliveries that are due, in bulk.

use sqlx::{Executor, PgPool};

use super::world::Merchant;

/// Makes `events` events of the merchant, each due at all its endpoints; their bodies are one that the service wrote.
pub async fn add_backlog(pool: &PgPool, merchant: &Merchant, events: usize) -> anyhow::Result<()> {
    let insert = "insert into events (environment_id, id, event_type, subject_id, sequence, body, created_at)
        select $1, id, 'checkout.session.completed', id, 1, body, now()
        from generate_series(1, $2) n,
            lateral (select ('01b00000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid) i (id),
            (select body from events where environment_id = $1 and event_type = 'checkout.session.completed' limit 1) b";
    sqlx::query(insert).bind(merchant.environment).bind(i32::try_from(events)?).execute(pool).await?;
    let insert = "insert into deliveries (environment_id, id, event_id, subject_id, sequence, endpoint_id,
            delivery_status, attempt_count, next_attempt_at, created_at, updated_at)
        select $1, overlay(e.id::text placing lpad(w.place::text, 3, '0') from 21 for 3)::uuid, e.id, e.id, 1, w.id,
            'pending', 0, e.created_at, e.created_at, e.created_at
        from events e, (select id, row_number() over (order by id) as place from webhook_endpoints where environment_id = $1) w
        where e.environment_id = $1 and e.id >= '01b00000-0000-7000-8000-000000000000'
        order by e.id";
    sqlx::query(insert).bind(merchant.environment).execute(pool).await?;
    pool.execute("vacuum analyze").await?;
    Ok(())
}
