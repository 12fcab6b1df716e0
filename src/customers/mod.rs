//! Customers: who subscribes.

pub mod api;
mod customer;
mod request;
mod store;

pub use customer::{Address, ContactPerson, Customer, CustomerId, Profile, TaxTreatment};

use crate::{app::App, db, tenancy::Scope};

/// A customer by its id, archived or not.
pub async fn find(app: &App, scope: Scope, id: CustomerId) -> Result<Option<Customer>, db::Error> {
    store::find_customer(&app.pool, scope, id).await
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
