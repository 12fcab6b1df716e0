//! `/v1/plans`.

use std::collections::HashMap;

use axum::{Json, extract::State};
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    Plan, PlanId,
    plan::{self, Change, NewPlan},
    price_api::PriceResponse,
    store,
};
use crate::{
    app::App,
    db::{RowStatus, search::Column},
    http::{
        ApiError, Body, Caller, Created, IdPath, List, Message, Named, Reserved, Search, Violations,
        check_length, check_name, metadata_violations,
        openapi::{ApiRouter, Metadata, doc, get_with, post_with},
    },
    kit::page::Page,
    tenancy::{EnvironmentId, TenantId},
};

const MAX_NAME: usize = 255;
const MAX_DESCRIPTION: usize = 2000;

pub fn router() -> ApiRouter<App> {
    ApiRouter::new()
        .api_route("/plans", post_with(create, doc("create_plan", "Create a plan", &[(409, TAKEN)])))
        .api_route("/plans/search", post_with(search, doc("query_plan", "Search plans", &[])))
        .api_route(
            "/plans/{id}",
            get_with(read, doc("get_plan", "Get a plan with its prices", &[]))
                .put_with(update, doc("update_plan", "Update a plan", &[(409, TAKEN)]))
                .delete_with(
                    delete,
                    doc(
                        "delete_plan",
                        "Archive a plan",
                        &[(400, "a subscription that is not cancelled uses it")],
                    ),
                ),
        )
}

const TAKEN: &str = "another plan has the lookup key";

/// The members of a plan.
#[derive(Default, Deserialize, JsonSchema)]
#[schemars(rename = "UpdatePlanRequest")]
#[serde(default)]
struct PlanRequest {
    #[schemars(length(min = 1, max = 255))]
    name: Option<String>,
    #[schemars(length(max = 2000))]
    description: Option<String>,
    /// Another name for the plan, which sessions may use.
    #[schemars(length(max = 255))]
    lookup_key: Option<String>,
    display_order: Option<i64>,
    #[schemars(with = "Option<Metadata>")]
    metadata: Option<Map<String, Value>>,
}

impl PlanRequest {
    fn check(&self, violations: &mut Violations) {
        check_name(violations, "name", self.name.as_deref(), MAX_NAME);
        check_length(violations, "description", self.description.as_deref(), MAX_DESCRIPTION);
        check_length(violations, "lookup_key", self.lookup_key.as_deref(), MAX_NAME);
        if let Some(metadata) = &self.metadata {
            metadata_violations(violations, "metadata", metadata);
        }
    }
}

/// A plan on the wire.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct PlanResponse {
    id: PlanId,
    name: String,
    description: String,
    lookup_key: Option<String>,
    display_order: Option<i64>,
    #[schemars(with = "Metadata")]
    metadata: Value,
    /// Those that have not ended; a search has them only when asked to.
    #[serde(skip_serializing_if = "Option::is_none")]
    prices: Option<Vec<PriceResponse>>,
    /// Always empty.
    entitlements: [(); 0],
    /// Always empty.
    credit_grants: [(); 0],
    status: RowStatus,
    tenant_id: TenantId,
    environment_id: EnvironmentId,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl PlanResponse {
    /// `plan` as the caller sees it.
    pub fn new(caller: Caller, plan: Plan, prices: Option<Vec<PriceResponse>>) -> Self {
        Self {
            id: plan.id,
            name: plan.name,
            description: plan.description,
            lookup_key: plan.lookup_key,
            display_order: plan.display_order,
            metadata: plan.metadata,
            prices,
            entitlements: [],
            credit_grants: [],
            status: plan.status,
            tenant_id: caller.scope.tenant,
            environment_id: caller.scope.environment,
            created_at: plan.created_at,
            updated_at: plan.updated_at,
        }
    }
}

crate::define_create_request!(CreateRequest(PlanRequest), "CreatePlanRequest", ["name"]);

async fn create(
    caller: Caller,
    State(app): State<App>,
    reserved: Reserved,
    Body(CreateRequest(request)): Body<CreateRequest>,
) -> Result<Created<PlanResponse>, ApiError> {
    let mut violations = Violations::default();
    violations.require(request.name.is_some(), "name", "is required");
    request.check(&mut violations);
    violations.finish()?;
    let new = NewPlan {
        name: request.name.unwrap_or_default(),
        description: request.description.unwrap_or_default(),
        lookup_key: request.lookup_key.filter(|key| !key.is_empty()),
        display_order: request.display_order,
        metadata: Value::Object(request.metadata.unwrap_or_default()),
    };
    let find = async |id| Ok(super::find_plan(&app, caller.scope, id).await?);
    let make = async |id| plan::create(&app, caller.scope, id, new).await;
    let plan = reserved.once(&app.ids, find, make).await?;
    // Nothing hangs below a plan that was just made.
    let prices =
        if reserved.is_later() { prices_by_plan(&app, caller, &[plan.id]).await? } else { HashMap::new() };
    let prices = prices.into_values().next().unwrap_or_default();
    Ok(Created(PlanResponse::new(caller, plan, Some(prices))))
}

async fn read(
    caller: Caller,
    State(app): State<App>,
    IdPath(id): IdPath<PlanId>,
) -> Result<Json<PlanResponse>, ApiError> {
    let found = super::find_plan(&app, caller.scope, id).await?;
    let plan = found.ok_or_else(|| ApiError::not_found(PlanId::NOUN))?;
    with_prices(&app, caller, plan).await
}

async fn update(
    caller: Caller,
    State(app): State<App>,
    IdPath(id): IdPath<PlanId>,
    Body(request): Body<PlanRequest>,
) -> Result<Json<PlanResponse>, ApiError> {
    let mut violations = Violations::default();
    request.check(&mut violations);
    violations.finish()?;
    let change = Change {
        name: request.name,
        description: request.description,
        lookup_key: request.lookup_key,
        display_order: request.display_order,
        metadata: request.metadata.map(Value::Object),
    };
    let plan = plan::update(&app, caller.scope, id, change).await?;
    with_prices(&app, caller, plan).await
}

async fn delete(
    caller: Caller,
    State(app): State<App>,
    IdPath(id): IdPath<PlanId>,
) -> Result<Json<Message>, ApiError> {
    plan::archive(&app, caller.scope, id).await?;
    Ok(Json(Message { message: "plan deleted" }))
}

async fn with_prices(app: &App, caller: Caller, plan: Plan) -> Result<Json<PlanResponse>, ApiError> {
    let mut prices = prices_by_plan(app, caller, &[plan.id]).await?;
    let prices = prices.remove(&plan.id).unwrap_or_default();
    Ok(Json(PlanResponse::new(caller, plan, Some(prices))))
}

async fn prices_by_plan(
    app: &App,
    caller: Caller,
    plans: &[PlanId],
) -> Result<HashMap<PlanId, Vec<PriceResponse>>, ApiError> {
    let mut by_plan: HashMap<PlanId, Vec<PriceResponse>> = HashMap::new();
    for price in store::list_unended_prices(&app.pool, caller.scope, plans, app.clock.now()).await? {
        by_plan.entry(price.plan_id).or_default().push(PriceResponse::new(caller, price));
    }
    Ok(by_plan)
}

#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "SearchPlansRequest")]
struct SearchRequest {
    plan_ids: Option<List>,
    lookup_key: Option<String>,
    /// Plans that have all of these pairs.
    metadata: Option<Map<String, Value>>,
    #[serde(flatten)]
    search: Search,
}

const COLUMNS: &[Column] = &[
    Column::id("id", "plan"),
    Column::text("name"),
    Column::text("description"),
    Column::text("lookup_key"),
    Column::number("display_order"),
    Column::time("created_at"),
    Column::time("updated_at"),
];

async fn search(
    caller: Caller,
    State(app): State<App>,
    Body(request): Body<SearchRequest>,
) -> Result<Json<Page<PlanResponse>>, ApiError> {
    let criteria = request.search.parse(COLUMNS)?;
    let ids = request.plan_ids.and_then(List::ids::<PlanId>);
    let metadata = request.metadata.map(Value::Object);
    let page =
        store::search_plans(&app.pool, caller.scope, ids, request.lookup_key, metadata, criteria).await?;
    let mut prices = if request.search.expands("prices") {
        let plans: Vec<PlanId> = page.items.iter().map(|plan| plan.id).collect();
        Some(prices_by_plan(&app, caller, &plans).await?)
    } else {
        None
    };
    Ok(Json(page.map(|plan| {
        let prices = prices.as_mut().map(|prices| prices.remove(&plan.id).unwrap_or_default());
        PlanResponse::new(caller, plan, prices)
    })))
}
