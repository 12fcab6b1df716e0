//! SQL of customers.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use serde_json::Value;
use sqlx::types::Uuid;

use super::customer::{Address, Customer, CustomerId, Profile, TaxTreatment};
use crate::{
    db::{
        self, Pool, RowStatus, Tx,
        search::{Criteria, Select},
    },
    kit::{money::Currency, page::Page},
    tenancy::Scope,
};

#[derive(sqlx::FromRow)]
struct CustomerRow {
    id: Uuid,
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
    timezone: String,
    tax_treatment: String,
    contact_persons: Value,
    metadata: Value,
    status: String,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl TryFrom<CustomerRow> for Customer {
    type Error = db::Error;

    fn try_from(row: CustomerRow) -> Result<Self, db::Error> {
        let timezone = row.timezone.parse::<Tz>().map_err(decode)?;
        let currency =
            row.billing_currency.map(|code| code.parse::<Currency>()).transpose().map_err(decode)?;
        let tax_treatment =
            if row.tax_treatment == "exempt" { TaxTreatment::Exempt } else { TaxTreatment::Taxable };
        Ok(Self {
            id: row.id.into(),
            status: RowStatus::from_column(&row.status),
            created_at: row.created_at,
            updated_at: row.updated_at,
            profile: Profile {
                external_id: row.external_id,
                name: row.name,
                email: row.email,
                contact: row.contact,
                address: Address {
                    line1: row.address_line1,
                    line2: row.address_line2,
                    city: row.address_city,
                    state: row.address_state,
                    postal_code: row.address_postal_code,
                    country: row.address_country,
                },
                billing_currency: currency,
                timezone,
                tax_treatment,
                contact_persons: serde_json::from_value(row.contact_persons).map_err(decode)?,
                metadata: row.metadata,
            },
        })
    }
}

fn decode(error: impl std::error::Error + Send + Sync + 'static) -> db::Error {
    db::Error::Decode(Box::new(error))
}

fn persons(customer: &Customer) -> Result<Value, db::Error> {
    serde_json::to_value(&customer.contact_persons).map_err(|error| db::Error::Encode(error.into()))
}

pub async fn insert_customer(pool: &Pool, scope: Scope, customer: &Customer) -> Result<(), db::Error> {
    let address = &customer.address;
    sqlx::query!(
        "-- customers.insert_customer
        insert into customers (environment_id, id, external_id, name, email, contact, address_line1, address_line2,
            address_city, address_state, address_postal_code, address_country, billing_currency, timezone,
            tax_treatment, contact_persons, metadata, status, created_at, updated_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)",
        Uuid::from(scope.environment),
        Uuid::from(customer.id),
        customer.external_id,
        customer.name,
        customer.email,
        customer.contact,
        address.line1,
        address.line2,
        address.city,
        address.state,
        address.postal_code,
        address.country,
        customer.billing_currency.map(Currency::lower),
        customer.timezone.name(),
        customer.tax_treatment.as_str(),
        persons(customer)?,
        customer.metadata,
        customer.status.as_str(),
        customer.created_at,
        customer.updated_at,
    )
    .execute(pool)
    .await?;
    Ok(())
}

pub async fn find_customer(pool: &Pool, scope: Scope, id: CustomerId) -> Result<Option<Customer>, db::Error> {
    sqlx::query_as!(
        CustomerRow,
        "-- customers.find_customer
        select id, external_id, name, email, contact, address_line1, address_line2, address_city, address_state,
            address_postal_code, address_country, billing_currency, timezone, tax_treatment, contact_persons,
            metadata, status, created_at, updated_at
        from customers
        where environment_id = $1 and id = $2",
        Uuid::from(scope.environment),
        Uuid::from(id),
    )
    .fetch_optional(pool)
    .await?
    .map(TryInto::try_into)
    .transpose()
}

pub async fn list_customers(
    pool: &Pool,
    scope: Scope,
    ids: &[CustomerId],
) -> Result<Vec<Customer>, db::Error> {
    let ids: Vec<Uuid> = ids.iter().copied().map(Uuid::from).collect();
    sqlx::query_as!(
        CustomerRow,
        "-- customers.list_customers
        select id, external_id, name, email, contact, address_line1, address_line2, address_city, address_state,
            address_postal_code, address_country, billing_currency, timezone, tax_treatment, contact_persons,
            metadata, status, created_at, updated_at
        from customers
        where environment_id = $1 and id = any($2)",
        Uuid::from(scope.environment),
        &ids,
    )
    .fetch_all(pool)
    .await?
    .into_iter()
    .map(TryInto::try_into)
    .collect()
}

pub async fn list_ids_by_external_id(
    pool: &Pool,
    scope: Scope,
    external_id: &str,
) -> Result<Vec<Uuid>, db::Error> {
    sqlx::query_scalar!(
        "-- customers.list_ids_by_external_id
        select id
        from customers
        -- Each has an index of its own.
        where environment_id = $1 and external_id = $2 and (status = 'published' or status = 'archived')",
        Uuid::from(scope.environment),
        external_id,
    )
    .fetch_all(pool)
    .await
}

pub async fn find_published_by_external_id(
    pool: &Pool,
    scope: Scope,
    external_id: &str,
) -> Result<Option<Customer>, db::Error> {
    sqlx::query_as!(
        CustomerRow,
        "-- customers.find_published_by_external_id
        select id, external_id, name, email, contact, address_line1, address_line2, address_city, address_state,
            address_postal_code, address_country, billing_currency, timezone, tax_treatment, contact_persons,
            metadata, status, created_at, updated_at
        from customers
        where environment_id = $1 and external_id = $2 and status = 'published'",
        Uuid::from(scope.environment),
        external_id,
    )
    .fetch_optional(pool)
    .await?
    .map(TryInto::try_into)
    .transpose()
}

/// The one that was archived last.
pub async fn find_archived_by_external_id(
    pool: &Pool,
    scope: Scope,
    external_id: &str,
) -> Result<Option<Customer>, db::Error> {
    sqlx::query_as!(
        CustomerRow,
        "-- customers.find_archived_by_external_id
        select id, external_id, name, email, contact, address_line1, address_line2, address_city, address_state,
            address_postal_code, address_country, billing_currency, timezone, tax_treatment, contact_persons,
            metadata, status, created_at, updated_at
        from customers
        where environment_id = $1 and external_id = $2 and status = 'archived'
        order by updated_at desc
        limit 1",
        Uuid::from(scope.environment),
        external_id,
    )
    .fetch_optional(pool)
    .await?
    .map(TryInto::try_into)
    .transpose()
}

/// What a search of customers names; absent parts match everything.
pub struct Wanted {
    pub ids: Option<Vec<Uuid>>,
    pub external_id: Option<String>,
    pub external_ids: Option<Vec<String>>,
    pub email: Option<String>,
    /// Pairs that must all be there.
    pub metadata: Option<Value>,
}

pub async fn search(
    pool: &Pool,
    scope: Scope,
    wanted: Wanted,
    criteria: Criteria,
) -> Result<Page<Customer>, db::Error> {
    Select::new(
        "customers.search",
        "id, external_id, name, email, contact, address_line1, address_line2, address_city, address_state, \
         address_postal_code, address_country, billing_currency, timezone, tax_treatment, contact_persons, \
         metadata, status, created_at, updated_at",
        "customers",
        scope.environment,
    )
    .any_of("id", wanted.ids)
    .equals("external_id", wanted.external_id)
    .any_of("external_id", wanted.external_ids)
    .equals("email", wanted.email)
    .compare("metadata @>", wanted.metadata)
    .fetch::<CustomerRow>(pool, criteria)
    .await?
    .try_map(TryInto::try_into)
}

/// A published customer by either name, locked until the transaction ends.
pub async fn lock_customer(
    tx: &mut Tx,
    scope: Scope,
    id: Option<CustomerId>,
    external_id: Option<&str>,
) -> Result<Option<Customer>, db::Error> {
    sqlx::query_as!(
        CustomerRow,
        "-- customers.lock_customer
        select id, external_id, name, email, contact, address_line1, address_line2, address_city, address_state,
            address_postal_code, address_country, billing_currency, timezone, tax_treatment, contact_persons,
            metadata, status, created_at, updated_at
        from customers
        where environment_id = $1 and (id = $2 or external_id = $3) and status = 'published'
        for update",
        Uuid::from(scope.environment),
        id.map(Uuid::from),
        external_id,
    )
    .fetch_optional(tx)
    .await?
    .map(TryInto::try_into)
    .transpose()
}

pub async fn update_customer(tx: &mut Tx, scope: Scope, customer: &Customer) -> Result<(), db::Error> {
    let address = &customer.address;
    sqlx::query!(
        "-- customers.update_customer
        update customers
        set external_id = $3, name = $4, email = $5, contact = $6, address_line1 = $7, address_line2 = $8,
            address_city = $9, address_state = $10, address_postal_code = $11, address_country = $12,
            billing_currency = $13, timezone = $14, tax_treatment = $15, contact_persons = $16, metadata = $17,
            updated_at = $18
        where environment_id = $1 and id = $2 and status = 'published'",
        Uuid::from(scope.environment),
        Uuid::from(customer.id),
        customer.external_id,
        customer.name,
        customer.email,
        customer.contact,
        address.line1,
        address.line2,
        address.city,
        address.state,
        address.postal_code,
        address.country,
        customer.billing_currency.map(Currency::lower),
        customer.timezone.name(),
        customer.tax_treatment.as_str(),
        persons(customer)?,
        customer.metadata,
        customer.updated_at,
    )
    .execute(tx)
    .await?;
    Ok(())
}

pub async fn has_subscriptions(tx: &mut Tx, scope: Scope, id: CustomerId) -> Result<bool, db::Error> {
    sqlx::query_scalar!(
        r#"-- customers.has_subscriptions
        select exists (
            select 1 from subscriptions
            where environment_id = $1 and customer_id = $2 and status = 'published'
                and subscription_status <> 'cancelled'
        ) as "exists!""#,
        Uuid::from(scope.environment),
        Uuid::from(id),
    )
    .fetch_one(tx)
    .await
}

pub async fn archive_customer(
    tx: &mut Tx,
    scope: Scope,
    id: CustomerId,
    now: DateTime<Utc>,
) -> Result<(), db::Error> {
    sqlx::query!(
        "-- customers.archive_customer
        update customers set status = 'archived', updated_at = $3
        where environment_id = $1 and id = $2 and status = 'published'",
        Uuid::from(scope.environment),
        Uuid::from(id),
        now,
    )
    .execute(tx)
    .await?;
    Ok(())
}
