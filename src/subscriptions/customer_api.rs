//! `/v1/customers/external/…`: a customer by the merchant's name for it, and that customer's subscriptions.
//!
//! The name may contain slashes, which some clients send as they are, so that one route takes all that follows. A path
//! that ends in `/subscriptions` asks for the subscriptions of whom it names before that; a name that ends so itself is
//! told by its last slash, which comes as `%2F`.

use aide::{
    OperationInput, OperationOutput,
    generate::GenContext,
    openapi::{Operation, Response as Described},
};
use axum::{
    Json,
    extract::{FromRequestParts, Path, State},
    http::request::Parts,
    response::{IntoResponse, Response},
};

use super::{api, store, view::SubscriptionResponse};
use crate::{
    app::App,
    customers::{self, Customer, CustomerId, CustomerResponse},
    db::{self, RowStatus},
    http::{
        ApiError, Caller, Named, Query, Search,
        openapi::{ApiRouter, described_only, doc, get_with},
    },
    kit::page::Page,
    tenancy::Scope,
};

/// Routes under `/v1`.
pub fn router() -> ApiRouter<App> {
    let unknown = [(404, "no such customer")];
    let unknown_or_unsupported =
        [unknown[0], (501, "the path ends in /entitlements, which are not supported")];
    ApiRouter::new()
        .api_route(
            "/customers/external/{*external_id}",
            get_with(
                read,
                doc(
                    "get_customer_by_external_id",
                    "Get a customer by its external id",
                    &unknown_or_unsupported,
                ),
            ),
        )
        .api_route_docs(
            "/customers/external/{external_id}/subscriptions",
            described_only::<(Caller, Query<Search>), Result<Json<Page<SubscriptionResponse>>, ApiError>>(
                "get",
                doc("get_subscriptions_for_customer", "List a customer's subscriptions", &unknown),
            ),
        )
}

/// What the route is asked for.
enum Found {
    Customer(Box<CustomerResponse>),
    /// Described on a path of its own.
    Subscriptions(Page<SubscriptionResponse>),
}

impl IntoResponse for Found {
    fn into_response(self) -> Response {
        match self {
            Self::Customer(customer) => Json(customer).into_response(),
            Self::Subscriptions(page) => Json(page).into_response(),
        }
    }
}

impl OperationOutput for Found {
    type Inner = CustomerResponse;

    fn operation_response(ctx: &mut GenContext, operation: &mut Operation) -> Option<Described> {
        Json::<CustomerResponse>::operation_response(ctx, operation)
    }

    fn inferred_responses(ctx: &mut GenContext, operation: &mut Operation) -> Vec<(Option<u16>, Described)> {
        Json::<CustomerResponse>::inferred_responses(ctx, operation)
    }
}

/// What the path asks for.
struct Asked {
    external_id: String,
    /// For that customer's subscriptions; else it asks for the customer.
    subscriptions: Option<Search>,
}

const SUBSCRIPTIONS: &str = "/subscriptions";
/// Of the compatible API, too; there are none here.
const ENTITLEMENTS: &str = "/entitlements";

impl<S: Send + Sync> FromRequestParts<S> for Asked {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        // Not UTF-8, or with the one character that Postgres cannot store: no customer is called that.
        let name = Path::<String>::from_request_parts(parts, state).await;
        let Path(name) = name.ok().filter(|Path(name)| !name.contains('\0')).ok_or_else(unknown)?;
        if parts.uri.path().ends_with(ENTITLEMENTS) {
            let operation = "customers.get_customer_entitlements_by_external_id";
            return Err(ApiError::operation_not_supported(operation));
        }
        match name.strip_suffix(SUBSCRIPTIONS).filter(|_| parts.uri.path().ends_with(SUBSCRIPTIONS)) {
            Some(owner) => {
                let Query(search) = Query::from_request_parts(parts, state).await?;
                Ok(Self { external_id: owner.to_owned(), subscriptions: Some(search) })
            }
            None => Ok(Self { external_id: name, subscriptions: None }),
        }
    }
}

/// Paths describe their parameters by themselves.
impl OperationInput for Asked {}

async fn read(caller: Caller, State(app): State<App>, asked: Asked) -> Result<Found, ApiError> {
    let customer = find(&app, caller.scope, &asked.external_id).await?.ok_or_else(unknown)?;
    Ok(match asked.subscriptions {
        Some(search) => Found::Subscriptions(list(&app, caller, &search, customer.id).await?),
        None => Found::Customer(Box::new(CustomerResponse::new(caller, customer))),
    })
}

async fn find(app: &App, scope: Scope, external_id: &str) -> Result<Option<Customer>, db::Error> {
    let found = customers::find_by_external_id(app, scope, external_id).await?;
    Ok(found.filter(|customer| customer.status == RowStatus::Published))
}

async fn list(
    app: &App,
    caller: Caller,
    search: &Search,
    customer: CustomerId,
) -> Result<Page<SubscriptionResponse>, ApiError> {
    let criteria = search.parse(api::COLUMNS)?;
    let wanted = store::Wanted { customer_id: Some(vec![customer.into()]), ..store::Wanted::default() };
    let page = store::search(&app.pool, caller.scope, wanted, criteria).await?;
    api::embedded(app, caller, page, api::expanded(|what| search.expands(what))).await
}

fn unknown() -> ApiError {
    ApiError::not_found(CustomerId::NOUN)
}
