//! The catalog: plans and the prices they are sold at.

pub mod api;
mod figures;
mod plan;
mod plan_api;
mod price;
mod price_api;
mod price_request;
mod pricing;
mod store;
mod terms;
#[cfg(test)]
mod tests;

pub use plan::{Plan, PlanId};
pub use plan_api::PlanResponse;
pub use price::{Price, PriceId};
pub use price_api::PriceResponse;
pub use pricing::{PriceModel, PricingError, Tier, Tiers, TiersError};
pub use terms::{BillingModel, BillingPeriod, InvoiceCadence, Rounding, TierMode, UnknownTerm};

use crate::{app::App, db, tenancy::Scope};

/// A plan by its id, archived or not.
pub async fn find_plan(app: &App, scope: Scope, id: PlanId) -> Result<Option<Plan>, db::Error> {
    store::find_plan(&app.pool, scope, id).await
}

/// The plans of these ids, archived or not.
pub async fn list_plans(app: &App, scope: Scope, ids: &[PlanId]) -> Result<Vec<Plan>, db::Error> {
    store::list_plans(&app.pool, scope, ids).await
}

/// A price by its id, ended or not.
pub async fn find_price(app: &App, scope: Scope, id: PriceId) -> Result<Option<Price>, db::Error> {
    store::find_price(&app.pool, scope, id).await
}

/// The prices of these ids, ended or not.
pub async fn list_prices(app: &App, scope: Scope, ids: &[PriceId]) -> Result<Vec<Price>, db::Error> {
    store::list_prices(&app.pool, scope, ids).await
}

/// Prices as `jsonb_agg(to_jsonb(prices))` gives them, for statements that read other tables too.
///
/// # Errors
/// A value that no CHECK of the table lets through.
pub fn read_prices(rows: serde_json::Value) -> Result<Vec<Price>, db::Error> {
    store::read_prices(rows)
}
