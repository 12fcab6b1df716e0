//! SQL of subscriptions: reads and cancellations. Checkout writes them with everything else that a session drafts.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::types::Uuid;

use super::{Subscription, SubscriptionId, SubscriptionLine, SubscriptionStatus};
use crate::{
    catalog::BillingPeriod,
    db::{
        self, Pool, RowStatus, Tx, read_column,
        search::{Criteria, Select},
    },
    kit::page::Page,
    tenancy::Scope,
};

#[derive(sqlx::FromRow)]
struct SubscriptionRow {
    id: Uuid,
    customer_id: Uuid,
    plan_id: Uuid,
    subscription_status: String,
    currency: String,
    billing_period: String,
    billing_period_count: i32,
    billing_anchor: DateTime<Utc>,
    timezone: String,
    start_date: DateTime<Utc>,
    end_date: Option<DateTime<Utc>>,
    current_period_start: DateTime<Utc>,
    current_period_end: DateTime<Utc>,
    collection_method: String,
    lookup_key: Option<String>,
    metadata: Value,
    version: i32,
    activated_at: Option<DateTime<Utc>>,
    cancel_at: Option<DateTime<Utc>>,
    cancel_at_period_end: bool,
    cancelled_at: Option<DateTime<Utc>>,
    cancellation_reason: Option<String>,
    status: String,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl TryFrom<SubscriptionRow> for Subscription {
    type Error = db::Error;

    fn try_from(row: SubscriptionRow) -> Result<Self, db::Error> {
        Ok(Self {
            id: row.id.into(),
            customer: row.customer_id.into(),
            plan: row.plan_id.into(),
            subscription_status: read_column(&row.subscription_status)?,
            currency: read_column(&row.currency)?,
            billing_period: read_column(&row.billing_period)?,
            billing_period_count: row.billing_period_count,
            billing_anchor: row.billing_anchor,
            timezone: row.timezone,
            start_date: row.start_date,
            end_date: row.end_date,
            current_period_start: row.current_period_start,
            current_period_end: row.current_period_end,
            collection_method: row.collection_method,
            lookup_key: row.lookup_key,
            metadata: row.metadata,
            version: row.version,
            activated_at: row.activated_at,
            cancel_at: row.cancel_at,
            cancel_at_period_end: row.cancel_at_period_end,
            cancelled_at: row.cancelled_at,
            cancellation_reason: row.cancellation_reason,
            status: RowStatus::from_column(&row.status),
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

/// One select list for every reader of a row; `$tail` differs.
macro_rules! select_subscription {
    ($name:literal, $tail:literal, $($bind:expr),* $(,)?) => {
        sqlx::query_as!(
            SubscriptionRow,
            "-- subscriptions." + $name + "
            select id, customer_id, plan_id, subscription_status, currency, billing_period, billing_period_count,
                billing_anchor, timezone, start_date, end_date, current_period_start, current_period_end,
                collection_method, lookup_key, metadata, version, activated_at, cancel_at, cancel_at_period_end,
                cancelled_at, cancellation_reason, status, created_at, updated_at
            from subscriptions
            " + $tail,
            $($bind),*
        )
    };
}

pub async fn find(pool: &Pool, scope: Scope, id: SubscriptionId) -> Result<Option<Subscription>, db::Error> {
    select_subscription!(
        "find",
        "where environment_id = $1 and id = $2",
        Uuid::from(scope.environment),
        Uuid::from(id),
    )
    .fetch_optional(pool)
    .await?
    .map(TryInto::try_into)
    .transpose()
}

/// Reads a published subscription and holds its row until the transaction ends.
pub async fn lock(tx: &mut Tx, scope: Scope, id: SubscriptionId) -> Result<Option<Subscription>, db::Error> {
    select_subscription!(
        "lock",
        "where environment_id = $1 and id = $2 and status = 'published'
        for update",
        Uuid::from(scope.environment),
        Uuid::from(id),
    )
    .fetch_optional(tx)
    .await?
    .map(TryInto::try_into)
    .transpose()
}

/// Writes what `subscription` says of its cancellation. False when the row was not `from` any more.
pub async fn mark_cancellation(
    tx: &mut Tx,
    scope: Scope,
    subscription: &Subscription,
    from: SubscriptionStatus,
) -> Result<bool, db::Error> {
    let done = sqlx::query!(
        "-- subscriptions.mark_cancellation
        update subscriptions
        set subscription_status = $4, cancel_at = $5, cancel_at_period_end = $6, cancelled_at = $7,
            cancellation_reason = $8, version = $9, updated_at = $10
        where environment_id = $1 and id = $2 and subscription_status = $3 and status = 'published'",
        Uuid::from(scope.environment),
        Uuid::from(subscription.id),
        from.as_str(),
        subscription.subscription_status.as_str(),
        subscription.cancel_at,
        subscription.cancel_at_period_end,
        subscription.cancelled_at,
        subscription.cancellation_reason,
        subscription.version,
        subscription.updated_at,
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Whether a planned end has come for any subscription.
pub async fn is_cancellation_due_any_scope(pool: &Pool, now: DateTime<Utc>) -> Result<bool, db::Error> {
    sqlx::query_scalar!(
        r#"-- subscriptions.is_cancellation_due_any_scope
        select exists (
            select from subscriptions where cancel_at is not null and cancelled_at is null and cancel_at <= $1
        ) as "due!""#,
        now,
    )
    .fetch_one(pool)
    .await
}

/// Ends up to `limit` subscriptions whose planned end has come, as of that moment; how many. Those that
/// somebody else is at are left to them.
pub async fn mark_due_cancelled_any_scope(
    pool: &Pool,
    now: DateTime<Utc>,
    limit: i64,
) -> Result<u64, db::Error> {
    let done = sqlx::query!(
        "-- subscriptions.mark_due_cancelled_any_scope
        with due as (
            select environment_id, id
            from subscriptions
            where cancel_at is not null and cancelled_at is null and cancel_at <= $1
            order by cancel_at
            limit $2
            for update skip locked
        )
        update subscriptions s
        set subscription_status = 'cancelled', cancelled_at = s.cancel_at, version = s.version + 1, updated_at = $1
        from due d
        where s.environment_id = d.environment_id and s.id = d.id and s.cancelled_at is null",
        now,
        limit,
    )
    .execute(pool)
    .await?;
    Ok(done.rows_affected())
}

/// The session that drafted a subscription.
pub async fn find_session(pool: &Pool, scope: Scope, id: SubscriptionId) -> Result<Option<Uuid>, db::Error> {
    sqlx::query_scalar!(
        "-- subscriptions.find_session
        select id from checkout_sessions where environment_id = $1 and subscription_id = $2",
        Uuid::from(scope.environment),
        Uuid::from(id),
    )
    .fetch_optional(pool)
    .await
}

/// What a search of subscriptions names; absent parts match everything.
#[derive(Debug, Default)]
pub struct Wanted {
    pub ids: Option<Vec<Uuid>>,
    pub customer_id: Option<Vec<Uuid>>,
    pub customer_ids: Option<Vec<Uuid>>,
    /// Who is sent the invoices, which is the customer.
    pub invoicing_customer_ids: Option<Vec<Uuid>>,
    /// Customers by the merchant's own name.
    pub named_customer_ids: Option<Vec<Uuid>>,
    pub plan_ids: Option<Vec<Uuid>>,
    pub statuses: Option<Vec<SubscriptionStatus>>,
    pub billing_periods: Option<Vec<BillingPeriod>>,
    /// Started, and not ended, at that time.
    pub active_at: Option<DateTime<Utc>>,
    /// Nothing matches.
    pub none: bool,
}

pub async fn search(
    pool: &Pool,
    scope: Scope,
    wanted: Wanted,
    criteria: Criteria,
) -> Result<Page<Subscription>, db::Error> {
    let statuses = |all: Vec<SubscriptionStatus>| -> Vec<String> {
        all.into_iter().map(|status| status.as_str().to_owned()).collect()
    };
    let periods = |all: Vec<BillingPeriod>| -> Vec<String> {
        all.into_iter().map(|period| period.as_str().to_owned()).collect()
    };
    let mut select = Select::new(
        "subscriptions.search",
        "id, customer_id, plan_id, subscription_status, currency, billing_period, billing_period_count, \
         billing_anchor, timezone, start_date, end_date, current_period_start, current_period_end, \
         collection_method, lookup_key, metadata, version, activated_at, cancel_at, cancel_at_period_end, \
         cancelled_at, cancellation_reason, status, created_at, updated_at",
        "subscriptions",
        scope.environment,
    )
    .any_of("id", wanted.ids)
    .any_of("customer_id", wanted.customer_id)
    .any_of("customer_id", wanted.customer_ids)
    .any_of("customer_id", wanted.invoicing_customer_ids)
    .any_of("customer_id", wanted.named_customer_ids)
    .any_of("plan_id", wanted.plan_ids)
    .any_of("subscription_status", wanted.statuses.map(statuses))
    .any_of("billing_period", wanted.billing_periods.map(periods))
    .compare("start_date <=", wanted.active_at)
    // `least` passes over nulls.
    .compare("coalesce(least(end_date, cancelled_at), 'infinity') >", wanted.active_at);
    if wanted.none {
        select = select.condition("false");
    }
    select.fetch::<SubscriptionRow>(pool, criteria).await?.try_map(TryInto::try_into)
}

/// The lines of several subscriptions, in the order of the plan's prices.
pub async fn list_lines(
    pool: &Pool,
    scope: Scope,
    subscriptions: &[SubscriptionId],
) -> Result<Vec<SubscriptionLine>, db::Error> {
    let ids: Vec<Uuid> = subscriptions.iter().copied().map(Uuid::from).collect();
    let rows = sqlx::query!(
        "-- subscriptions.list_lines
        select l.id, l.subscription_id, l.price_id, l.quantity, l.display_name, l.plan_display_name,
            p.billing_period, p.billing_period_count, p.invoice_cadence, l.start_date, l.end_date, l.created_at
        from subscription_line_items l
        join prices p on p.environment_id = l.environment_id and p.id = l.price_id
        where l.environment_id = $1 and l.subscription_id = any($2)
        order by p.created_at, p.id",
        Uuid::from(scope.environment),
        &ids,
    )
    .fetch_all(pool)
    .await?;
    let lines = rows.into_iter().map(|row| {
        Ok(SubscriptionLine {
            id: row.id.into(),
            subscription: row.subscription_id.into(),
            price: row.price_id.into(),
            quantity: row.quantity,
            display_name: row.display_name,
            plan_display_name: row.plan_display_name,
            billing_period: read_column(&row.billing_period)?,
            billing_period_count: row.billing_period_count,
            invoice_cadence: read_column(&row.invoice_cadence)?,
            start_date: row.start_date,
            end_date: row.end_date,
            created_at: row.created_at,
        })
    });
    lines.collect()
}
