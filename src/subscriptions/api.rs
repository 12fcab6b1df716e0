//! `/v1/subscriptions`.

use axum::{Json, extract::State};
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    Subscription, SubscriptionId, SubscriptionStatus, customer_api, operation_api, store,
    view::{Embed, Embedded, SubscriptionResponse},
};
use crate::{
    app::App,
    catalog::{BillingPeriod, PlanId},
    customers::{self, CustomerId},
    db::search::Column,
    http::{
        ApiError, Body, Caller, Expand, IdPath, List, Named, Query, Search, Violations,
        openapi::{ApiRouter, doc, get_with, post_with},
        optional_time,
    },
    kit::page::Page,
};

/// Routes under `/v1`. Reading one by its id is checkout's, whose session is shown with it.
pub fn router() -> ApiRouter<App> {
    ApiRouter::new()
        .api_route(
            "/subscriptions/search",
            post_with(search, doc("query_subscription", "Search subscriptions", &[])),
        )
        .api_route(
            "/subscriptions/{id}/v2",
            get_with(
                read_expanded,
                doc("get_subscription_v2", "Get a subscription with what is asked for", &[]),
            ),
        )
        .merge(operation_api::router())
        .merge(customer_api::router())
}

/// A subscription with its lines, their prices, its plan and its customer; 404 unknown.
pub async fn load_response(
    app: &App,
    caller: Caller,
    id: SubscriptionId,
) -> Result<SubscriptionResponse, ApiError> {
    load(app, caller, id, Embed { lines: true, prices: true, plan: true, customer: true }).await
}

/// With no more than `expand` asks for.
async fn read_expanded(
    caller: Caller,
    State(app): State<App>,
    IdPath(id): IdPath<SubscriptionId>,
    Query(expand): Query<Expand>,
) -> Result<Json<SubscriptionResponse>, ApiError> {
    Ok(Json(load(&app, caller, id, expanded(|what| expand.names(what))).await?))
}

async fn load(
    app: &App,
    caller: Caller,
    id: SubscriptionId,
    embed: Embed,
) -> Result<SubscriptionResponse, ApiError> {
    let found = store::find(&app.pool, caller.scope, id).await?;
    let subscription = found.ok_or_else(|| ApiError::not_found(SubscriptionId::NOUN))?;
    let mut embedded = Embedded::load(app, caller, std::slice::from_ref(&subscription), embed).await?;
    Ok(SubscriptionResponse::new(caller, subscription, &mut embedded))
}

/// What `expand` names: `plan`, `customer`, `subscription_line_items` (or `line_items`), and `prices` in those.
pub(super) fn expanded(expands: impl Fn(&str) -> bool) -> Embed {
    let prices = expands("prices");
    Embed {
        lines: prices || expands("subscription_line_items") || expands("line_items"),
        prices,
        plan: expands("plan"),
        customer: expands("customer"),
    }
}

/// A page with what its subscriptions point at.
pub(super) async fn embedded(
    app: &App,
    caller: Caller,
    page: Page<Subscription>,
    embed: Embed,
) -> Result<Page<SubscriptionResponse>, ApiError> {
    let mut embedded = Embedded::load(app, caller, &page.items, embed).await?;
    Ok(page.map(|subscription| SubscriptionResponse::new(caller, subscription, &mut embedded)))
}

#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "SearchSubscriptionsRequest")]
struct SearchRequest {
    customer_id: Option<List>,
    customer_ids: Option<List>,
    external_customer_id: Option<String>,
    plan_id: Option<List>,
    subscription_ids: Option<List>,
    subscription_status: Option<List>,
    billing_period: Option<List>,
    #[serde(default, deserialize_with = "optional_time")]
    active_at: Option<DateTime<Utc>>,
    with_line_items: Option<bool>,
    #[serde(flatten)]
    search: Search,
}

/// What searches and lists filter and sort by.
pub(super) const COLUMNS: &[Column] = &[
    Column::id("id", "subs"),
    Column::id("customer_id", "cust"),
    Column::id("plan_id", "plan"),
    Column::text("subscription_status"),
    Column::text("currency"),
    Column::text("billing_period"),
    Column::number("billing_period_count"),
    Column::text("collection_method"),
    Column::text("lookup_key"),
    Column::time("start_date"),
    Column::time("end_date"),
    Column::time("current_period_start"),
    Column::time("current_period_end"),
    Column::time("cancel_at"),
    Column::time("cancelled_at"),
    Column::time("created_at"),
    Column::time("updated_at"),
];

async fn search(
    caller: Caller,
    State(app): State<App>,
    Body(request): Body<SearchRequest>,
) -> Result<Json<Page<SubscriptionResponse>>, ApiError> {
    let criteria = request.search.parse(COLUMNS)?;
    let mut violations = Violations::default();
    let statuses = request
        .subscription_status
        .and_then(|all| all.terms::<SubscriptionStatus>("subscription_status", &mut violations));
    let billing_periods =
        request.billing_period.and_then(|all| all.terms::<BillingPeriod>("billing_period", &mut violations));
    violations.finish()?;
    let external_id = request.external_customer_id.as_deref();
    let wanted = store::Wanted {
        ids: request.subscription_ids.and_then(List::ids::<SubscriptionId>),
        customer_id: request.customer_id.and_then(List::ids::<CustomerId>),
        customer_ids: request.customer_ids.and_then(List::ids::<CustomerId>),
        named_customer_ids: customers::list_ids_by_external_id(&app, caller.scope, external_id).await?,
        plan_ids: request.plan_id.and_then(List::ids::<PlanId>),
        statuses,
        billing_periods,
        active_at: request.active_at,
    };
    let page = store::search(&app.pool, caller.scope, wanted, criteria).await?;
    let named = expanded(|what| request.search.expands(what));
    let embed = Embed { lines: named.lines || request.with_line_items.unwrap_or(false), ..named };
    Ok(Json(embedded(&app, caller, page, embed).await?))
}
