//! `/v1/customers/external/…`: a customer by the merchant's name for it, and that customer's subscriptions.
//!
//! The name may contain slashes, which some clients send as they are, so that one route takes all that follows. A path
//! that ends in `/subscriptions` asks for the subscriptions of whom it names before that, if there is such a customer;
//! else it is a name that ends so itself, as is every one whose last slash comes as `%2F`.

use axum::{
    Json, Router,
    extract::{Path, State, rejection::PathRejection},
    http::Uri,
    response::{IntoResponse, Response},
    routing::get,
};

use super::{api, store};
use crate::{
    app::App,
    customers::{self, Customer, CustomerId, CustomerResponse},
    db::{self, RowStatus},
    http::{ApiError, Caller, Named, Query, Search},
    tenancy::Scope,
};

/// Routes under `/v1`.
pub fn router() -> Router<App> {
    Router::new().route("/customers/external/{*external_id}", get(read))
}

const SUBSCRIPTIONS: &str = "/subscriptions";

async fn read(
    caller: Caller,
    State(app): State<App>,
    uri: Uri,
    name: Result<Path<String>, PathRejection>,
    Query(search): Query<Search>,
) -> Result<Response, ApiError> {
    // Not UTF-8, or with the one character that Postgres cannot store: no customer is called that.
    let Path(name) = name.map_err(|_| unknown())?;
    if name.contains('\0') {
        return Err(unknown());
    }
    let owner = name.strip_suffix(SUBSCRIPTIONS).filter(|_| uri.path().ends_with(SUBSCRIPTIONS));
    if let Some(owner) = owner
        && let Some(customer) = find(&app, caller.scope, owner).await?
    {
        return list(&app, caller, &search, customer.id).await;
    }
    let customer = find(&app, caller.scope, &name).await?.ok_or_else(unknown)?;
    Ok(Json(CustomerResponse::new(caller, customer)).into_response())
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
) -> Result<Response, ApiError> {
    let criteria = search.parse(api::COLUMNS)?;
    let wanted = store::Wanted { customer_id: Some(vec![customer.into()]), ..store::Wanted::default() };
    let page = store::search(&app.pool, caller.scope, wanted, criteria).await?;
    Ok(Json(api::embedded(app, caller, page, api::expanded(search)).await?).into_response())
}

fn unknown() -> ApiError {
    ApiError::not_found(CustomerId::NOUN)
}
