//! SQL of subscriptions: reads. Checkout writes them with everything else that a session drafts.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::types::Uuid;

use super::{Subscription, SubscriptionId, SubscriptionLine, SubscriptionStatus};
use crate::{
    catalog::BillingPeriod,
    db::{
        self, Pool, RowStatus, read_column,
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
            status: RowStatus::from_column(&row.status),
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

pub async fn find(pool: &Pool, scope: Scope, id: SubscriptionId) -> Result<Option<Subscription>, db::Error> {
    sqlx::query_as!(
        SubscriptionRow,
        "-- subscriptions.find
        select id, customer_id, plan_id, subscription_status, currency, billing_period, billing_period_count,
            billing_anchor, timezone, start_date, end_date, current_period_start, current_period_end,
            collection_method, lookup_key, metadata, version, activated_at, status, created_at, updated_at
        from subscriptions
        where environment_id = $1 and id = $2",
        Uuid::from(scope.environment),
        Uuid::from(id),
    )
    .fetch_optional(pool)
    .await?
    .map(TryInto::try_into)
    .transpose()
}

/// What a search of subscriptions names; absent parts match everything.
#[derive(Debug)]
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
         collection_method, lookup_key, metadata, version, activated_at, status, created_at, updated_at",
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
    .compare("coalesce(end_date, 'infinity') >", wanted.active_at);
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
