//! Prices: what a plan costs in one currency and period. A price's figures never change; a change of them
//! ends it and starts its successor.

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::{
    PlanId,
    pricing::{PriceModel, PricingError},
    store,
    terms::{BillingPeriod, InvoiceCadence},
};
use crate::{
    app::App,
    db::{self, RowStatus},
    http::{ApiError, Named},
    kit::money::{Currency, Money},
    tenancy::Scope,
};

crate::define_ids! {
    /// A price of a plan.
    PriceId = "price";
}

impl Named for PriceId {
    const NOUN: &'static str = "price";
}

/// What a plan costs in one currency and period.
#[derive(Clone, Debug)]
pub struct Price {
    /// Its id.
    pub id: PriceId,
    /// The plan that is sold at this price.
    pub plan_id: PlanId,
    /// The figures.
    pub model: PriceModel,
    /// How often it is billed.
    pub billing_period: BillingPeriod,
    /// Periods between two bills, at least 1.
    pub billing_period_count: i32,
    /// Whether a period is billed at its start or its end.
    pub invoice_cadence: InvoiceCadence,
    /// Of all its amounts.
    pub currency: Currency,
    /// Units billed when the subscriber names no quantity, at least 1.
    pub min_quantity: Option<i64>,
    /// Days before the first bill; 0 for none.
    pub trial_period_days: i32,
    /// What an invoice line says.
    pub display_name: String,
    /// For the merchant's own eyes.
    pub description: String,
    /// The merchant's own name, unique among prices without an end.
    pub lookup_key: Option<String>,
    /// The merchant's own grouping.
    pub group_id: Option<String>,
    /// The merchant's own pairs.
    pub metadata: Value,
    /// Sold from then on.
    pub start_date: DateTime<Utc>,
    /// Sold until then, exclusively.
    pub end_date: Option<DateTime<Utc>>,
    /// The price that it replaced.
    pub parent_price_id: Option<PriceId>,
    /// The row's own life.
    pub status: RowStatus,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
}

impl Price {
    /// What `quantity` units cost.
    pub fn amount_for(&self, quantity: i64) -> Result<Money, PricingError> {
        Ok(Money::new(self.model.amount_minor_for(quantity)?, self.currency))
    }

    /// Whether it was ended before or at `at`.
    pub fn has_ended(&self, at: DateTime<Utc>) -> bool {
        self.end_date.is_some_and(|end| end <= at)
    }
}

/// What a new price is made of, checked field by field.
#[derive(Clone, Debug)]
pub struct NewPrice {
    pub plan_id: PlanId,
    pub model: PriceModel,
    pub billing_period: BillingPeriod,
    pub billing_period_count: i32,
    pub invoice_cadence: InvoiceCadence,
    pub currency: Currency,
    pub min_quantity: Option<i64>,
    pub trial_period_days: i32,
    /// The plan's name when absent.
    pub display_name: Option<String>,
    pub description: String,
    pub lookup_key: Option<String>,
    pub group_id: Option<String>,
    pub metadata: Value,
    /// Now when absent.
    pub start_date: Option<DateTime<Utc>>,
    pub end_date: Option<DateTime<Utc>>,
}

/// Adds a price to a published plan.
pub async fn create(app: &App, scope: Scope, id: PriceId, new: NewPrice) -> Result<Price, ApiError> {
    let plan = store::find_plan(&app.pool, scope, new.plan_id).await?;
    let plan = plan
        .filter(|plan| plan.status == RowStatus::Published)
        .ok_or_else(|| ApiError::not_found(PlanId::NOUN))?;
    let now = app.clock.now();
    let price = Price {
        id,
        plan_id: new.plan_id,
        model: new.model,
        billing_period: new.billing_period,
        billing_period_count: new.billing_period_count,
        invoice_cadence: new.invoice_cadence,
        currency: new.currency,
        min_quantity: new.min_quantity,
        trial_period_days: new.trial_period_days,
        display_name: new.display_name.unwrap_or(plan.name),
        description: new.description,
        lookup_key: new.lookup_key,
        group_id: new.group_id,
        metadata: new.metadata,
        start_date: new.start_date.unwrap_or(now),
        end_date: new.end_date,
        parent_price_id: None,
        status: RowStatus::Published,
        created_at: now,
        updated_at: now,
    };
    if price.end_date.is_some_and(|end| end < price.start_date) {
        return Err(ApiError::validation("end_date", "must not be before start_date"));
    }
    let inserted = price.clone();
    db::transact(&app.pool, "create_price", move |tx| {
        let price = inserted.clone();
        Box::pin(async move { store::insert_price(tx, scope, &price).await.map_err(taken) })
    })
    .await?;
    Ok(price)
}

/// A change of a price; absent fields stay.
#[derive(Clone, Debug, Default)]
pub struct Change {
    pub display_name: Option<String>,
    pub description: Option<String>,
    /// Empty clears it.
    pub lookup_key: Option<String>,
    /// Empty clears it.
    pub group_id: Option<String>,
    pub metadata: Option<Value>,
}

impl Change {
    fn apply(self, price: &mut Price, now: DateTime<Utc>) {
        let clearable = |text: String| Some(text).filter(|text| !text.is_empty());
        if let Some(display_name) = self.display_name {
            price.display_name = display_name;
        }
        if let Some(description) = self.description {
            price.description = description;
        }
        if let Some(lookup_key) = self.lookup_key {
            price.lookup_key = clearable(lookup_key);
        }
        if let Some(group_id) = self.group_id {
            price.group_id = clearable(group_id);
        }
        if let Some(metadata) = self.metadata {
            price.metadata = metadata;
        }
        price.updated_at = now;
    }
}

/// Changes names and metadata in place.
pub async fn update(app: &App, scope: Scope, id: PriceId, change: Change) -> Result<Price, ApiError> {
    let now = app.clock.now();
    db::transact(&app.pool, "update_price", move |tx| {
        let change = change.clone();
        Box::pin(async move {
            let mut price = lock(tx, scope, id).await?;
            change.apply(&mut price, now);
            store::update_price(tx, scope, &price).await.map_err(taken)?;
            Ok(price)
        })
    })
    .await
}

/// New figures for a price, derived from the ones it has.
pub type Remodel = dyn Fn(&Price) -> Result<PriceModel, ApiError> + Send + Sync;

/// Ends a price at `effective_from` (now when absent) and starts its successor there, which is returned.
/// Subscriptions of the old price keep it.
pub async fn replace(
    app: &App,
    scope: Scope,
    id: PriceId,
    change: Change,
    remodel: std::sync::Arc<Remodel>,
    effective_from: Option<DateTime<Utc>>,
) -> Result<Price, ApiError> {
    let now = app.clock.now();
    let successor_id: PriceId = app.ids.next();
    db::transact(&app.pool, "replace_price", move |tx| {
        let (change, remodel) = (change.clone(), remodel.clone());
        Box::pin(async move {
            let old = lock(tx, scope, id).await?;
            let model = remodel(&old)?;
            let from = effective_from.unwrap_or_else(|| now.max(old.start_date));
            if old.has_ended(now) {
                return Err(ApiError::invalid_operation(
                    "the price has ended; it cannot be changed any more",
                ));
            }
            if from < old.start_date {
                return Err(ApiError::validation(
                    "effective_from",
                    "must not be before the price's start_date",
                ));
            }
            if old.has_ended(from) {
                return Err(ApiError::validation("effective_from", "must be before the price's end_date"));
            }
            let mut successor = Price {
                id: successor_id,
                model,
                start_date: from,
                parent_price_id: Some(old.id),
                created_at: now,
                ..old.clone()
            };
            change.apply(&mut successor, now);
            // First the end: a lookup key belongs to one price without an end.
            store::end_price(tx, scope, id, from, now).await?;
            store::insert_price(tx, scope, &successor).await.map_err(taken)?;
            Ok(successor)
        })
    })
    .await
}

/// Ends a price at `end_date` (now when absent), or before it ever started.
pub async fn end(
    app: &App,
    scope: Scope,
    id: PriceId,
    end_date: Option<DateTime<Utc>>,
) -> Result<(), ApiError> {
    let now = app.clock.now();
    db::transact(&app.pool, "end_price", move |tx| {
        Box::pin(async move {
            let price = lock(tx, scope, id).await?;
            let end = end_date.unwrap_or_else(|| now.max(price.start_date));
            if price.has_ended(now) {
                return Err(ApiError::invalid_operation("the price has already ended"));
            }
            if end < price.start_date {
                return Err(ApiError::validation("end_date", "must not be before the price's start_date"));
            }
            // A successor may start at the end that was set: it only ever moves back.
            if price.end_date.is_some_and(|set| end > set) {
                return Err(ApiError::validation(
                    "end_date",
                    "must not be after the end_date that is set already",
                ));
            }
            store::end_price(tx, scope, id, end, now).await?;
            Ok(())
        })
    })
    .await
}

async fn lock(tx: &mut db::Tx, scope: Scope, id: PriceId) -> Result<Price, ApiError> {
    store::lock_price(tx, scope, id).await?.ok_or_else(|| ApiError::not_found(PriceId::NOUN))
}

fn taken(error: db::Error) -> ApiError {
    if db::violated_constraint(&error) == Some("prices_lookup_key_unique") {
        ApiError::already_exists("another price already has this lookup_key")
            .detail("reason", "lookup_key_taken")
    } else {
        error.into()
    }
}
