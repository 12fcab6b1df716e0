//! `/v1/customers`.

use axum::{Json, extract::State, response::NoContent};
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
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
    http::{
        ApiError, Body, Caller, Created, IdPath, List, Named, Query, Reserved, Search,
        openapi::{ApiRouter, Metadata, doc, get_with, post_with},
    },
    kit::{money::Currency, page::Page},
    tenancy::{EnvironmentId, TenantId},
};

/// Routes under `/v1`. Reading one by its external id shares a route with its subscriptions, and so is there.
pub fn router() -> ApiRouter<App> {
    ApiRouter::new()
        .api_route(
            "/customers",
            post_with(create, doc("create_customer", "Create a customer", &[(409, TAKEN)])).put_with(
                update_by_query,
                doc(
                    "update_customer",
                    "Update a customer named in the query",
                    &[(404, UNKNOWN), (409, TAKEN)],
                ),
            ),
        )
        .api_route("/customers/search", post_with(search, doc("query_customer", "Search customers", &[])))
        .api_route(
            "/customers/{id}",
            get_with(read, doc("get_customer", "Get a customer", &[]))
                .put_with(update, doc("update_customer_by_id", "Update a customer", &[(409, TAKEN)]))
                .delete_with(
                    delete,
                    doc(
                        "delete_customer",
                        "Archive a customer",
                        &[(400, "the customer has a subscription or an open checkout session")],
                    ),
                ),
        )
}

const TAKEN: &str = "another customer has the external id";
const UNKNOWN: &str = "no such customer";

/// A customer on the wire.
#[derive(Clone, Debug, Serialize, JsonSchema)]
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
    /// Always empty.
    integrations: [(); 0],
    #[schemars(with = "Metadata")]
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
            integrations: [],
            metadata: profile.metadata,
            status,
            tenant_id: caller.scope.tenant,
            environment_id: caller.scope.environment,
            created_at,
            updated_at,
        }
    }
}

crate::define_create_request!(
    CreateRequest(CustomerRequest),
    "CreateCustomerRequest",
    ["external_id", "name"]
);

async fn create(
    caller: Caller,
    State(app): State<App>,
    reserved: Reserved,
    Body(CreateRequest(request)): Body<CreateRequest>,
) -> Result<Created<CustomerResponse>, ApiError> {
    let (app, scope) = (&app, caller.scope);
    let find = async |id| Ok(super::find(app, scope, id).await?);
    let make = async |id| customer::create(app, scope, id, Profile::new(request.parse_new()?)).await;
    let customer = reserved.once(&app.ids, find, make).await?;
    Ok(Created(CustomerResponse::new(caller, customer)))
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

#[derive(Deserialize, JsonSchema)]
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
) -> Result<NoContent, ApiError> {
    customer::archive(&app, caller.scope, id).await?;
    Ok(NoContent)
}

#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "SearchCustomersRequest")]
struct SearchRequest {
    customer_ids: Option<List>,
    external_id: Option<String>,
    external_ids: Option<List>,
    email: Option<String>,
    #[schemars(with = "Option<Metadata>")]
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
