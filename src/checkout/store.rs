//! SQL of sessions. What a session drafts, and what becomes of it, is one statement per step: the rows
//! belong together, and a step costs one round trip (docs/adr/0004).

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{PgExecutor, error::DatabaseError, types::Uuid};

use super::{
    create::Draft,
    model::Session,
    session::{Cause, LinkState, SessionId, State, Status},
};
use crate::{
    customers::CustomerId,
    db::{self, Pool, Tx},
    kit::{money::Money, page::PageRequest},
    payments::PaymentId,
    subscriptions::SubscriptionId,
    tenancy::{ConnectionId, EnvironmentId, Scope, TenantId},
    webhooks::{FrozenEvent, query_with_event},
};

/// A session's columns, joined with its payment's status and its environment's tenant.
struct SessionRow {
    tenant_id: Uuid,
    environment_id: Uuid,
    id: Uuid,
    customer_id: Uuid,
    subscription_id: Uuid,
    invoice_id: Uuid,
    payment_id: Uuid,
    connection_id: Uuid,
    action: String,
    payment_provider: String,
    checkout_status: String,
    amount_minor: i64,
    currency: String,
    idempotency_key: Option<String>,
    success_url: Option<String>,
    failure_url: Option<String>,
    cancel_url: Option<String>,
    metadata: Value,
    link_id: Option<String>,
    link_url: Option<String>,
    link_state: String,
    event_count: i32,
    failure_reason: Option<String>,
    expires_at: DateTime<Utc>,
    completed_at: Option<DateTime<Utc>>,
    cancelled_at: Option<DateTime<Utc>>,
    check_count: i32,
    checked_at: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    version: i64,
    payment_status: String,
}

impl TryFrom<SessionRow> for Session {
    type Error = db::Error;

    fn try_from(row: SessionRow) -> Result<Self, db::Error> {
        let bad = |column: &str| {
            db::Error::Decode(format!("checkout_sessions.{column} of {} is unknown", row.id).into())
        };
        let currency = row.currency.parse().map_err(|_| bad("currency"))?;
        Ok(Self {
            scope: Scope {
                tenant: TenantId::from(row.tenant_id),
                environment: EnvironmentId::from(row.environment_id),
            },
            id: row.id.into(),
            customer: row.customer_id.into(),
            subscription: row.subscription_id.into(),
            invoice: row.invoice_id.into(),
            payment: row.payment_id.into(),
            connection: row.connection_id.into(),
            state: State {
                status: row.checkout_status.parse().map_err(|_| bad("checkout_status"))?,
                link_state: LinkState::from_column(&row.link_state).ok_or_else(|| bad("link_state"))?,
                link_id: row.link_id,
                amount: Money::new(row.amount_minor, currency),
            },
            action: row.action,
            payment_provider: row.payment_provider,
            idempotency_key: row.idempotency_key,
            success_url: row.success_url,
            failure_url: row.failure_url,
            cancel_url: row.cancel_url,
            metadata: row.metadata,
            link_url: row.link_url,
            event_count: row.event_count,
            failure_reason: row.failure_reason,
            expires_at: row.expires_at,
            completed_at: row.completed_at,
            cancelled_at: row.cancelled_at,
            check_count: row.check_count,
            checked_at: row.checked_at,
            created_at: row.created_at,
            updated_at: row.updated_at,
            version: row.version,
            payment_status: row.payment_status,
        })
    }
}

/// One select list for every reader; `$where` differs.
macro_rules! select_session {
    ($name:literal, $tail:literal, $($bind:expr),* $(,)?) => {
        sqlx::query_as!(
            SessionRow,
            r#"-- checkout."# + $name + r#"
            select e.tenant_id, s.environment_id, s.id, s.customer_id, s.subscription_id, s.invoice_id, s.payment_id,
                s.connection_id, s.action, s.payment_provider, s.checkout_status, s.amount_minor, s.currency,
                s.idempotency_key, s.success_url, s.failure_url, s.cancel_url, s.metadata, s.link_id, s.link_url,
                s.link_state, s.event_count, s.failure_reason, s.expires_at, s.completed_at, s.cancelled_at,
                s.check_count, s.checked_at, s.created_at, s.updated_at, s.xmin::text::bigint as "version!",
                p.payment_status
            from checkout_sessions s
            join payments p on p.environment_id = s.environment_id and p.id = s.payment_id
            join environments e on e.id = s.environment_id
            "# + $tail,
            $($bind),*
        )
    };
}

pub async fn find(
    executor: impl PgExecutor<'_>,
    scope: Scope,
    id: SessionId,
) -> Result<Option<Session>, db::Error> {
    let row = select_session!(
        "find",
        "where s.environment_id = $1 and s.id = $2",
        Uuid::from(scope.environment),
        Uuid::from(id),
    )
    .fetch_optional(executor)
    .await?;
    row.map(TryInto::try_into).transpose()
}

/// Without a tenant: for the return page, which a browser opens without credentials.
pub async fn find_any_scope(
    pool: &Pool,
    environment: EnvironmentId,
    id: SessionId,
) -> Result<Option<Session>, db::Error> {
    let row = select_session!(
        "find_any_scope",
        "where s.environment_id = $1 and s.id = $2",
        Uuid::from(environment),
        Uuid::from(id),
    )
    .fetch_optional(pool)
    .await?;
    row.map(TryInto::try_into).transpose()
}

/// The open session that holds an idempotency key.
pub async fn find_open_by_key(
    executor: impl PgExecutor<'_>,
    scope: Scope,
    key: &str,
) -> Result<Option<Session>, db::Error> {
    let row = select_session!(
        "find_open_by_key",
        "where s.environment_id = $1 and s.idempotency_key = $2 and s.checkout_status in ('initiated', 'pending')",
        Uuid::from(scope.environment),
        key,
    )
    .fetch_optional(executor)
    .await?;
    row.map(TryInto::try_into).transpose()
}

/// The session that drafted a subscription.
pub async fn find_by_subscription(
    pool: &Pool,
    scope: Scope,
    subscription: SubscriptionId,
) -> Result<Option<Session>, db::Error> {
    let row = select_session!(
        "find_by_subscription",
        "where s.environment_id = $1 and s.subscription_id = $2",
        Uuid::from(scope.environment),
        Uuid::from(subscription),
    )
    .fetch_optional(pool)
    .await?;
    row.map(TryInto::try_into).transpose()
}

/// The open session that drafted a payment; found by the payment's subscription, which sessions have an index for.
pub async fn find_open_by_payment(
    pool: &Pool,
    scope: Scope,
    payment: PaymentId,
) -> Result<Option<Session>, db::Error> {
    let row = select_session!(
        "find_open_by_payment",
        "where s.environment_id = $1 and s.payment_id = $2 and s.checkout_status in ('initiated', 'pending')
            and s.subscription_id = (select i.subscription_id from payments q
                join invoices i on i.environment_id = q.environment_id and i.id = q.invoice_id
                where q.environment_id = $1 and q.id = $2)",
        Uuid::from(scope.environment),
        Uuid::from(payment),
    )
    .fetch_optional(pool)
    .await?;
    row.map(TryInto::try_into).transpose()
}

/// The session a provider event is about, not locked: by link, else by `reference_id`, which is the session's id.
pub async fn find_by_link(
    executor: impl PgExecutor<'_>,
    scope: Scope,
    link_id: Option<&str>,
    reference: Option<SessionId>,
) -> Result<Option<Session>, db::Error> {
    let row = select_session!(
        "find_by_link",
        "where s.environment_id = $1 and (s.link_id = $2 or s.id = $3)
        order by s.link_id = $2 desc nulls last
        limit 1",
        Uuid::from(scope.environment),
        link_id,
        reference.map(Uuid::from),
    )
    .fetch_optional(executor)
    .await?;
    row.map(TryInto::try_into).transpose()
}

/// Reads the session and holds its row until the transaction ends: facts about one session queue up here.
/// The payment's row is locked with it: of a row that is not locked, whoever had to wait would see the state from
/// before the wait.
pub async fn lock(tx: &mut Tx, scope: Scope, id: SessionId) -> Result<Option<Session>, db::Error> {
    let row = select_session!(
        "lock",
        "where s.environment_id = $1 and s.id = $2 for update of s, p",
        Uuid::from(scope.environment),
        Uuid::from(id),
    )
    .fetch_optional(tx)
    .await?;
    row.map(TryInto::try_into).transpose()
}

/// What a list of sessions is narrowed to.
#[derive(Debug, Default)]
pub struct ListFilter {
    pub status: Option<Status>,
    pub customer: Option<CustomerId>,
    pub created_from: Option<DateTime<Utc>>,
    pub created_to: Option<DateTime<Utc>>,
}

pub async fn list(
    pool: &Pool,
    scope: Scope,
    filter: &ListFilter,
    page: PageRequest,
) -> Result<(Vec<Session>, i64), db::Error> {
    let (status, customer) = (filter.status.map(Status::as_str), filter.customer.map(Uuid::from));
    let mut tx = db::begin_list(pool).await?;
    let rows = select_session!(
        "list",
        "where s.environment_id = $1 and s.deleted_at is null
            and ($2::text is null or s.checkout_status = $2)
            and ($3::uuid is null or s.customer_id = $3)
            and ($4::timestamptz is null or s.created_at >= $4)
            and ($5::timestamptz is null or s.created_at <= $5)
        order by s.created_at desc, s.id desc
        limit $6 offset $7",
        Uuid::from(scope.environment),
        status,
        customer,
        filter.created_from,
        filter.created_to,
        page.limit,
        page.offset,
    )
    .fetch_all(&mut *tx)
    .await?;
    let total = sqlx::query_scalar!(
        r#"-- checkout.count
        select count(*) as "count!"
        from checkout_sessions
        where environment_id = $1 and deleted_at is null
            and ($2::text is null or checkout_status = $2)
            and ($3::uuid is null or customer_id = $3)
            and ($4::timestamptz is null or created_at >= $4)
            and ($5::timestamptz is null or created_at <= $5)"#,
        Uuid::from(scope.environment),
        status,
        customer,
        filter.created_from,
        filter.created_to,
    )
    .fetch_one(&mut *tx)
    .await?;
    Ok((rows.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?, total))
}

/// The session with its drafts: subscription, invoice, their lines and the payment. One statement, so that
/// all of it is there or none. The version of the session's row.
///
/// A customer or plan that was archived meanwhile gives no subscription, and so breaks the foreign keys of the rest:
/// see [`is_archived_meanwhile`].
pub async fn insert_draft(
    executor: impl PgExecutor<'_>,
    scope: Scope,
    draft: &Draft,
) -> Result<i64, db::Error> {
    let lines = &draft.lines;
    sqlx::query_scalar!(
        r#"-- checkout.insert_draft
        with payer as (
            select from customers where environment_id = $1 and id = $3 and status = 'published' for key share
        ), offer as (
            select from plans where environment_id = $1 and id = $4 and status = 'published' for key share
        ), subscription as (
            insert into subscriptions (environment_id, id, customer_id, plan_id, subscription_status, currency,
                billing_period, billing_period_count, billing_anchor, timezone, start_date, end_date,
                current_period_start, current_period_end, collection_method, lookup_key, metadata, version, status,
                created_at, updated_at)
            select $1, $2, $3, $4, 'draft', $5, $6, $7::int, $8::timestamptz, $9, $8, $10::timestamptz, $8, $11, $12, $13,
                $14::jsonb, 1, 'published', $15::timestamptz, $15
            from payer, offer
        ), invoice as (
            insert into invoices (environment_id, id, customer_id, subscription_id, invoice_status, payment_status,
                currency, total_minor, amount_paid_minor, billing_reason, billing_period, period_start, period_end,
                metadata, version, status, created_at, updated_at)
            values ($1, $16, $3, $2, 'DRAFT', 'PENDING', $5, $17, 0, 'SUBSCRIPTION_CREATE', $6, $8, $11, '{}', 1,
                'published', $15, $15)
        ), line as (
            insert into subscription_line_items (environment_id, id, subscription_id, price_id, quantity, display_name,
                plan_display_name, start_date, created_at)
            select $1, l.id, $2, l.price_id, l.quantity, l.display_name, $18, $8, $15
            from unnest($19::uuid[], $20::uuid[], $21::bigint[], $22::text[]) as l (id, price_id, quantity, display_name)
        ), charge as (
            insert into invoice_line_items (environment_id, id, invoice_id, subscription_line_item_id, price_id,
                display_name, plan_display_name, quantity, amount_minor, period_start, period_end, created_at)
            select $1, l.charge_id, $16, l.id, l.price_id, l.display_name, $18, l.quantity, l.charged_minor, $8, $11, $15
            from unnest($19::uuid[], $20::uuid[], $21::bigint[], $22::text[], $23::uuid[], $24::bigint[])
                as l (id, price_id, quantity, display_name, charge_id, charged_minor)
            where l.charged_minor is not null
        ), payment as (
            insert into payments (environment_id, id, invoice_id, amount_minor, currency, payment_status,
                payment_gateway, metadata, status, created_at, updated_at)
            values ($1, $25, $16, $17, $5, 'INITIATED', 'razorpay', '{}', 'published', $15, $15)
        )
        insert into checkout_sessions (environment_id, id, customer_id, subscription_id, invoice_id, payment_id,
            connection_id, action, payment_provider, checkout_status, amount_minor, currency, idempotency_key,
            success_url, failure_url, cancel_url, metadata, link_state, event_count, expires_at, check_at, check_count,
            created_at, updated_at)
        values ($1, $26, $3, $2, $16, $25, $27, 'create_subscription', 'razorpay', 'initiated', $17, $5, $28, $29, $30,
            $31, $32, 'none', 0, $33, $34, 0, $15, $15)
        returning xmin::text::bigint as "version!""#,
        Uuid::from(scope.environment),
        Uuid::from(draft.subscription),
        Uuid::from(draft.customer),
        Uuid::from(draft.plan),
        draft.amount.currency.lower(),
        draft.recurrence.period.as_str(),
        i32::try_from(draft.recurrence.count).unwrap_or(i32::MAX),
        draft.period_start,
        draft.timezone,
        draft.end_date,
        draft.period_end,
        draft.collection_method,
        draft.lookup_key,
        draft.subscription_metadata,
        draft.now,
        Uuid::from(draft.invoice),
        draft.amount.minor,
        draft.plan_name,
        &lines.ids,
        &lines.price_ids,
        &lines.quantities,
        &lines.display_names,
        &lines.charge_ids,
        &lines.charged_minor as &[Option<i64>],
        Uuid::from(draft.payment),
        Uuid::from(draft.session),
        Uuid::from(draft.connection),
        draft.idempotency_key,
        draft.success_url,
        draft.failure_url,
        draft.cancel_url,
        draft.metadata,
        draft.expires_at,
        draft.check_at,
    )
    .fetch_one(executor)
    .await
}

/// Whether [`insert_draft`] was refused because its customer or plan is archived.
pub fn is_archived_meanwhile(error: &db::Error) -> bool {
    db::violated_constraint(error).is_some_and(|constraint| constraint.ends_with("_subscription_exists"))
}

/// How many deliveries a change's event has: endpoints that want it.
pub type Deliveries = i64;

/// A change of status, already decided, as the statements below write it, with its event.
#[derive(Debug)]
pub struct Transition<'a> {
    /// As it is afterwards, but for its version, which still is the one from before.
    pub session: &'a Session,
    pub from: Status,
    pub cause: Cause,
    pub inbox: Option<Uuid>,
    pub check_at: Option<DateTime<Utc>>,
    /// About the session as it is afterwards.
    pub event: FrozenEvent,
    pub delivery_ids: Vec<Uuid>,
}

/// initiated → pending with the link. `None` when the row is not the version of the session that `change` begins from;
/// of one that is locked it always is.
pub async fn mark_pending(
    executor: impl PgExecutor<'_>,
    change: &Transition<'_>,
) -> Result<Option<Deliveries>, db::Error> {
    let session = change.session;
    let done = query_with_event!(
        "-- checkout.mark_pending",
        ["changed as (
            update checkout_sessions
            set checkout_status = 'pending', link_id = $10, link_url = $11, link_state = 'open', event_count = $5,
                check_at = $12, check_count = 0, lease_token = null, lease_expires_at = null, updated_at = $7
            where environment_id = $1 and id = $2 and checkout_status = $13
                and xmin::text::bigint = $14
            returning environment_id, id, payment_id
        ), payment as (
            update payments p
            set gateway_tracking_id = $10, payment_url = $11, updated_at = $7
            from changed s
            where p.environment_id = s.environment_id and p.id = s.payment_id
        ), transition as (
            insert into session_transitions (environment_id, session_id, sequence, from_status, to_status, cause, inbox_id, created_at)
            select environment_id, id, $5, $13, 'pending', $15, $16, $7 from changed
        )"],
        r#"select (select count(*) from delivery) as "deliveries!" from changed"#,
        session.scope,
        change.event,
        &change.delivery_ids,
        None,
        session.state.link_id,
        session.link_url,
        change.check_at,
        change.from.as_str(),
        session.version,
        change.cause.as_str(),
        change.inbox,
    );
    done.fetch_optional(executor).await
}

/// The provider payment that completes a session.
#[derive(Debug)]
pub struct Applied<'a> {
    pub provider_payment_id: &'a str,
    /// Invoice numbers are this prefix and five or more digits.
    pub invoice_prefix: &'a str,
    pub attempt: Uuid,
}

/// Completes in the order in which locks are taken: the session's row, then what hangs on it.
macro_rules! complete {
    ($name:literal, $before:literal, $guard:literal, $after:literal, $result:literal, $change:expr, $applied:expr $(, $bind:expr)* $(,)?) => {
        query_with_event!(
            $name,
            [$before "changed as (
            update checkout_sessions
            set checkout_status = 'completed', completed_at = $7, cancelled_at = null, link_id = $10, link_state = $11,
                event_count = $5, check_at = $12, check_count = 0, lease_token = null, lease_expires_at = null, updated_at = $7
            where environment_id = $1 and id = $2 and checkout_status = $13" $guard "
            returning environment_id, id, subscription_id, invoice_id, payment_id
        ), payment as (
            update payments p
            set payment_status = 'SUCCEEDED', gateway_payment_id = $14, gateway_tracking_id = $10, succeeded_at = $7,
                error_message = null, updated_at = $7
            from changed s
            where p.environment_id = s.environment_id and p.id = s.payment_id and p.payment_status = 'INITIATED'
            returning p.environment_id, p.id
        ), number as (
            insert into invoice_counters (environment_id, last_number)
            select environment_id, 1 from changed
            on conflict (environment_id) do update set last_number = invoice_counters.last_number + 1
            returning last_number
        ), invoice as (
            update invoices i
            set invoice_status = 'FINALIZED', payment_status = 'SUCCEEDED', amount_paid_minor = i.total_minor,
                invoice_number = $15 || lpad(n.last_number::text, greatest(5, length(n.last_number::text)), '0'),
                finalized_at = $7, paid_at = $7, version = i.version + 1, updated_at = $7
            from changed s, number n
            where i.environment_id = s.environment_id and i.id = s.invoice_id and i.invoice_status = 'DRAFT'
            returning i.id
        ), subscription as (
            update subscriptions u
            set subscription_status = 'active', activated_at = $7, version = u.version + 1, updated_at = $7
            from changed s
            where u.environment_id = s.environment_id and u.id = s.subscription_id and u.subscription_status = 'draft'
            returning u.id
        ), attempt as (
            insert into payment_attempts (environment_id, id, payment_id, attempt_number, gateway_payment_id,
                payment_status, created_at)
            select p.environment_id, $16, p.id,
                1 + (select count(*) from payment_attempts a where a.environment_id = p.environment_id and a.payment_id = p.id),
                $14, 'SUCCEEDED', $7
            from payment p
        ), transition as (
            insert into session_transitions (environment_id, session_id, sequence, from_status, to_status, cause, inbox_id, created_at)
            select environment_id, id, $5, $13, 'completed', $17, $18, $7 from changed
        )" $after],
            $result,
            $change.session.scope,
            $change.event,
            &$change.delivery_ids,
            None,
            $change.session.state.link_id,
            $change.session.state.link_state.as_str(),
            $change.check_at,
            $change.from.as_str(),
            $applied.provider_payment_id,
            $applied.invoice_prefix,
            $applied.attempt,
            $change.cause.as_str(),
            $change.inbox,
            $($bind),*
        )
    };
}

/// Open → completed: payment, invoice with its number, subscription and session. False when any of the
/// rows was not as expected; the caller rolls back.
pub async fn mark_completed(
    tx: &mut Tx,
    change: &Transition<'_>,
    applied: &Applied<'_>,
) -> Result<bool, db::Error> {
    let done = complete!(
        "-- checkout.mark_completed",
        "",
        "",
        "",
        r#"select (select count(*) from changed) + (select count(*) from payment) + (select count(*) from invoice)
            + (select count(*) from subscription) as "changed!""#,
        change,
        applied,
    );
    Ok(done.fetch_one(tx).await? == 4)
}

/// The signed event that tells of a payment, as the inbox keeps it.
#[derive(Debug)]
pub struct Evidence<'a> {
    /// Its id in the inbox.
    pub inbox: Uuid,
    /// The accounts under whose secret its signature verified.
    pub connections: &'a [ConnectionId],
    /// `payment_link.paid` …
    pub event_type: &'a str,
    /// What makes two events the same.
    pub content_hash: &'a [u8],
    /// The fields of it that are kept.
    pub content: &'a Value,
}

/// The whole of an ordinary payment, in a transaction of one statement: the event in the inbox, the provider's payment
/// and what [`mark_completed`] does. `None`, with nothing changed, when the event or the payment is known already, or
/// the session is of another version by now.
pub async fn complete_at_once(
    executor: impl PgExecutor<'_>,
    change: &Transition<'_>,
    applied: &Applied<'_>,
    paid: Money,
    evidence: &Evidence<'_>,
) -> Result<Option<Deliveries>, db::Error> {
    let done = complete!(
        "-- checkout.complete_at_once",
        "stored as (
            insert into inbox (environment_id, id, connection_ids, event_type, content_hash, content, inbox_status,
                outcome, attempt_count, received_at, processed_at)
            values ($1, $18, $20, $21, $22, $23, 'processed', 'applied', 0, $7, $7)
            on conflict (environment_id, content_hash) do nothing
            returning 1
        ), ",
        " and xmin::text::bigint = $19 and exists (select from stored)",
        ", fate as (
            insert into provider_payments (environment_id, provider_payment_id, session_id, amount_minor, currency,
                fate, cause, inbox_id, created_at)
            select $1, $14, $2, $24, $25, 'applied', $17, $18, $7 from changed
        )",
        // Half of it must not stay: a division by zero undoes the statement.
        r#"select (select count(*) from delivery) / case
                when (select count(*) from changed) + (select count(*) from payment) + (select count(*) from invoice)
                    + (select count(*) from subscription) = 4 then 1
                else 0
            end as "deliveries!"
            from stored"#,
        change,
        applied,
        change.session.version,
        &evidence.connections.iter().copied().map(Uuid::from).collect::<Vec<_>>(),
        evidence.event_type,
        evidence.content_hash,
        evidence.content,
        paid.minor,
        paid.currency.lower(),
    );
    match unless_halfway(done.fetch_optional(executor).await) {
        // The payment is known already: under which fate, the lock tells.
        Err(error) if error.as_database_error().is_some_and(DatabaseError::is_unique_violation) => Ok(None),
        done => done,
    }
}

/// `None` when the statement undid itself, by the division.
fn unless_halfway(done: Result<Option<Deliveries>, db::Error>) -> Result<Option<Deliveries>, db::Error> {
    let code = |error: &db::Error| Some(error.as_database_error()?.code()?.into_owned());
    match done {
        Err(error) if code(&error).as_deref() == Some("22012") => Ok(None),
        done => done,
    }
}

/// Open → failed or expired: the drafts are archived, kept as rows so that late money finds them. `None`
/// when a row was not as expected.
pub async fn mark_ended(
    executor: impl PgExecutor<'_>,
    change: &Transition<'_>,
) -> Result<Option<Deliveries>, db::Error> {
    let session = change.session;
    let done = query_with_event!(
        "-- checkout.mark_ended",
        ["changed as (
            update checkout_sessions
            set checkout_status = $10, failure_reason = $11, cancelled_at = $12, link_id = $13, link_state = $14,
                event_count = $5, check_at = $15, check_count = 0, lease_token = null, lease_expires_at = null, updated_at = $7
            where environment_id = $1 and id = $2 and checkout_status = $16 and xmin::text::bigint = $19
            returning environment_id, id, subscription_id, invoice_id, payment_id
        ), payment as (
            update payments p set status = 'archived', updated_at = $7
            from changed s where p.environment_id = s.environment_id and p.id = s.payment_id
            returning p.id
        ), invoice as (
            update invoices i set status = 'archived', updated_at = $7
            from changed s where i.environment_id = s.environment_id and i.id = s.invoice_id
            returning i.id
        ), subscription as (
            update subscriptions u set status = 'archived', updated_at = $7
            from changed s where u.environment_id = s.environment_id and u.id = s.subscription_id
            returning u.id
        ), transition as (
            insert into session_transitions (environment_id, session_id, sequence, from_status, to_status, cause, inbox_id, created_at)
            select environment_id, id, $5, $16, $10, $17, $18, $7 from changed
        )"],
        // Half of it must not stay: a division by zero undoes the statement.
        r#"select (select count(*) from delivery) / case
                when (select count(*) from payment) + (select count(*) from invoice)
                    + (select count(*) from subscription) = 3 then 1
                else 0
            end as "deliveries!"
            from changed"#,
        session.scope,
        change.event,
        &change.delivery_ids,
        None,
        session.state.status.as_str(),
        session.failure_reason,
        session.cancelled_at,
        session.state.link_id,
        session.state.link_state.as_str(),
        change.check_at,
        change.from.as_str(),
        change.cause.as_str(),
        change.inbox,
        session.version,
    );
    unless_halfway(done.fetch_optional(executor).await)
}

/// Changes only what is known of the link, and when to look again. The status stays. Unless the caller is the
/// worker that holds the lease, the lease ends: its holder's own `check_at` would be older than this one.
/// The session's new version; `None`, with nothing changed, when it is of another version by now: not under its lock.
pub async fn mark_link(
    executor: impl PgExecutor<'_>,
    session: &Session,
    check_at: Option<DateTime<Utc>>,
    keep_lease: bool,
    now: DateTime<Utc>,
) -> Result<Option<i64>, db::Error> {
    let version = sqlx::query_scalar!(
        "-- checkout.mark_link
        update checkout_sessions
        set link_id = $3, link_url = $4, link_state = $5, cancelled_at = $6, check_at = $7, updated_at = $8,
            lease_token = case when $9 then lease_token end, lease_expires_at = case when $9 then lease_expires_at end
        where environment_id = $1 and id = $2 and xmin::text::bigint = $10
        returning xmin::text::bigint as \"version!\"",
        Uuid::from(session.scope.environment),
        Uuid::from(session.id),
        session.state.link_id,
        session.link_url,
        session.state.link_state.as_str(),
        session.cancelled_at,
        check_at,
        now,
        keep_lease,
        session.version,
    );
    version.fetch_optional(executor).await
}

/// Makes another version of a locked session, for those who decide by the version without the lock.
pub async fn touch(tx: &mut Tx, session: &Session, now: DateTime<Utc>) -> Result<(), db::Error> {
    sqlx::query!(
        "-- checkout.touch
        update checkout_sessions set updated_at = $3 where environment_id = $1 and id = $2",
        Uuid::from(session.scope.environment),
        Uuid::from(session.id),
        now,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Hides a session from lists.
pub async fn mark_deleted(
    pool: &Pool,
    scope: Scope,
    id: SessionId,
    now: DateTime<Utc>,
) -> Result<(), db::Error> {
    sqlx::query!(
        "-- checkout.mark_deleted
        update checkout_sessions set deleted_at = coalesce(deleted_at, $3)
        where environment_id = $1 and id = $2",
        Uuid::from(scope.environment),
        Uuid::from(id),
        now,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Lets the worker look at an open session at this time, if nobody is at it.
pub async fn look_at(
    pool: &Pool,
    scope: Scope,
    id: SessionId,
    check_at: DateTime<Utc>,
) -> Result<(), db::Error> {
    sqlx::query!(
        "-- checkout.look_at
        update checkout_sessions set check_at = $3
        where environment_id = $1 and id = $2 and lease_token is null and checkout_status in ('initiated', 'pending')",
        Uuid::from(scope.environment),
        Uuid::from(id),
        check_at,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Takes the right to ask the provider on behalf of readers, once per window over all replicas.
pub async fn claim_poll(
    pool: &Pool,
    scope: Scope,
    id: SessionId,
    now: DateTime<Utc>,
    not_since: DateTime<Utc>,
) -> Result<bool, db::Error> {
    let done = sqlx::query!(
        "-- checkout.claim_poll
        update checkout_sessions
        set checked_at = $3
        where environment_id = $1 and id = $2 and checkout_status in ('initiated', 'pending')
            and (checked_at is null or checked_at <= $4)",
        Uuid::from(scope.environment),
        Uuid::from(id),
        now,
        not_since,
    )
    .execute(pool)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// A session that is due, held by this worker until the lease expires.
#[derive(Clone, Copy, Debug)]
pub struct Lease {
    pub scope: Scope,
    pub session: SessionId,
    pub token: Uuid,
}

/// Leases due sessions of all environments.
pub async fn claim_due_any_scope(
    pool: &Pool,
    now: DateTime<Utc>,
    lease_expires_at: DateTime<Utc>,
    token: Uuid,
    limit: i64,
) -> Result<Vec<Lease>, db::Error> {
    let claim = sqlx::query!(
        "-- checkout.claim_due_any_scope
        with due as (
            select environment_id, id
            from checkout_sessions
            where check_at <= $1 and (lease_expires_at is null or lease_expires_at <= $1)
            order by check_at
            limit $4
            for update skip locked
        )
        update checkout_sessions s
        set lease_token = $3, lease_expires_at = $2
        from due d, environments e
        where s.environment_id = d.environment_id and s.id = d.id and e.id = d.environment_id
        returning e.tenant_id, s.environment_id, s.id",
        now,
        lease_expires_at,
        token,
        limit,
    );
    let rows = db::fetch_claim(pool, claim).await?;
    let lease = |tenant: Uuid, environment: Uuid, id: Uuid| Lease {
        scope: Scope { tenant: tenant.into(), environment: environment.into() },
        session: id.into(),
        token,
    };
    Ok(rows.into_iter().map(|row| lease(row.tenant_id, row.environment_id, row.id)).collect())
}

/// Gives the lease back and says when to look again; counts failures in a row. A worker that lost it changes nothing.
pub async fn finish_check(
    pool: &Pool,
    lease: &Lease,
    check_at: Option<DateTime<Utc>>,
    failed: bool,
) -> Result<(), db::Error> {
    sqlx::query!(
        "-- checkout.finish_check
        update checkout_sessions
        set check_at = $4, check_count = case when $5 then check_count + 1 else 0 end, lease_token = null, lease_expires_at = null
        where environment_id = $1 and id = $2 and lease_token = $3",
        Uuid::from(lease.scope.environment),
        Uuid::from(lease.session),
        lease.token,
        check_at,
        failed,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Ends leases whose steps were dropped.
pub async fn release_any_scope(pool: &Pool, tokens: &[Uuid]) -> Result<(), db::Error> {
    sqlx::query!(
        "-- checkout.release_any_scope
        update checkout_sessions set lease_token = null, lease_expires_at = null
        where check_at is not null and lease_token = any($1)",
        tokens,
    )
    .execute(pool)
    .await?;
    Ok(())
}
