//! SQL of plans and prices.

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::Value;
use sqlx::types::Uuid;

use super::{
    BillingModel, BillingPeriod, InvoiceCadence, Plan, PlanId, Price, PriceId, PriceModel, Rounding, Tier,
    TierMode, Tiers,
};
use crate::{
    db::{
        self, Pool, RowStatus, Tx,
        search::{Criteria, Select},
    },
    kit::{money::Currency, page::Page},
    tenancy::Scope,
};

#[derive(sqlx::FromRow)]
struct PlanRow {
    id: Uuid,
    name: String,
    description: String,
    lookup_key: Option<String>,
    display_order: Option<i64>,
    metadata: Value,
    status: String,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl From<PlanRow> for Plan {
    fn from(row: PlanRow) -> Self {
        Self {
            id: row.id.into(),
            name: row.name,
            description: row.description,
            lookup_key: row.lookup_key,
            display_order: row.display_order,
            metadata: row.metadata,
            status: RowStatus::from_column(&row.status),
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

pub async fn insert_plan(pool: &Pool, scope: Scope, plan: &Plan) -> Result<(), db::Error> {
    sqlx::query!(
        "-- catalog.insert_plan
        insert into plans (environment_id, id, name, description, lookup_key, display_order, metadata, status,
            created_at, updated_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        Uuid::from(scope.environment),
        Uuid::from(plan.id),
        plan.name,
        plan.description,
        plan.lookup_key,
        plan.display_order,
        plan.metadata,
        plan.status.as_str(),
        plan.created_at,
        plan.updated_at,
    )
    .execute(pool)
    .await?;
    Ok(())
}

pub async fn find_plan(pool: &Pool, scope: Scope, id: PlanId) -> Result<Option<Plan>, db::Error> {
    let row = sqlx::query_as!(
        PlanRow,
        "-- catalog.find_plan
        select id, name, description, lookup_key, display_order, metadata, status, created_at, updated_at
        from plans
        where environment_id = $1 and id = $2",
        Uuid::from(scope.environment),
        Uuid::from(id),
    )
    .fetch_optional(pool)
    .await?;
    Ok(row.map(Into::into))
}

pub async fn list_plans(pool: &Pool, scope: Scope, ids: &[PlanId]) -> Result<Vec<Plan>, db::Error> {
    let ids: Vec<Uuid> = ids.iter().copied().map(Uuid::from).collect();
    let rows = sqlx::query_as!(
        PlanRow,
        "-- catalog.list_plans
        select id, name, description, lookup_key, display_order, metadata, status, created_at, updated_at
        from plans
        where environment_id = $1 and id = any($2)",
        Uuid::from(scope.environment),
        &ids,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(Into::into).collect())
}

/// A published plan, locked until the transaction ends.
pub async fn lock_plan(tx: &mut Tx, scope: Scope, id: PlanId) -> Result<Option<Plan>, db::Error> {
    let row = sqlx::query_as!(
        PlanRow,
        "-- catalog.lock_plan
        select id, name, description, lookup_key, display_order, metadata, status, created_at, updated_at
        from plans
        where environment_id = $1 and id = $2 and status = 'published'
        for update",
        Uuid::from(scope.environment),
        Uuid::from(id),
    )
    .fetch_optional(tx)
    .await?;
    Ok(row.map(Into::into))
}

pub async fn update_plan(tx: &mut Tx, scope: Scope, plan: &Plan) -> Result<(), db::Error> {
    sqlx::query!(
        "-- catalog.update_plan
        update plans
        set name = $3, description = $4, lookup_key = $5, display_order = $6, metadata = $7, updated_at = $8
        where environment_id = $1 and id = $2 and status = 'published'",
        Uuid::from(scope.environment),
        Uuid::from(plan.id),
        plan.name,
        plan.description,
        plan.lookup_key,
        plan.display_order,
        plan.metadata,
        plan.updated_at,
    )
    .execute(tx)
    .await?;
    Ok(())
}

pub async fn plan_is_subscribed(tx: &mut Tx, scope: Scope, id: PlanId) -> Result<bool, db::Error> {
    sqlx::query_scalar!(
        r#"-- catalog.plan_is_subscribed
        select exists (
            select 1 from subscriptions
            where environment_id = $1 and plan_id = $2 and status = 'published'
                and subscription_status <> 'cancelled'
        ) as "exists!""#,
        Uuid::from(scope.environment),
        Uuid::from(id),
    )
    .fetch_one(tx)
    .await
}

pub async fn archive_plan(
    tx: &mut Tx,
    scope: Scope,
    id: PlanId,
    now: DateTime<Utc>,
) -> Result<(), db::Error> {
    sqlx::query!(
        "-- catalog.archive_plan
        update plans set status = 'archived', updated_at = $3
        where environment_id = $1 and id = $2 and status = 'published'",
        Uuid::from(scope.environment),
        Uuid::from(id),
        now,
    )
    .execute(tx)
    .await?;
    Ok(())
}

pub async fn search_plans(
    pool: &Pool,
    scope: Scope,
    ids: Option<Vec<Uuid>>,
    lookup_key: Option<String>,
    metadata: Option<Value>,
    criteria: Criteria,
) -> Result<Page<Plan>, db::Error> {
    let page = Select::new(
        "catalog.search_plans",
        "id, name, description, lookup_key, display_order, metadata, status, created_at, updated_at",
        "plans",
        scope.environment,
    )
    .any_of("id", ids)
    .equals("lookup_key", lookup_key)
    .compare("metadata @>", metadata)
    .fetch::<PlanRow>(pool, criteria)
    .await?;
    Ok(page.map(Into::into))
}

#[derive(sqlx::FromRow, Deserialize)]
struct PriceRow {
    id: Uuid,
    plan_id: Uuid,
    billing_model: String,
    billing_period: String,
    billing_period_count: i32,
    invoice_cadence: String,
    currency: String,
    amount_minor: Option<i64>,
    tier_mode: Option<String>,
    tiers: Option<Value>,
    package_divide_by: Option<i64>,
    package_round: Option<String>,
    min_quantity: Option<i64>,
    trial_period_days: i32,
    display_name: String,
    description: String,
    lookup_key: Option<String>,
    group_id: Option<String>,
    metadata: Value,
    start_date: DateTime<Utc>,
    end_date: Option<DateTime<Utc>>,
    parent_price_id: Option<Uuid>,
    status: String,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl PriceRow {
    fn model(&mut self) -> Result<PriceModel, db::Error> {
        // The CHECK prices_model_complete promises these.
        fn present<T>(column: Option<T>) -> Result<T, db::Error> {
            column.ok_or_else(|| db::Error::Decode("a price lacks a column of its billing model".into()))
        }
        Ok(match db::read_column::<BillingModel>(&self.billing_model)? {
            BillingModel::FlatFee => PriceModel::FlatFee { amount_minor: present(self.amount_minor)? },
            BillingModel::Package => PriceModel::Package {
                amount_minor: present(self.amount_minor)?,
                divide_by: present(self.package_divide_by)?,
                round: db::read_column::<Rounding>(&present(self.package_round.take())?)?,
            },
            BillingModel::Tiered => {
                let tiers: Vec<Tier> = serde_json::from_value(present(self.tiers.take())?).map_err(decode)?;
                PriceModel::Tiered {
                    mode: db::read_column::<TierMode>(&present(self.tier_mode.take())?)?,
                    tiers: Tiers::new(tiers).map_err(decode)?,
                }
            }
        })
    }
}

impl TryFrom<PriceRow> for Price {
    type Error = db::Error;

    fn try_from(mut row: PriceRow) -> Result<Self, db::Error> {
        Ok(Self {
            id: row.id.into(),
            plan_id: row.plan_id.into(),
            model: row.model()?,
            billing_period: db::read_column::<BillingPeriod>(&row.billing_period)?,
            billing_period_count: row.billing_period_count,
            invoice_cadence: db::read_column::<InvoiceCadence>(&row.invoice_cadence)?,
            currency: db::read_column::<Currency>(&row.currency)?,
            min_quantity: row.min_quantity,
            trial_period_days: row.trial_period_days,
            display_name: row.display_name,
            description: row.description,
            lookup_key: row.lookup_key,
            group_id: row.group_id,
            metadata: row.metadata,
            start_date: row.start_date,
            end_date: row.end_date,
            parent_price_id: row.parent_price_id.map(Into::into),
            status: RowStatus::from_column(&row.status),
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

fn decode(error: impl std::error::Error + Send + Sync + 'static) -> db::Error {
    db::Error::Decode(Box::new(error))
}

pub async fn insert_price(tx: &mut Tx, scope: Scope, price: &Price) -> Result<(), db::Error> {
    let (mut amount_minor, mut tier_mode, mut tiers) = (None, None, None);
    let (mut divide_by, mut round) = (None, None);
    match &price.model {
        PriceModel::FlatFee { amount_minor: amount } => amount_minor = Some(*amount),
        PriceModel::Package { amount_minor: amount, divide_by: units, round: way } => {
            (amount_minor, divide_by, round) = (Some(*amount), Some(*units), Some(way.as_str()));
        }
        PriceModel::Tiered { mode, tiers: steps } => {
            tier_mode = Some(mode.as_str());
            tiers = Some(
                serde_json::to_value(steps.as_slice()).map_err(|error| db::Error::Encode(error.into()))?,
            );
        }
    }
    sqlx::query!(
        "-- catalog.insert_price
        insert into prices (environment_id, id, plan_id, billing_model, billing_period, billing_period_count,
            invoice_cadence, currency, amount_minor, tier_mode, tiers, package_divide_by, package_round,
            min_quantity, trial_period_days, display_name, description, lookup_key, group_id, metadata,
            start_date, end_date, parent_price_id, status, created_at, updated_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21,
            $22, $23, $24, $25, $26)",
        Uuid::from(scope.environment),
        Uuid::from(price.id),
        Uuid::from(price.plan_id),
        price.model.billing_model().as_str(),
        price.billing_period.as_str(),
        price.billing_period_count,
        price.invoice_cadence.as_str(),
        price.currency.lower(),
        amount_minor,
        tier_mode,
        tiers,
        divide_by,
        round,
        price.min_quantity,
        price.trial_period_days,
        price.display_name,
        price.description,
        price.lookup_key,
        price.group_id,
        price.metadata,
        price.start_date,
        price.end_date,
        price.parent_price_id.map(Uuid::from),
        price.status.as_str(),
        price.created_at,
        price.updated_at,
    )
    .execute(tx)
    .await?;
    Ok(())
}

pub async fn find_price(pool: &Pool, scope: Scope, id: PriceId) -> Result<Option<Price>, db::Error> {
    sqlx::query_as!(
        PriceRow,
        "-- catalog.find_price
        select id, plan_id, billing_model, billing_period, billing_period_count, invoice_cadence, currency,
            amount_minor, tier_mode, tiers, package_divide_by, package_round, min_quantity, trial_period_days,
            display_name, description, lookup_key, group_id, metadata, start_date, end_date, parent_price_id,
            status, created_at, updated_at
        from prices
        where environment_id = $1 and id = $2",
        Uuid::from(scope.environment),
        Uuid::from(id),
    )
    .fetch_optional(pool)
    .await?
    .map(TryInto::try_into)
    .transpose()
}

pub async fn list_prices(pool: &Pool, scope: Scope, ids: &[PriceId]) -> Result<Vec<Price>, db::Error> {
    let ids: Vec<Uuid> = ids.iter().copied().map(Uuid::from).collect();
    sqlx::query_as!(
        PriceRow,
        "-- catalog.list_prices
        select id, plan_id, billing_model, billing_period, billing_period_count, invoice_cadence, currency,
            amount_minor, tier_mode, tiers, package_divide_by, package_round, min_quantity, trial_period_days,
            display_name, description, lookup_key, group_id, metadata, start_date, end_date, parent_price_id,
            status, created_at, updated_at
        from prices
        where environment_id = $1 and id = any($2)",
        Uuid::from(scope.environment),
        &ids,
    )
    .fetch_all(pool)
    .await?
    .into_iter()
    .map(TryInto::try_into)
    .collect()
}

/// A price, locked until the transaction ends.
pub async fn lock_price(tx: &mut Tx, scope: Scope, id: PriceId) -> Result<Option<Price>, db::Error> {
    sqlx::query_as!(
        PriceRow,
        "-- catalog.lock_price
        select id, plan_id, billing_model, billing_period, billing_period_count, invoice_cadence, currency,
            amount_minor, tier_mode, tiers, package_divide_by, package_round, min_quantity, trial_period_days,
            display_name, description, lookup_key, group_id, metadata, start_date, end_date, parent_price_id,
            status, created_at, updated_at
        from prices
        where environment_id = $1 and id = $2 and status = 'published'
        for no key update",
        Uuid::from(scope.environment),
        Uuid::from(id),
    )
    .fetch_optional(tx)
    .await?
    .map(TryInto::try_into)
    .transpose()
}

/// Prices as `jsonb_agg(to_jsonb(prices))` gives them.
pub fn read_prices(rows: Value) -> Result<Vec<Price>, db::Error> {
    let rows: Vec<PriceRow> = serde_json::from_value(rows).map_err(decode)?;
    rows.into_iter().map(TryInto::try_into).collect()
}

/// The prices of several plans that have not ended at `at`; oldest first.
pub async fn list_unended_prices(
    pool: &Pool,
    scope: Scope,
    plans: &[PlanId],
    at: DateTime<Utc>,
) -> Result<Vec<Price>, db::Error> {
    let plans: Vec<Uuid> = plans.iter().copied().map(Uuid::from).collect();
    sqlx::query_as!(
        PriceRow,
        "-- catalog.list_unended_prices
        select id, plan_id, billing_model, billing_period, billing_period_count, invoice_cadence, currency,
            amount_minor, tier_mode, tiers, package_divide_by, package_round, min_quantity, trial_period_days,
            display_name, description, lookup_key, group_id, metadata, start_date, end_date, parent_price_id,
            status, created_at, updated_at
        from prices
        where environment_id = $1 and plan_id = any($2) and status = 'published'
            and (end_date is null or end_date > $3)
        order by created_at, id",
        Uuid::from(scope.environment),
        &plans,
        at,
    )
    .fetch_all(pool)
    .await?
    .into_iter()
    .map(TryInto::try_into)
    .collect()
}

/// What a search of prices names; absent parts match everything.
pub struct WantedPrices {
    pub ids: Option<Vec<Uuid>>,
    pub plan_ids: Option<Vec<Uuid>>,
    pub entity_ids: Option<Vec<Uuid>>,
    pub billing_periods: Option<Vec<BillingPeriod>>,
    /// Those that replaced one of these.
    pub parent_ids: Option<Vec<Uuid>>,
    /// Leaves out those that had ended by then.
    pub unended_at: Option<DateTime<Utc>>,
    pub started_before: Option<DateTime<Utc>>,
    pub updated_after: Option<DateTime<Utc>>,
    /// Matches nothing at all.
    pub none: bool,
}

pub async fn search_prices(
    pool: &Pool,
    scope: Scope,
    wanted: WantedPrices,
    criteria: Criteria,
) -> Result<Page<Price>, db::Error> {
    let periods = |periods: Vec<BillingPeriod>| -> Vec<String> {
        periods.into_iter().map(|period| period.as_str().to_owned()).collect()
    };
    let select = Select::new(
        "catalog.search_prices",
        "id, plan_id, billing_model, billing_period, billing_period_count, invoice_cadence, currency, \
         amount_minor, tier_mode, tiers, package_divide_by, package_round, min_quantity, trial_period_days, \
         display_name, description, lookup_key, group_id, metadata, start_date, end_date, parent_price_id, \
         status, created_at, updated_at",
        "prices",
        scope.environment,
    )
    .any_of("id", wanted.ids)
    .any_of("plan_id", wanted.plan_ids)
    .any_of("plan_id", wanted.entity_ids)
    .any_of("billing_period", wanted.billing_periods.map(periods))
    .any_of("parent_price_id", wanted.parent_ids)
    .compare("coalesce(end_date, 'infinity') >", wanted.unended_at)
    .compare("start_date <", wanted.started_before)
    .compare("updated_at >", wanted.updated_after);
    let select = if wanted.none { select.condition("false") } else { select };
    select.fetch::<PriceRow>(pool, criteria).await?.try_map(TryInto::try_into)
}

/// Writes the part of a price that may change in place.
pub async fn update_price(tx: &mut Tx, scope: Scope, price: &Price) -> Result<(), db::Error> {
    sqlx::query!(
        "-- catalog.update_price
        update prices
        set display_name = $3, description = $4, lookup_key = $5, group_id = $6, metadata = $7, updated_at = $8
        where environment_id = $1 and id = $2",
        Uuid::from(scope.environment),
        Uuid::from(price.id),
        price.display_name,
        price.description,
        price.lookup_key,
        price.group_id,
        price.metadata,
        price.updated_at,
    )
    .execute(tx)
    .await?;
    Ok(())
}

pub async fn end_price(
    tx: &mut Tx,
    scope: Scope,
    id: PriceId,
    end_date: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<(), db::Error> {
    sqlx::query!(
        "-- catalog.end_price
        update prices set end_date = $3, updated_at = $4
        where environment_id = $1 and id = $2",
        Uuid::from(scope.environment),
        Uuid::from(id),
        end_date,
        now,
    )
    .execute(tx)
    .await?;
    Ok(())
}
