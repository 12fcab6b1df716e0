//! `/v1/prices`.

use std::sync::Arc;

use axum::{Json, extract::State};
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    BillingModel, BillingPeriod, InvoiceCadence, PlanId, Price, PriceId, PriceModel, Rounding, TierMode,
    price,
    price_request::{CreateRequest, UpdateRequest},
    store,
};
use crate::{
    app::App,
    db::{RowStatus, search::Column},
    http::{
        ApiError, Body, Caller, Created, IdPath, List, Message, Named, Reserved, Search, Violations,
        openapi::{ApiRouter, Metadata, doc, get_with, post_with},
        optional_time,
    },
    kit::{money::Money, page::Page},
    tenancy::{EnvironmentId, TenantId},
};

pub fn router() -> ApiRouter<App> {
    ApiRouter::new()
        .api_route(
            "/prices",
            post_with(create, doc("create_price", "Create a price", &[(404, "no such plan"), (409, TAKEN)])),
        )
        .api_route("/prices/search", post_with(search, doc("query_price", "Search prices", &[])))
        .api_route(
            "/prices/{id}",
            get_with(read, doc("get_price", "Get a price", &[]))
                .put_with(
                    update,
                    doc(
                        "update_price",
                        "Update a price, or replace it where its figures change",
                        &[(409, TAKEN)],
                    ),
                )
                .delete_with(end, doc("delete_price", "End a price", &[])),
        )
}

const TAKEN: &str = "another price has the lookup key";

/// A price on the wire: amounts and quantities are strings.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct PriceResponse {
    id: PriceId,
    entity_type: &'static str,
    entity_id: PlanId,
    plan_id: PlanId,
    r#type: &'static str,
    billing_model: BillingModel,
    billing_period: BillingPeriod,
    billing_period_count: i32,
    billing_cadence: &'static str,
    invoice_cadence: InvoiceCadence,
    currency: String,
    price_unit_type: &'static str,
    /// Null for TIERED.
    amount: Option<String>,
    display_amount: Option<String>,
    tier_mode: Option<TierMode>,
    tiers: Option<Vec<TierResponse>>,
    transform_quantity: Option<TransformQuantityResponse>,
    min_quantity: Option<String>,
    trial_period_days: i32,
    display_name: String,
    description: String,
    lookup_key: Option<String>,
    group_id: Option<String>,
    #[schemars(with = "Metadata")]
    metadata: Value,
    start_date: DateTime<Utc>,
    end_date: Option<DateTime<Utc>>,
    parent_price_id: Option<PriceId>,
    status: RowStatus,
    tenant_id: TenantId,
    environment_id: EnvironmentId,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(rename = "Tier")]
struct TierResponse {
    up_to: Option<i64>,
    unit_amount: String,
    flat_amount: String,
}

#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(rename = "TransformQuantity")]
struct TransformQuantityResponse {
    divide_by: i64,
    round: Rounding,
}

impl PriceResponse {
    /// `price` as the caller sees it.
    pub fn new(caller: Caller, price: Price) -> Self {
        let decimal = |minor| Money::new(minor, price.currency).decimal();
        let (mut amount, mut tier_mode, mut tiers, mut transform_quantity) = (None, None, None, None);
        match &price.model {
            PriceModel::FlatFee { amount_minor } => amount = Some(decimal(*amount_minor)),
            PriceModel::Package { amount_minor, divide_by, round } => {
                amount = Some(decimal(*amount_minor));
                transform_quantity = Some(TransformQuantityResponse { divide_by: *divide_by, round: *round });
            }
            PriceModel::Tiered { mode, tiers: steps } => {
                tier_mode = Some(*mode);
                let steps = steps.as_slice().iter().map(|tier| TierResponse {
                    up_to: tier.up_to,
                    unit_amount: decimal(tier.unit_amount_minor),
                    flat_amount: decimal(tier.flat_amount_minor),
                });
                tiers = Some(steps.collect());
            }
        }
        let is_onetime = price.billing_period == BillingPeriod::Onetime;
        Self {
            id: price.id,
            entity_type: "PLAN",
            entity_id: price.plan_id,
            plan_id: price.plan_id,
            r#type: "FIXED",
            billing_model: price.model.billing_model(),
            billing_period: price.billing_period,
            billing_period_count: price.billing_period_count,
            billing_cadence: if is_onetime { "ONETIME" } else { "RECURRING" },
            invoice_cadence: price.invoice_cadence,
            currency: price.currency.lower(),
            price_unit_type: "FIAT",
            display_amount: amount.as_ref().map(|amount| price.currency.symbol() + amount),
            amount,
            tier_mode,
            tiers,
            transform_quantity,
            min_quantity: price.min_quantity.map(|quantity| quantity.to_string()),
            trial_period_days: price.trial_period_days,
            display_name: price.display_name,
            description: price.description,
            lookup_key: price.lookup_key,
            group_id: price.group_id,
            metadata: price.metadata,
            start_date: price.start_date,
            end_date: price.end_date,
            parent_price_id: price.parent_price_id,
            status: price.status,
            tenant_id: caller.scope.tenant,
            environment_id: caller.scope.environment,
            created_at: price.created_at,
            updated_at: price.updated_at,
        }
    }
}

async fn create(
    caller: Caller,
    State(app): State<App>,
    reserved: Reserved,
    Body(request): Body<CreateRequest>,
) -> Result<Created<PriceResponse>, ApiError> {
    let find = async |id| Ok(super::find_price(&app, caller.scope, id).await?);
    let make = async |id| price::create(&app, caller.scope, id, request.parse()?).await;
    let price = reserved.once(&app.ids, find, make).await?;
    Ok(Created(PriceResponse::new(caller, price)))
}

async fn read(
    caller: Caller,
    State(app): State<App>,
    IdPath(id): IdPath<PriceId>,
) -> Result<Json<PriceResponse>, ApiError> {
    let found = super::find_price(&app, caller.scope, id).await?;
    let price = found.ok_or_else(|| ApiError::not_found(PriceId::NOUN))?;
    Ok(Json(PriceResponse::new(caller, price)))
}

async fn update(
    caller: Caller,
    State(app): State<App>,
    IdPath(id): IdPath<PriceId>,
    Body(request): Body<UpdateRequest>,
) -> Result<Json<PriceResponse>, ApiError> {
    let update = request.parse()?;
    let price = match update.figures {
        None => price::update(&app, caller.scope, id, update.change).await?,
        Some(figures) => {
            let remodel = Arc::new(move |price: &Price| figures.remodel(price));
            price::replace(&app, caller.scope, id, update.change, remodel, update.effective_from).await?
        }
    };
    Ok(Json(PriceResponse::new(caller, price)))
}

#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "EndPriceRequest")]
struct EndRequest {
    #[serde(default, deserialize_with = "optional_time")]
    end_date: Option<DateTime<Utc>>,
}

async fn end(
    caller: Caller,
    State(app): State<App>,
    IdPath(id): IdPath<PriceId>,
    Body(request): Body<EndRequest>,
) -> Result<Json<Message>, ApiError> {
    price::end(&app, caller.scope, id, request.end_date).await?;
    Ok(Json(Message { message: "price ended" }))
}

#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "SearchPricesRequest")]
struct SearchRequest {
    plan_ids: Option<List>,
    price_ids: Option<List>,
    entity_type: Option<String>,
    entity_ids: Option<List>,
    meter_ids: Option<List>,
    billing_periods: Option<List>,
    parent_price_id: Option<List>,
    subscription_id: Option<String>,
    allow_expired_prices: Option<bool>,
    #[serde(default, deserialize_with = "optional_time")]
    start_date_lt: Option<DateTime<Utc>>,
    #[serde(default, deserialize_with = "optional_time")]
    updated_after: Option<DateTime<Utc>>,
    #[serde(flatten)]
    search: Search,
}

const COLUMNS: &[Column] = &[
    Column::id("id", "price"),
    Column::id("plan_id", "plan"),
    Column::id("parent_price_id", "price"),
    Column::text("display_name"),
    Column::text("lookup_key"),
    Column::text("group_id"),
    Column::text("billing_model"),
    Column::text("billing_period"),
    Column::number("billing_period_count"),
    Column::text("invoice_cadence"),
    Column::text("currency"),
    Column::time("start_date"),
    Column::time("end_date"),
    Column::time("created_at"),
    Column::time("updated_at"),
];

async fn search(
    caller: Caller,
    State(app): State<App>,
    Body(request): Body<SearchRequest>,
) -> Result<Json<Page<PriceResponse>>, ApiError> {
    let criteria = request.search.parse(COLUMNS)?;
    let mut violations = Violations::default();
    let entity_type = request.entity_type.as_deref().unwrap_or("PLAN").to_ascii_uppercase();
    violations.require(
        ["PLAN", "SUBSCRIPTION", "ADDON", "PRICE", "COSTSHEET"].contains(&entity_type.as_str()),
        "entity_type",
        "must be one of PLAN, SUBSCRIPTION, ADDON, PRICE, COSTSHEET",
    );
    let billing_periods = request
        .billing_periods
        .and_then(|periods| periods.terms::<BillingPeriod>("billing_periods", &mut violations));
    violations.finish()?;
    // Plans are all that has prices here: a search for others' prices finds none.
    let of_others = entity_type != "PLAN"
        || request.subscription_id.is_some()
        || request.meter_ids.and_then(List::texts).is_some();
    let wanted = store::WantedPrices {
        ids: request.price_ids.and_then(List::ids::<PriceId>),
        plan_ids: request.plan_ids.and_then(List::ids::<PlanId>),
        entity_ids: request.entity_ids.and_then(List::ids::<PlanId>),
        billing_periods,
        parent_ids: request.parent_price_id.and_then(List::ids::<PriceId>),
        unended_at: (!request.allow_expired_prices.unwrap_or(false)).then(|| app.clock.now()),
        started_before: request.start_date_lt,
        updated_after: request.updated_after,
        none: of_others,
    };
    let page = store::search_prices(&app.pool, caller.scope, wanted, criteria).await?;
    Ok(Json(page.map(|price| PriceResponse::new(caller, price))))
}
