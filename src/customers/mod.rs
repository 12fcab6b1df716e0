//! Customers: who subscribes.

pub mod api;
mod customer;
mod request;
mod store;

pub use api::CustomerResponse;
pub use customer::{Address, ContactPerson, Customer, CustomerId, Profile, TaxTreatment};

use uuid::Uuid;

use crate::{app::App, db, tenancy::Scope};

/// A customer by its id, archived or not.
pub async fn find(app: &App, scope: Scope, id: CustomerId) -> Result<Option<Customer>, db::Error> {
    store::find_customer(&app.pool, scope, id).await
}

/// The customers of these ids, archived or not.
pub async fn list(app: &App, scope: Scope, ids: &[CustomerId]) -> Result<Vec<Customer>, db::Error> {
    store::list_customers(&app.pool, scope, ids).await
}

/// The ids of all customers that have or had this external id, for searches; none for none.
pub async fn list_ids_by_external_id(
    app: &App,
    scope: Scope,
    external_id: Option<&str>,
) -> Result<Option<Vec<Uuid>>, db::Error> {
    let Some(external_id) = external_id else { return Ok(None) };
    store::list_ids_by_external_id(&app.pool, scope, external_id).await.map(Some)
}

/// A customer by the merchant's name for it: the published one, or else the one archived last.
pub async fn find_by_external_id(
    app: &App,
    scope: Scope,
    external_id: &str,
) -> Result<Option<Customer>, db::Error> {
    match store::find_published_by_external_id(&app.pool, scope, external_id).await? {
        Some(customer) => Ok(Some(customer)),
        None => store::find_archived_by_external_id(&app.pool, scope, external_id).await,
    }
}
