//! `/v1/customers`.

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    routing::{post, put},
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    ContactPerson, Customer, CustomerId, Profile, TaxTreatment,
    customer::{self, Name},
    request::CustomerRequest,
    store,
};
use crate::{
    app::App,
    db::{RowStatus, search::Column},
    http::{ApiError, Body, Caller, IdPath, List, Named, Query, Search},
    kit::{money::Currency, page::Page},
    tenancy::{EnvironmentId, TenantId},
};

/// Routes under `/v1`. Reading one by its external id shares a route with its subscriptions, and so is there.
pub fn router() -> Router<App> {
    Router::new()
        .route("/customers", post(create).put(update_by_query))
        .route("/customers/search", post(search))
        .route("/customers/{id}", put(update).get(read).delete(delete))
}

/// A customer on the wire.
#[derive(Clone, Debug, Serialize)]
pub struct CustomerResponse {
    id: CustomerId,
    external_id: String,
    name: String,
    email: Option<String>,
    contact: Option<String>,
    address_line1: Option<String>,
    address_line2: Option<String>,
    address_city: Option<String>,
    address_state: Option<String>,
    address_postal_code: Option<String>,
    address_country: Option<String>,
    billing_currency: Option<String>,
    timezone: &'static str,
    tax_treatment: TaxTreatment,
    contact_persons: Vec<ContactPerson>,
    metadata: Value,
    status: RowStatus,
    tenant_id: TenantId,
    environment_id: EnvironmentId,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl CustomerResponse {
    /// `customer` as the caller sees it.
    pub fn new(caller: Caller, customer: Customer) -> Self {
        let Customer { id, status, created_at, updated_at, profile } = customer;
        Self {
            id,
            external_id: profile.external_id,
            name: profile.name,
            email: profile.email,
            contact: profile.contact,
            address_line1: profile.address.line1,
            address_line2: profile.address.line2,
            address_city: profile.address.city,
            address_state: profile.address.state,
            address_postal_code: profile.address.postal_code,
            address_country: profile.address.country,
            billing_currency: profile.billing_currency.map(Currency::lower),
            timezone: profile.timezone.name(),
            tax_treatment: profile.tax_treatment,
            contact_persons: profile.contact_persons,
            metadata: profile.metadata,
            status,
            tenant_id: caller.scope.tenant,
            environment_id: caller.scope.environment,
            created_at,
            updated_at,
        }
    }
}

async fn create(
    caller: Caller,
    State(app): State<App>,
    Body(request): Body<CustomerRequest>,
) -> Result<(StatusCode, Json<CustomerResponse>), ApiError> {
    let profile = Profile::new(request.parse_new()?);
    let customer = customer::create(&app, caller.scope, profile).await?;
    Ok((StatusCode::CREATED, Json(CustomerResponse::new(caller, customer))))
}

async fn read(
    caller: Caller,
    State(app): State<App>,
    IdPath(id): IdPath<CustomerId>,
) -> Result<Json<CustomerResponse>, ApiError> {
    let customer = super::find(&app, caller.scope, id).await?.ok_or_else(unknown)?;
    Ok(Json(CustomerResponse::new(caller, customer)))
}

async fn update(
    caller: Caller,
    State(app): State<App>,
    IdPath(id): IdPath<CustomerId>,
    Body(request): Body<CustomerRequest>,
) -> Result<Json<CustomerResponse>, ApiError> {
    let customer = customer::update(&app, caller.scope, Name::Id(id), request.parse_change()?).await?;
    Ok(Json(CustomerResponse::new(caller, customer)))
}

#[derive(Deserialize)]
struct UpdateQuery {
    id: Option<String>,
    external_customer_id: Option<String>,
}

async fn update_by_query(
    caller: Caller,
    State(app): State<App>,
    Query(query): Query<UpdateQuery>,
    Body(request): Body<CustomerRequest>,
) -> Result<Json<CustomerResponse>, ApiError> {
    let name = match (query.id, query.external_customer_id) {
        (Some(id), _) => Name::Id(id.parse().map_err(|_| unknown())?),
        (None, Some(external_id)) => Name::ExternalId(external_id),
        (None, None) => {
            return Err(ApiError::validation("id", "or external_customer_id is required in the query"));
        }
    };
    let customer = customer::update(&app, caller.scope, name, request.parse_change()?).await?;
    Ok(Json(CustomerResponse::new(caller, customer)))
}

async fn delete(
    caller: Caller,
    State(app): State<App>,
    IdPath(id): IdPath<CustomerId>,
) -> Result<StatusCode, ApiError> {
    customer::archive(&app, caller.scope, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
struct SearchRequest {
    customer_ids: Option<List>,
    external_id: Option<String>,
    external_ids: Option<List>,
    email: Option<String>,
    metadata: Option<Map<String, Value>>,
    #[serde(flatten)]
    search: Search,
}

const COLUMNS: &[Column] = &[
    Column::id("id", "cust"),
    Column::text("external_id"),
    Column::text("name"),
    Column::text("email"),
    Column::text("contact"),
    Column::text("address_country"),
    Column::text("billing_currency"),
    Column::time("created_at"),
    Column::time("updated_at"),
];

async fn search(
    caller: Caller,
    State(app): State<App>,
    Body(request): Body<SearchRequest>,
) -> Result<Json<Page<CustomerResponse>>, ApiError> {
    let criteria = request.search.parse(COLUMNS)?;
    let wanted = store::Wanted {
        ids: request.customer_ids.and_then(List::ids::<CustomerId>),
        external_id: request.external_id,
        external_ids: request.external_ids.and_then(List::texts),
        email: request.email,
        metadata: request.metadata.map(Value::Object),
    };
    let page = store::search(&app.pool, caller.scope, wanted, criteria).await?;
    Ok(Json(page.map(|customer| CustomerResponse::new(caller, customer))))
}

fn unknown() -> ApiError {
    ApiError::not_found(CustomerId::NOUN)
}
