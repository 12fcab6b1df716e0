//! SQL of what a create has to know: who pays, what is sold, and on which account. One statement, as a create is
//! mostly round trips (docs/adr/0014).

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{PgExecutor, types::Uuid};

use super::link::Payer;
use crate::{
    catalog::{self, PlanId, Price},
    customers::CustomerId,
    db,
    tenancy::{ConnectionId, Scope, SealedCredentials},
};

/// What a create finds of what it asked for.
pub struct Offer {
    /// The published customer.
    pub payer: Option<(CustomerId, Payer)>,
    /// The published plan.
    pub plan: Option<Offered>,
    /// The account that new sessions use.
    pub account: Option<SealedCredentials>,
}

/// A plan and the prices at which it is sold now, the oldest first.
pub struct Offered {
    pub plan: PlanId,
    pub plan_name: String,
    pub prices: Vec<Price>,
}

pub async fn find_offer(
    executor: impl PgExecutor<'_>,
    scope: Scope,
    customer_external_id: &str,
    plan: &str,
    at: DateTime<Utc>,
) -> Result<Offer, db::Error> {
    let plan_id = plan.parse::<PlanId>().ok();
    let row = sqlx::query!(
        r#"-- checkout.find_offer
        select c.id as "customer_id?", c.name as "customer_name?", c.email, c.contact, c.timezone as "timezone?",
            p.id as "plan_id?", p.name as "plan_name?",
            (
                select jsonb_agg(to_jsonb(r) order by r.created_at, r.id)
                from prices r
                where r.environment_id = $1 and r.plan_id = p.id and r.status = 'published' and r.start_date <= $5
                    and (r.end_date is null or r.end_date > $5)
            ) as "prices: Value",
            k.id as "connection_id?", k.key_id as "key_id?", k.secret_key_sealed as "secret_key_sealed?"
        from (values (1)) as one
        left join customers c
            on c.environment_id = $1 and c.external_id = $2 and c.status = 'published'
        left join lateral (
            select id, name
            from plans
            where environment_id = $1 and (id = $3 or lookup_key = $4) and status = 'published'
            order by (id = $3) desc nulls last
            limit 1
        ) p on true
        left join connections k
            on k.environment_id = $1 and k.provider_type = 'razorpay' and k.status = 'published'"#,
        Uuid::from(scope.environment),
        customer_external_id,
        plan_id.map(Uuid::from),
        plan,
        at,
    )
    .fetch_one(executor)
    .await?;
    let payer = match (row.customer_id, row.customer_name, row.timezone) {
        (Some(id), Some(name), Some(timezone)) => {
            let timezone = db::read_column(&timezone)?;
            Some((id.into(), Payer { name, email: row.email, contact: row.contact, timezone }))
        }
        _ => None,
    };
    let plan = match (row.plan_id, row.plan_name) {
        (Some(id), Some(plan_name)) => {
            let prices = row.prices.map(catalog::read_prices).transpose()?.unwrap_or_default();
            Some(Offered { plan: id.into(), plan_name, prices })
        }
        _ => None,
    };
    let account = match (row.connection_id, row.key_id, row.secret_key_sealed) {
        (Some(id), Some(key_id), Some(secret_key)) => {
            Some(SealedCredentials { connection: ConnectionId::from(id), key_id, secret_key })
        }
        _ => None,
    };
    Ok(Offer { payer, plan, account })
}
