//! Customers: who subscribes. The merchant's own name for one is its external id.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::store;
use crate::{
    app::App,
    db::{self, RowStatus},
    http::{ApiError, Named},
    kit::money::Currency,
    tenancy::Scope,
};

crate::define_ids! {
    /// A customer.
    CustomerId = "cust";
}

impl Named for CustomerId {
    const NOUN: &'static str = "customer";
}

/// Who subscribes.
#[derive(Clone, Debug)]
pub struct Customer {
    /// Its id.
    pub id: CustomerId,
    /// The row's own life.
    pub status: RowStatus,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
    /// What the merchant says about it.
    pub profile: Profile,
}

/// What a merchant says about a customer; all of it may change.
#[derive(Clone, Debug)]
pub struct Profile {
    /// The merchant's own name, unique among published customers.
    pub external_id: String,
    /// Name of the person or the company.
    pub name: String,
    /// Where mail goes.
    pub email: Option<String>,
    /// Telephone number; mandates need it.
    pub contact: Option<String>,
    /// Postal address.
    pub address: Address,
    /// Preferred currency; sessions name their own.
    pub billing_currency: Option<Currency>,
    /// Billing periods are computed on this zone's calendar.
    pub timezone: Tz,
    /// Whether tax is due.
    pub tax_treatment: TaxTreatment,
    /// People at the customer.
    pub contact_persons: Vec<ContactPerson>,
    /// The merchant's own pairs.
    pub metadata: Value,
}

impl std::ops::Deref for Customer {
    type Target = Profile;

    fn deref(&self) -> &Profile {
        &self.profile
    }
}

/// A postal address, as far as it is known.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "each field is its wire name behind address_")]
pub struct Address {
    pub line1: Option<String>,
    pub line2: Option<String>,
    pub city: Option<String>,
    pub state: Option<String>,
    pub postal_code: Option<String>,
    /// ISO 3166-1 alpha-2, upper case.
    pub country: Option<String>,
}

/// Whether tax is due from a customer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TaxTreatment {
    /// It is.
    Taxable,
    /// It is not.
    Exempt,
}

impl TaxTreatment {
    /// As in the table and on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Taxable => "taxable",
            Self::Exempt => "exempt",
        }
    }
}

/// A person at a customer, kept as the merchant sent it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "each field is its wire name")]
pub struct ContactPerson {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    pub first_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mobile: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub designation: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub department: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub salutation: Option<String>,
    #[serde(default)]
    pub is_primary: bool,
}

/// Which customer an update means.
#[derive(Clone, Debug)]
pub enum Name {
    /// Ours.
    Id(CustomerId),
    /// The merchant's, among published customers.
    ExternalId(String),
}

/// Stores a customer; 409 when a published one has the external id.
pub async fn create(app: &App, scope: Scope, id: CustomerId, profile: Profile) -> Result<Customer, ApiError> {
    let now = app.clock.now();
    let customer = Customer { id, status: RowStatus::Published, created_at: now, updated_at: now, profile };
    store::insert_customer(&app.pool, scope, &customer).await.map_err(|error| taken(error, &customer))?;
    Ok(customer)
}

/// What a merchant newly says about a customer. Absent fields stay; an empty optional text clears.
#[derive(Clone, Debug, Default)]
pub struct Change {
    pub external_id: Option<String>,
    pub name: Option<String>,
    pub email: Option<String>,
    pub contact: Option<String>,
    pub address: Address,
    pub billing_currency: Option<Currency>,
    pub timezone: Option<Tz>,
    pub tax_treatment: Option<TaxTreatment>,
    pub contact_persons: Option<Vec<ContactPerson>>,
    pub metadata: Option<Value>,
}

impl Profile {
    /// A profile of which nothing but `change` is known.
    pub fn new(change: Change) -> Self {
        let mut profile = Self {
            external_id: String::new(),
            name: String::new(),
            email: None,
            contact: None,
            address: Address::default(),
            billing_currency: None,
            timezone: Tz::UTC,
            tax_treatment: TaxTreatment::Taxable,
            contact_persons: Vec::new(),
            metadata: Value::Object(serde_json::Map::new()),
        };
        profile.apply(change);
        profile
    }

    fn apply(&mut self, change: Change) {
        fn set<T>(field: &mut T, new: Option<T>) {
            if let Some(new) = new {
                *field = new;
            }
        }
        fn set_text(field: &mut Option<String>, new: Option<String>) {
            if let Some(new) = new {
                *field = Some(new).filter(|text| !text.is_empty());
            }
        }
        set(&mut self.external_id, change.external_id);
        set(&mut self.name, change.name);
        set_text(&mut self.email, change.email);
        set_text(&mut self.contact, change.contact);
        set_text(&mut self.address.line1, change.address.line1);
        set_text(&mut self.address.line2, change.address.line2);
        set_text(&mut self.address.city, change.address.city);
        set_text(&mut self.address.state, change.address.state);
        set_text(&mut self.address.postal_code, change.address.postal_code);
        set_text(&mut self.address.country, change.address.country);
        self.billing_currency = change.billing_currency.or(self.billing_currency);
        set(&mut self.timezone, change.timezone);
        set(&mut self.tax_treatment, change.tax_treatment);
        set(&mut self.contact_persons, change.contact_persons);
        set(&mut self.metadata, change.metadata);
    }
}

/// Changes a published customer.
pub async fn update(app: &App, scope: Scope, name: Name, change: Change) -> Result<Customer, ApiError> {
    let now = app.clock.now();
    db::transact(&app.pool, "update_customer", move |tx| {
        let (name, change) = (name.clone(), change.clone());
        Box::pin(async move {
            let mut customer = lock(tx, scope, &name).await?;
            customer.profile.apply(change);
            customer.updated_at = now;
            store::update_customer(tx, scope, &customer).await.map_err(|error| taken(error, &customer))?;
            Ok(customer)
        })
    })
    .await
}

/// Archives a customer without subscriptions.
pub async fn archive(app: &App, scope: Scope, id: CustomerId) -> Result<(), ApiError> {
    let now = app.clock.now();
    db::transact(&app.pool, "archive_customer", move |tx| {
        Box::pin(async move {
            // The lock keeps new subscriptions, whose foreign key shares it, out until the end.
            lock(tx, scope, &Name::Id(id)).await?;
            if store::has_subscriptions(tx, scope, id).await? {
                return Err(ApiError::invalid_operation(
                    "the customer has subscriptions; it cannot be deleted",
                )
                .detail("reason", "customer_in_use"));
            }
            store::archive_customer(tx, scope, id, now).await?;
            Ok(())
        })
    })
    .await
}

async fn lock(tx: &mut db::Tx, scope: Scope, name: &Name) -> Result<Customer, ApiError> {
    let locked = match name {
        Name::Id(id) => store::lock_customer(tx, scope, Some(*id), None).await?,
        Name::ExternalId(external_id) => store::lock_customer(tx, scope, None, Some(external_id)).await?,
    };
    locked.ok_or_else(|| ApiError::not_found(CustomerId::NOUN))
}

fn taken(error: db::Error, customer: &Customer) -> ApiError {
    if db::violated_constraint(&error) == Some("customers_external_id_unique") {
        ApiError::already_exists("another customer already has this external_id")
            .detail("reason", "external_id_taken")
            .detail("external_id", customer.external_id.clone())
    } else {
        error.into()
    }
}
