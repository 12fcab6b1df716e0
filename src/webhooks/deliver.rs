//! The worker that sends what waits. At least once: a crash between the answer and its record sends again,
//! with the same `webhook-id` and the same bytes.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use anyhow::Context;
use chrono::{DateTime, TimeDelta, Utc};
use futures::future::{BoxFuture, join_all};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use secrecy::SecretString;
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    DeliveryId, EndpointId, EventId,
    catch_up::BEHIND,
    delivery::DeliveryStatus,
    disable,
    egress::{Answer, SendError},
    endpoint::{DEFAULT_CONCURRENCY, DisabledReason, open_headers, secret_place},
    queue_store as store,
    record::Attempted,
    schedule::{self, Verdict},
    sign,
};
use crate::{
    app::App,
    db,
    kit::checkpoint,
    tenancy::{Mode, Scope},
    worker::{Job, Leased, Work},
};

/// A little more than the total deadline of a request: by then the worker that held it is gone or has recorded it. Not
/// more, because the leases of a worker that died take up their endpoint's places.
const LEASE: TimeDelta = TimeDelta::seconds(20);
/// An event waits for the first attempt at an earlier one of its subject, but not longer than this.
const ORDER_PATIENCE: TimeDelta = TimeDelta::seconds(30);
/// From this many failures in a row on, an endpoint is tried one delivery at a time: many that hang must not take all
/// places.
const FAILURES_UNTIL_PROBING: i32 = 10;

/// Deliveries that share a place, at most: each claim costs a commit.
const LONGEST_ROW: i64 = 16;
/// After this long no other one of them is begun: what the merchant changed at the endpoint since the claim holds for
/// it, and with its total deadline it would outlast the lease.
const ROW_PATIENCE: TimeDelta = TimeDelta::seconds(1);

/// Delivers events.
pub struct Deliver;

/// A place at an endpoint, and what is to be sent in it: one delivery after another.
pub struct Lease {
    pub(super) token: Uuid,
    pub(super) deliveries: VecDeque<Claimed>,
}

/// A claimed delivery with all that is needed to send it.
pub(super) struct Claimed {
    pub(super) scope: Scope,
    pub(super) mode: Mode,
    pub(super) id: DeliveryId,
    pub(super) endpoint: EndpointId,
    pub(super) event: EventId,
    pub(super) token: Uuid,
    /// Not behind: it became due just now.
    pub(super) is_new: bool,
    pub(super) attempts_before: i32,
    /// How many of these belong to schedules that were over before.
    pub(super) schedule_start: i32,
    /// Frozen when the event happened.
    pub(super) body: Vec<u8>,
    pub(super) url: String,
    pub(super) enabled: bool,
    pub(super) headers: Option<Vec<u8>>,
    pub(super) secret: Vec<u8>,
    pub(super) previous_secret: Option<Vec<u8>>,
    pub(super) previous_secret_expires_at: Option<DateTime<Utc>>,
}

impl Job for Deliver {
    type Lease = Lease;
    const WORK: Work = Work::Deliveries;
    const SLOTS: usize = 256;
    const POLL: Duration = Duration::from_secs(1);

    async fn claim(&self, app: &App, free: usize) -> anyhow::Result<Vec<Lease>> {
        claim(app, free, false).await
    }

    async fn claim_next(&self, app: &App, free: usize) -> anyhow::Result<Vec<Lease>> {
        let only_new = app.catch_up.wait(Instant::now()).is_some();
        let leases = claim(app, free, only_new).await.inspect_err(|_| app.catch_up.failed())?;
        let new = leases.iter().filter(|lease| lease.is_new()).count();
        app.catch_up.claimed(Instant::now(), !only_new, new > 0, new < leases.len());
        Ok(leases)
    }

    fn pause(&self, app: &App) -> Duration {
        app.catch_up.pause(Instant::now()).unwrap_or(Self::POLL)
    }

    async fn step(&self, app: &App, mut lease: Lease) -> anyhow::Result<()> {
        let (is_new, until) = (lease.is_new(), app.clock.now() + ROW_PATIENCE);
        let (mut records, mut recorded) = (Vec::new(), Vec::new());
        while let Some(delivery) = lease.deliveries.pop_front() {
            let sent = match send(app, delivery).await {
                Ok(Some(sent)) => sent,
                Ok(None) => continue,
                Err(error) => {
                    recorded.push(Err(error));
                    break;
                }
            };
            let verdict = sent.verdict;
            if verdict == Verdict::Gone {
                // It cancels what is not on record yet as delivered.
                recorded.extend(join_all(std::mem::take(&mut records)).await);
            }
            records.push(record(app, sent));
            // The others are not for an endpoint that fails, or is slow: they are claimed again when they are due.
            if verdict != Verdict::Delivered || app.clock.now() >= until || app.wake.is_stopping() {
                break;
            }
        }
        recorded.extend(join_all(records).await);
        if !lease.deliveries.is_empty() {
            // Not what was sent: unless its record is written, it waits for the lease's expiry.
            let left: Vec<_> = lease.deliveries.iter().map(|delivery| delivery.id.into()).collect();
            store::release_deliveries_any_scope(&app.pool, &[lease.token], Some(&left)).await?;
        }
        // The endpoint has a free place again; what waits for it need not wait for the next poll. What is behind waits
        // for its turn: then the driver comes back by itself.
        if is_new || app.catch_up.wait(Instant::now()).is_none() {
            app.wake.notify(Work::Deliveries);
        }
        recorded.into_iter().collect()
    }

    async fn release(&self, app: &App, tokens: &[Uuid]) -> anyhow::Result<()> {
        Ok(store::release_deliveries_any_scope(&app.pool, tokens, None).await?)
    }
}

impl Leased for Lease {
    fn token(&self) -> Uuid {
        self.token
    }
}

/// An attempt that was made.
struct Sent {
    attempted: Attempted,
    verdict: Verdict,
}

/// Makes an attempt; none for an endpoint that wants nothing any more.
async fn send(app: &App, mut delivery: Claimed) -> anyhow::Result<Option<Sent>> {
    // An event can be emitted while its endpoint is being disabled: such a delivery comes this far.
    if !delivery.enabled {
        store::cancel_claimed_delivery(&app.pool, &delivery, app.clock.now()).await?;
        return Ok(None);
    }
    checkpoint::reach("deliver.claimed");
    let attempted_at = app.clock.now();
    let result = match headers(app, &delivery, attempted_at) {
        Ok(headers) => {
            let body = std::mem::take(&mut delivery.body);
            app.egress.post(app.egress.rules(delivery.mode), &delivery.url, headers, body).await
        }
        // On the schedule like any other failure: seen by the merchant, and over some day.
        Err(error) => {
            tracing::error!(endpoint.id = %delivery.endpoint, error = format!("{error:#}"), "a delivery could not be signed");
            Err(SendError::Failed("the event could not be signed".into()))
        }
    };
    checkpoint::reach("deliver.answered");
    let finished_at = app.clock.now();
    let attempt = usize::try_from(delivery.attempts_before - delivery.schedule_start).unwrap_or_default() + 1;
    let verdict = schedule::judge(attempt, &result, finished_at, app.ids.fraction());
    let attempted = attempted(app, &delivery, verdict, result, attempted_at, finished_at);
    Ok(Some(Sent { attempted, verdict }))
}

/// Hands an attempt over to be written down; what comes back waits for that. The next one need not.
fn record(app: &App, Sent { attempted, verdict }: Sent) -> BoxFuture<'static, anyhow::Result<()>> {
    let app = app.clone();
    if verdict == Verdict::Gone {
        return Box::pin(async move {
            let (scope, endpoint) = (attempted.scope, attempted.endpoint);
            let recorded = record_gone(&app, attempted).await?;
            disable::cancel_rest(&app, scope, endpoint).await?;
            count(verdict, recorded);
            Ok(())
        });
    }
    let written = app.recorder.record(&app, attempted);
    Box::pin(async move {
        count(verdict, written.await?);
        Ok(())
    })
}

fn count(verdict: Verdict, recorded: bool) {
    checkpoint::reach("deliver.recorded");
    let outcome = if recorded { verdict.as_str() } else { "lease_lost" };
    metrics::counter!("checkoutd_deliveries_total", "outcome" => outcome).increment(1);
    if !recorded {
        tracing::info!("a delivery's lease was lost before its attempt was recorded");
    }
}

impl Lease {
    /// Whether what it begins with has just become due.
    fn is_new(&self) -> bool {
        self.deliveries.front().is_some_and(|delivery| delivery.is_new)
    }
}

/// Leases what is due: all of it, or what has just become due.
async fn claim(app: &App, free: usize, only_new: bool) -> anyhow::Result<Vec<Lease>> {
    if free == 0 {
        return Ok(Vec::new());
    }
    let now = app.clock.now();
    let claim = store::Claim {
        now,
        new_after: now - BEHIND,
        only_new,
        expires_at: now + LEASE,
        order_patience: ORDER_PATIENCE,
        failures_until_probing: FAILURES_UNTIL_PROBING,
        limit: i64::try_from(free).unwrap_or(i64::MAX),
    };
    let (claim, own) = (Arc::new(claim), app.clone());
    let leases = db::transact_unflushed(&app.pool, "claim_deliveries", move |tx| {
        let (claim, app) = (Arc::clone(&claim), own.clone());
        Box::pin(async move {
            let endpoints = store::lock_due_endpoints_any_scope(tx, &claim).await?;
            if endpoints.0.is_empty() {
                return Ok::<_, db::Error>(Vec::new());
            }
            let tokens: Vec<_> = std::iter::repeat_with(|| app.ids.uuid()).take(free).collect();
            let row_length = row_length(claim.limit, endpoints.0.len());
            store::claim_deliveries_any_scope(tx, &endpoints, &claim, &tokens, row_length).await
        })
    });
    Ok(leases.await?)
}

/// Deliveries in one of `free` places, when so many endpoints want some: one, unless there are places for all that they
/// may take.
fn row_length(free: i64, endpoints: usize) -> i64 {
    let endpoints = i64::try_from(endpoints).unwrap_or(i64::MAX);
    let wanted = endpoints.saturating_mul(DEFAULT_CONCURRENCY.into());
    (free / wanted.max(1)).clamp(1, LONGEST_ROW)
}

fn headers(app: &App, lease: &Claimed, now: DateTime<Utc>) -> anyhow::Result<HeaderMap> {
    let place = secret_place(lease.scope.environment, lease.endpoint);
    let kept = lease.previous_secret_expires_at.is_some_and(|expires_at| expires_at > now);
    let previous = lease.previous_secret.iter().filter(|_| kept);
    let secrets = std::iter::once(&lease.secret)
        .chain(previous)
        .map(|sealed| app.sealer.open(place, sealed))
        .collect::<Result<Vec<SecretString>, _>>()
        .with_context(|| format!("secret of webhook endpoint {}", lease.endpoint))?;
    let mut headers = sign::signed_headers(&secrets, lease.event, now.timestamp(), &lease.body)
        .with_context(|| format!("secret of webhook endpoint {}", lease.endpoint))?;
    for (name, value) in open_headers(app, lease.scope, lease.endpoint, lease.headers.as_deref())? {
        // Ours stand, whatever was allowed when these were stored.
        headers.entry(HeaderName::try_from(name)?).or_insert(HeaderValue::try_from(value)?);
    }
    Ok(headers)
}

fn attempted(
    app: &App,
    lease: &Claimed,
    verdict: Verdict,
    result: Result<Answer, SendError>,
    attempted_at: DateTime<Utc>,
    finished_at: DateTime<Utc>,
) -> Attempted {
    let (status, next_attempt_at) = match verdict {
        Verdict::Delivered => (DeliveryStatus::Delivered, None),
        Verdict::Gone | Verdict::Exhausted => (DeliveryStatus::Exhausted, None),
        Verdict::Retry(wait) => (DeliveryStatus::Pending, Some(finished_at + wait)),
    };
    let (response_code, response_body, error) = match result {
        Ok(answer) => (Some(i32::from(answer.status.as_u16())), Some(answer.body), None),
        Err(error) => (None, None, Some(error.to_string())),
    };
    Attempted {
        scope: lease.scope,
        delivery: lease.id,
        endpoint: lease.endpoint,
        url: lease.url.clone(),
        token: lease.token,
        id: app.ids.next(),
        status,
        next_attempt_at,
        response_code,
        response_body,
        error,
        duration_ms: (finished_at - attempted_at).num_milliseconds().max(0),
        attempted_at,
        finished_at,
    }
}

/// 410: records the attempt, disables the endpoint and cancels what waits for it.
async fn record_gone(app: &App, attempted: Attempted) -> Result<bool, db::Error> {
    let (scope, endpoint, now) = (attempted.scope, attempted.endpoint, attempted.finished_at);
    let parts = Arc::new((attempted, disable::Ids::draw(app)));
    db::transact(&app.pool, "finish_gone_delivery", move |tx| {
        let parts = Arc::clone(&parts);
        Box::pin(async move {
            let (attempted, ids) = &*parts;
            // The endpoint first, as in `cancel_pending_deliveries`.
            store::lock_endpoint(tx, scope, endpoint).await?;
            let batch = std::slice::from_ref(attempted);
            let recorded = store::finish_deliveries(tx, batch, DateTime::UNIX_EPOCH, i32::MAX).await?;
            let is_ours = !recorded.deliveries.is_empty();
            if is_ours {
                // Unless the endpoint points elsewhere by now: then the answer was not its own.
                let reason = DisabledReason::Gone;
                disable::disable_in(tx, scope, endpoint, &attempted.url, reason, ids, now).await?;
            }
            Ok(is_ours)
        })
    })
    .await
}
