//! SQL of the queue: what is due is claimed, and what came of it is recorded.

use std::collections::{HashMap, VecDeque};

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::types::Uuid;

use super::{
    DeliveryId, EndpointId,
    deliver::{Claimed, Lease},
    record::{Attempted, Failing},
};
use crate::{
    db::{self, Pool, Tx},
    tenancy::{Mode, Scope},
};

/// What a claim asks for.
pub struct Claim {
    pub now: DateTime<Utc>,
    /// What was due before this is behind …
    pub new_after: DateTime<Utc>,
    /// … and endpoints that are may have to be passed over.
    pub only_new: bool,
    pub expires_at: DateTime<Utc>,
    /// How long an event waits for the first attempt at an earlier one of its subject.
    pub order_patience: TimeDelta,
    /// From this many failures in a row on, an endpoint gets one delivery at a time.
    pub failures_until_probing: i32,
    /// Places that are free.
    pub limit: i64,
}

/// Endpoints, in every environment, that have something due and may take it, in turn. Locks them until the transaction
/// ends and passes over those that another worker has locked.
///
/// The recursion steps from one endpoint with pending rows to the next along `deliveries_pending`: its cost
/// is the number of such endpoints, not of their rows.
pub async fn lock_due_endpoints_any_scope(
    tx: &mut Tx,
    claim: &Claim,
) -> Result<(Vec<Uuid>, Vec<Uuid>), db::Error> {
    let rows = sqlx::query!(
        "-- webhooks.lock_due_endpoints_any_scope
        with recursive waiting as (
            (
                select environment_id, endpoint_id
                from deliveries
                where delivery_status = 'pending'
                order by environment_id, endpoint_id
                limit 1
            )
            union all
            select following.environment_id, following.endpoint_id
            from waiting
            cross join lateral (
                select d.environment_id, d.endpoint_id
                from deliveries d
                where d.delivery_status = 'pending'
                    and (d.environment_id, d.endpoint_id) > (waiting.environment_id, waiting.endpoint_id)
                order by d.environment_id, d.endpoint_id
                limit 1
            ) following
        )
        select e.environment_id, e.id
        from waiting
        join webhook_endpoints e on e.environment_id = waiting.environment_id and e.id = waiting.endpoint_id
        left join endpoint_health h on h.environment_id = e.environment_id and h.endpoint_id = e.id
        cross join lateral (
            select count(distinct f.lease_token) as taken,
                case when h.consecutive_failures >= $2 then 1 else e.max_concurrency end
                    - count(distinct f.lease_token) as free
            from deliveries f
            where f.environment_id = e.environment_id and f.endpoint_id = e.id and f.lease_token is not null
                and f.lease_expires_at > $1
        ) room
        cross join lateral (
            select d.next_attempt_at
            from deliveries d
            where room.free > 0
                and (e.rate_limit_per_second is null or e.paced_until is null
                    or e.paced_until <= $1::timestamptz - interval '1 second' / e.rate_limit_per_second)
                and d.environment_id = e.environment_id and d.endpoint_id = e.id and d.delivery_status = 'pending'
                and d.next_attempt_at <= $1 and (d.lease_expires_at is null or d.lease_expires_at <= $1)
                and (d.attempt_count > 0 or d.created_at <= $1::timestamptz - $3::interval or not exists (
                    select 1
                    from deliveries earlier
                    where earlier.environment_id = d.environment_id
                        and earlier.subject_id = d.subject_id and earlier.sequence < d.sequence
                        and earlier.endpoint_id is not distinct from d.endpoint_id
                        and earlier.delivery_status = 'pending' and earlier.attempt_count = 0
                ))
            order by d.next_attempt_at
            limit 1
        ) head
        where not $6 or head.next_attempt_at > $5
        -- In turn, one at a time: a backlog must not come before who has waited since its last attempt.
        order by room.taken, greatest(h.last_delivered_at, h.last_failed_at) nulls first, head.next_attempt_at
        limit $4
        for no key update of e skip locked",
        claim.now,
        claim.failures_until_probing,
        interval(claim.order_patience),
        claim.limit,
        claim.new_after,
        claim.only_new,
    )
    .fetch_all(tx)
    .await?;
    Ok(rows.into_iter().map(|row| (row.environment_id, row.id)).unzip())
}

fn interval(delta: TimeDelta) -> sqlx::postgres::types::PgInterval {
    let microseconds = delta.num_microseconds().unwrap_or(i64::MAX);
    sqlx::postgres::types::PgInterval { months: 0, days: 0, microseconds }
}

/// Leases due deliveries of `endpoints`, whose rows the caller has locked in an earlier statement: only a
/// statement that starts after the lock was had sees what others claimed before. First each endpoint's
/// first, then each one's second …
///
/// Where an endpoint's deliveries go well, up to `row_length` share a place and its token. `tokens` has one for each of
/// the places that are free.
///
/// A rate limit is kept by the generic cell rate algorithm with a burst of one second's worth.
pub async fn claim_deliveries_any_scope(
    tx: &mut Tx,
    endpoints: &(Vec<Uuid>, Vec<Uuid>),
    claim: &Claim,
    tokens: &[Uuid],
    row_length: i64,
) -> Result<Vec<Lease>, db::Error> {
    let mut rows = sqlx::query!(
        r#"-- webhooks.claim_deliveries_any_scope
        with room as (
            select w.environment_id, w.id as endpoint_id,
                greatest(0, least(
                    case when h.consecutive_failures >= $8 then 1 else w.max_concurrency end - (
                        select count(distinct f.lease_token)
                        from deliveries f
                        where f.environment_id = w.environment_id and f.endpoint_id = w.id
                            and f.lease_token is not null and f.lease_expires_at > $3
                    ),
                    case when w.rate_limit_per_second is not null then floor(w.rate_limit_per_second * extract(epoch from
                        $3::timestamptz - greatest(w.paced_until, $3::timestamptz - interval '1 second')))
                    end
                ))::bigint as free,
                case when h.consecutive_failures > 0 or w.rate_limit_per_second is not null then 1 else $9::bigint end as length
            from unnest($1::uuid[], $2::uuid[]) as locked (environment_id, endpoint_id)
            join webhook_endpoints w on w.environment_id = locked.environment_id and w.id = locked.endpoint_id
            left join endpoint_health h on h.environment_id = w.environment_id and h.endpoint_id = w.id
        ),
        ranked as (
            select due.environment_id, due.endpoint_id, due.id, due.next_attempt_at, room.free,
                row_number() over (
                    partition by due.environment_id, due.endpoint_id order by due.next_attempt_at, due.sequence
                ) - 1 as number
            from room
            cross join lateral (
                select d.environment_id, d.endpoint_id, d.id, d.next_attempt_at, d.sequence
                from deliveries d
                where d.environment_id = room.environment_id and d.endpoint_id = room.endpoint_id
                    and d.delivery_status = 'pending' and d.next_attempt_at <= $3
                    and (d.lease_expires_at is null or d.lease_expires_at <= $3)
                    and (d.attempt_count > 0 or d.created_at <= $3::timestamptz - $7::interval or not exists (
                        select 1
                        from deliveries earlier
                        where earlier.environment_id = d.environment_id
                            and earlier.subject_id = d.subject_id and earlier.sequence < d.sequence
                        and earlier.endpoint_id is not distinct from d.endpoint_id
                            and earlier.delivery_status = 'pending' and earlier.attempt_count = 0
                    ))
                order by d.next_attempt_at
                limit room.free * room.length
                for no key update of d skip locked
            ) due
        ),
        places as (
            select environment_id, endpoint_id, number, row_number() over (order by number, next_attempt_at) as place
            from ranked
            where number < free
            order by number, next_attempt_at
            limit $4
        ),
        chosen as (
            select r.environment_id, r.endpoint_id, r.id, ($5::uuid[])[p.place] as token
            from ranked r
            join places p on p.environment_id = r.environment_id and p.endpoint_id = r.endpoint_id
                and p.number = r.number % r.free
        ),
        paced as (
            update webhook_endpoints w
            set paced_until = greatest(w.paced_until, $3::timestamptz - interval '1 second')
                + taken.count * interval '1 second' / w.rate_limit_per_second
            from (select environment_id, endpoint_id, count(*) as count from chosen group by 1, 2) taken
            where w.environment_id = taken.environment_id and w.id = taken.endpoint_id
                and w.rate_limit_per_second is not null
        ),
        -- Joined with nothing else: without statistics the planner would take every delivery with every endpoint.
        claimed as (
            update deliveries d
            set lease_token = chosen.token, lease_expires_at = $6
            from chosen
            where d.environment_id = chosen.environment_id and d.id = chosen.id
            returning d.environment_id, d.id, d.endpoint_id, d.event_id, d.attempt_count, d.schedule_start,
                d.next_attempt_at, d.sequence, d.lease_token
        )
        select v.tenant_id, v.mode, d.environment_id, d.id, d.endpoint_id, d.event_id, d.attempt_count,
            d.schedule_start, d.next_attempt_at, d.sequence, d.lease_token as "token!", e.body, w.url, w.enabled, w.headers_sealed, w.secret_sealed,
            w.previous_secret_sealed, w.previous_secret_expires_at
        from claimed d
        join events e on e.environment_id = d.environment_id and e.id = d.event_id
        join webhook_endpoints w on w.environment_id = d.environment_id and w.id = d.endpoint_id
        join environments v on v.id = d.environment_id"#,
        &endpoints.0,
        &endpoints.1,
        claim.now,
        claim.limit,
        tokens,
        claim.expires_at,
        interval(claim.order_patience),
        claim.failures_until_probing,
        row_length,
    )
    .fetch_all(tx)
    .await?;
    rows.sort_by_key(|row| (row.next_attempt_at, row.sequence));
    let mut leases: Vec<Lease> = Vec::new();
    let mut places: HashMap<Uuid, usize> = HashMap::new();
    for row in rows {
        let place = *places.entry(row.token).or_insert(leases.len());
        if place == leases.len() {
            leases.push(Lease { token: row.token, deliveries: VecDeque::new() });
        }
        leases[place].deliveries.push_back(Claimed {
            scope: Scope { tenant: row.tenant_id.into(), environment: row.environment_id.into() },
            mode: Mode::from_column(&row.mode),
            id: row.id.into(),
            endpoint: row.endpoint_id.into(),
            event: row.event_id.into(),
            token: row.token,
            is_new: row.next_attempt_at.is_some_and(|due_at| due_at > claim.new_after),
            attempts_before: row.attempt_count,
            schedule_start: row.schedule_start,
            body: row.body,
            url: row.url,
            enabled: row.enabled,
            headers: row.headers_sealed,
            secret: row.secret_sealed,
            previous_secret: row.previous_secret_sealed,
            previous_secret_expires_at: row.previous_secret_expires_at,
        });
    }
    Ok(leases)
}

/// Locks the endpoint's row until the transaction ends; whether it takes deliveries.
pub async fn lock_endpoint(tx: &mut Tx, scope: Scope, id: EndpointId) -> Result<bool, db::Error> {
    sqlx::query_scalar!(
        "-- webhooks.lock_endpoint
        select enabled
        from webhook_endpoints
        where environment_id = $1 and id = $2
        for no key update",
        Uuid::from(scope.environment),
        Uuid::from(id),
    )
    .fetch_one(tx)
    .await
}

/// Columns of attempts, as arrays.
#[derive(Default)]
struct Columns {
    environments: Vec<Uuid>,
    deliveries: Vec<Uuid>,
    tokens: Vec<Uuid>,
    statuses: Vec<String>,
    next_attempts_at: Vec<Option<DateTime<Utc>>>,
    codes: Vec<Option<i32>>,
    errors: Vec<Option<String>>,
    finished_at: Vec<DateTime<Utc>>,
    attempts: Vec<Uuid>,
    bodies: Vec<Option<String>>,
    durations_ms: Vec<i64>,
    attempted_at: Vec<DateTime<Utc>>,
}

impl Columns {
    fn of(attempts: &[Attempted]) -> Self {
        let mut columns = Self::default();
        for attempted in attempts {
            columns.environments.push(attempted.scope.environment.into());
            columns.deliveries.push(attempted.delivery.into());
            columns.tokens.push(attempted.token);
            columns.statuses.push(attempted.status.as_str().to_owned());
            columns.next_attempts_at.push(attempted.next_attempt_at);
            columns.codes.push(attempted.response_code);
            columns.errors.push(attempted.error.clone());
            columns.finished_at.push(attempted.finished_at);
            columns.attempts.push(attempted.id.into());
            columns.bodies.push(attempted.response_body.clone());
            columns.durations_ms.push(attempted.duration_ms);
            columns.attempted_at.push(attempted.attempted_at);
        }
        columns
    }
}

/// What was recorded of a batch.
pub struct Recorded {
    /// The deliveries whose lease was still this worker's; of the others nothing is written.
    pub deliveries: Vec<DeliveryId>,
    /// Endpoints that did nothing but fail for long, after a failure in this batch.
    pub failing: Vec<Failing>,
}

/// Records attempts, what follows from each, and what they say of their endpoints' health, in one statement.
///
/// Endpoints' rows are written in the order of their keys, so that no two batches wait for each other.
pub async fn finish_deliveries(
    tx: &mut Tx,
    attempts: &[Attempted],
    failing_before: DateTime<Utc>,
    most_failures: i32,
) -> Result<Recorded, db::Error> {
    let columns = Columns::of(attempts);
    let rows = sqlx::query!(
        r#"-- webhooks.finish_deliveries
        with done as (
            select *
            from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::timestamptz[], $6::integer[], $7::text[],
                $8::timestamptz[], $9::uuid[], $10::text[], $11::bigint[], $12::timestamptz[])
                as done (environment_id, id, token, status, next_attempt_at, code, error, finished_at, attempt_id, body,
                    duration_ms, attempted_at)
        ),
        finished as (
            update deliveries d
            set delivery_status = done.status, attempt_count = d.attempt_count + 1,
                next_attempt_at = done.next_attempt_at, lease_token = null, lease_expires_at = null,
                last_response_code = done.code, last_error = done.error,
                delivered_at = case when done.status = 'delivered' then done.finished_at else d.delivered_at end,
                updated_at = done.finished_at
            from done
            -- Not `=`, which would let the planner look for each among all that are leased.
            where d.environment_id = done.environment_id and d.id = done.id
                and d.lease_token is not distinct from done.token and d.delivery_status = 'pending'
            returning d.environment_id, d.id, d.endpoint_id, d.attempt_count, done.status, done.code, done.error,
                done.finished_at, done.attempt_id, done.body, done.duration_ms, done.attempted_at
        ),
        attempts as (
            insert into delivery_attempts (environment_id, id, delivery_id, attempt_number, response_code, response_body,
                error, duration_ms, attempted_at)
            select environment_id, attempt_id, id, attempt_count, code, body, error, duration_ms, attempted_at
            from finished
        ),
        by_endpoint as (
            select environment_id, endpoint_id, count(*) filter (where status = 'delivered') as delivered,
                count(*) filter (where status <> 'delivered') as failed,
                max(finished_at) filter (where status = 'delivered') as delivered_at,
                min(finished_at) filter (where status <> 'delivered') as first_failed_at,
                max(finished_at) filter (where status <> 'delivered') as failed_at,
                (array_agg(coalesce(error, 'HTTP status ' || code) order by finished_at desc)
                    filter (where status <> 'delivered'))[1] as error
            from finished
            group by environment_id, endpoint_id
            order by environment_id, endpoint_id
        ),
        health as (
            insert into endpoint_health as h (environment_id, endpoint_id, delivered_count, failed_count,
                last_delivered_at, last_failed_at, last_error, failing_since, consecutive_failures)
            select environment_id, endpoint_id, delivered, failed, delivered_at, failed_at, error,
                case when delivered = 0 then first_failed_at end, case when delivered = 0 then failed else 0 end
            from by_endpoint
            on conflict (environment_id, endpoint_id) do update
            set delivered_count = h.delivered_count + excluded.delivered_count,
                failed_count = h.failed_count + excluded.failed_count,
                last_delivered_at = coalesce(excluded.last_delivered_at, h.last_delivered_at),
                last_failed_at = coalesce(excluded.last_failed_at, h.last_failed_at),
                last_error = coalesce(excluded.last_error, h.last_error),
                failing_since = case
                    when excluded.delivered_count = 0 then coalesce(h.failing_since, excluded.failing_since)
                end,
                consecutive_failures = case
                    when excluded.delivered_count = 0 then h.consecutive_failures + excluded.consecutive_failures
                    else 0
                end
            returning environment_id, endpoint_id, failing_since, consecutive_failures
        )
        select f.environment_id, f.id, f.endpoint_id,
            coalesce(h.failing_since <= $13 and h.consecutive_failures >= $14, false) as "is_failing!"
        from finished f
        left join health h on h.environment_id = f.environment_id and h.endpoint_id = f.endpoint_id"#,
        &columns.environments,
        &columns.deliveries,
        &columns.tokens,
        &columns.statuses,
        &columns.next_attempts_at as &[Option<DateTime<Utc>>],
        &columns.codes as &[Option<i32>],
        &columns.errors as &[Option<String>],
        &columns.finished_at,
        &columns.attempts,
        &columns.bodies as &[Option<String>],
        &columns.durations_ms,
        &columns.attempted_at,
        failing_before,
        most_failures,
    )
    .fetch_all(tx)
    .await?;
    let failing = rows.iter().filter(|row| row.is_failing).map(|row| (row.id, row.endpoint_id));
    let mut failing: Vec<Failing> = failing
        .filter_map(|(delivery, endpoint)| {
            let attempted = attempts.iter().find(|attempted| Uuid::from(attempted.delivery) == delivery)?;
            Some(Failing { scope: attempted.scope, endpoint: endpoint.into(), url: attempted.url.clone() })
        })
        .collect();
    failing.sort_by_key(|failing| Uuid::from(failing.endpoint));
    failing.dedup_by_key(|failing| failing.endpoint);
    Ok(Recorded { deliveries: rows.into_iter().map(|row| row.id.into()).collect(), failing })
}

/// Whether the endpoint has done nothing but fail since `failing_before`; its health stays locked.
pub async fn lock_failing(
    tx: &mut Tx,
    scope: Scope,
    id: EndpointId,
    failing_before: DateTime<Utc>,
    most_failures: i32,
) -> Result<bool, db::Error> {
    let found = sqlx::query_scalar!(
        "-- webhooks.lock_failing
        select 1
        from endpoint_health
        where environment_id = $1 and endpoint_id = $2 and failing_since <= $3 and consecutive_failures >= $4
        for update",
        Uuid::from(scope.environment),
        Uuid::from(id),
        failing_before,
        most_failures,
    )
    .fetch_optional(tx)
    .await?;
    Ok(found.is_some())
}

/// Ends a claimed delivery without an attempt, because its endpoint wants nothing any more.
pub async fn cancel_claimed_delivery(
    pool: &Pool,
    lease: &Claimed,
    now: DateTime<Utc>,
) -> Result<bool, db::Error> {
    let done = sqlx::query!(
        "-- webhooks.cancel_claimed_delivery
        update deliveries
        set delivery_status = 'cancelled', next_attempt_at = null, lease_token = null, lease_expires_at = null,
            updated_at = $4
        where environment_id = $1 and id = $2 and lease_token = $3 and delivery_status = 'pending'",
        Uuid::from(lease.scope.environment),
        Uuid::from(lease.id),
        lease.token,
        now,
    )
    .execute(pool)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Ends leases whose steps were dropped, or those of some deliveries only.
pub async fn release_deliveries_any_scope(
    pool: &Pool,
    tokens: &[Uuid],
    only: Option<&[Uuid]>,
) -> Result<(), db::Error> {
    sqlx::query!(
        "-- webhooks.release_deliveries_any_scope
        update deliveries set lease_token = null, lease_expires_at = null
        where lease_token = any($1) and ($2::uuid[] is null or id = any($2))",
        tokens,
        only,
    )
    .execute(pool)
    .await?;
    Ok(())
}
