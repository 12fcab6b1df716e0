//! Creates that come faster than the database takes them are refused at the door, before anything is written: what is
//! under way, and the payments of other sessions, must not wait for them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    body::Body,
    extract::{FromRequestParts, Request, State},
    http::{Method, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, watch};

use super::{
    ApiError,
    extract::{BODY_LIMIT_BYTES, read_body},
};
use crate::app::App;

/// Creates that wait for their turn, beside those that have it.
const MOST_WAITING: usize = 128;
/// When fewer places than this are free, each create takes two turns, so that half as many are drafted at a time: about
/// as many get done, and payments find the processors less busy. Of three turns, one is left over.
const CROWDED: usize = MOST_WAITING / 2;
/// When so many more were refused than had their turn, one is drafted at a time: refusals want their share of the
/// processors, too. Not in any crowd: what is left of a burst must not slow the service to less than what still comes, or
/// it would be left for ever.
const FLOODED: usize = 128;
/// More are not counted, so that a flood which is over is soon forgotten.
const MOST_REFUSED: usize = FLOODED + MOST_WAITING;
/// Nobody waits longer: the database does not answer then.
const PATIENCE: Duration = Duration::from_secs(2);
/// Longer than payments take while creates compete with them; payments that never cease slow creates down, and do not
/// stop them.
const YIELDING: Duration = Duration::from_millis(50);
const RETRY_AFTER_SECONDS: u32 = 1;

/// The creates of this process, and what goes before them.
#[derive(Clone, Debug)]
pub struct Overload {
    tickets: Arc<Semaphore>,
    turns: Arc<Semaphore>,
    at_once: u32,
    /// How many more were refused than had their turn, from 0 to [`MOST_REFUSED`].
    refused: Arc<AtomicUsize>,
    /// Payments that are being settled.
    payments: watch::Sender<usize>,
}

/// A create that was let in; dropped, it lets another one in.
#[derive(Clone, Debug)]
pub struct Ticket {
    overload: Overload,
    _ticket: Arc<OwnedSemaphorePermit>,
}

/// The right to draft; dropped, it passes on to the next.
pub struct Turn {
    _ticket: Ticket,
    _turn: OwnedSemaphorePermit,
}

/// While it is held, creates whose turn has come wait a little.
pub struct Precedence(watch::Sender<usize>);

impl Overload {
    /// Lets the database work on so many drafts at a time.
    pub fn new(at_once: u32) -> Self {
        let turns = usize::try_from(at_once).unwrap_or(MOST_WAITING);
        Self {
            tickets: Arc::new(Semaphore::new(turns + MOST_WAITING)),
            turns: Arc::new(Semaphore::new(turns)),
            at_once,
            refused: Arc::default(),
            payments: watch::Sender::new(0),
        }
    }

    /// Has a payment go before what creates have not begun to write.
    pub fn precede(&self) -> Precedence {
        self.payments.send_modify(|payments| *payments += 1);
        Precedence(self.payments.clone())
    }

    /// Lets payments that are being settled go first, for a little.
    pub async fn yield_to_payments(&self) {
        let mut payments = self.payments.subscribe();
        tokio::select! {
            _ = payments.wait_for(|payments| *payments == 0) => {}
            () = tokio::time::sleep(YIELDING) => {}
        }
    }

    fn ticket(&self) -> Option<Ticket> {
        let Ok(ticket) = Arc::clone(&self.tickets).try_acquire_owned() else {
            self.count(|refused| (refused + 1).min(MOST_REFUSED));
            return None;
        };
        Some(Ticket { overload: self.clone(), _ticket: Arc::new(ticket) })
    }

    /// Who comes in a crowd takes two turns, who comes in a flood all of them.
    async fn turn(&self) -> Result<OwnedSemaphorePermit, AcquireError> {
        let weight = if self.refused.load(Ordering::Relaxed) > FLOODED {
            self.at_once
        } else if self.tickets.available_permits() < CROWDED {
            self.at_once.min(2)
        } else {
            1
        };
        let turn = Arc::clone(&self.turns).acquire_many_owned(weight).await?;
        // One that waited for all turns counts for half of them. So a flood ends where a crowd's pace would bear what
        // comes, also where one at a time is much slower than that: with a database far away, for one.
        let weight = usize::try_from(weight.div_ceil(2)).unwrap_or(1);
        self.count(|refused| refused.saturating_sub(weight));
        Ok(turn)
    }

    fn count(&self, change: impl Fn(usize) -> usize) {
        let _ =
            self.refused.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |refused| Some(change(refused)));
    }
}

impl Drop for Precedence {
    fn drop(&mut self) {
        self.0.send_modify(|payments| *payments -= 1);
    }
}

impl Ticket {
    /// Waits for the turn.
    ///
    /// # Errors
    /// 503 when it did not come in time.
    pub async fn turn(self) -> Result<Turn, ApiError> {
        let turn = tokio::select! {
            turn = self.overload.turn() => turn.map_err(ApiError::internal)?,
            () = tokio::time::sleep(PATIENCE) => return Err(refusal()),
        };
        self.overload.yield_to_payments().await;
        Ok(Turn { _ticket: self, _turn: turn })
    }
}

impl FromRequestParts<App> for Ticket {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, ApiError> {
        parts.extensions.remove().ok_or_else(|| ApiError::internal(anyhow::anyhow!("no ticket was given")))
    }
}

impl aide::OperationInput for Ticket {}

/// The layer: a create gets a ticket or 503.
pub async fn shed(State(app): State<App>, request: Request, next: Next) -> Response {
    if request.method() != Method::POST || request.uri().path() != "/checkout/sessions" {
        return next.run(request).await;
    }
    match admit(&app, request).await {
        Ok(request) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

/// The whole body first: who sends it slowly, or not at all, must not hold a ticket meanwhile.
async fn admit(app: &App, request: Request) -> Result<Request, ApiError> {
    let (parts, body) = request.into_parts();
    let body = read_body(Request::from_parts(parts.clone(), body), BODY_LIMIT_BYTES).await?;
    let mut request = Request::from_parts(parts, Body::from(body));
    request.extensions_mut().insert(app.overload.ticket().ok_or_else(refusal)?);
    Ok(request)
}

fn refusal() -> ApiError {
    metrics::counter!("checkoutd_requests_limited_total", "by" => "overload").increment(1);
    let message = "more checkout sessions are asked for than can be made at present: nothing was done";
    ApiError::unavailable(message, RETRY_AFTER_SECONDS).detail("reason", "overloaded").nothing_done()
}

#[cfg(test)]
mod tests {
    use futures::poll;

    use super::*;

    #[tokio::test]
    async fn payments_go_before_creates_that_have_not_begun() {
        let overload = Overload::new(1);
        let first = overload.precede();
        let second = overload.precede();
        let mut turn = std::pin::pin!(overload.ticket().expect("a ticket").turn());
        drop(first);
        assert!(poll!(&mut turn).is_pending(), "the second payment is being settled");
        drop(second);
        assert!(turn.await.is_ok());
    }

    #[tokio::test]
    async fn a_crowd_is_served_by_half_as_many_at_a_time() {
        let overload = Overload::new(4);
        let ticket = || overload.ticket().expect("a ticket");
        // Each of the four has a ticket, too.
        let not_quite: Vec<_> = (0..MOST_WAITING - CROWDED).map(|_| ticket()).collect();
        let turns =
            [ticket().turn().await, ticket().turn().await, ticket().turn().await, ticket().turn().await];
        assert!(turns.iter().all(Result::is_ok), "four while 64 places are free");
        drop(turns);
        let one_more: Vec<_> = (0..4).map(|_| ticket()).collect();
        let first = ticket().turn().await;
        let second = ticket().turn().await;
        let mut third = Box::pin(ticket().turn());
        assert!(first.is_ok() && second.is_ok());
        assert!(poll!(&mut third).is_pending(), "two of four in a crowd");
        drop((not_quite, one_more, third));
    }

    #[tokio::test]
    async fn a_flood_is_served_one_at_a_time_until_it_is_over() {
        let overload = Overload::new(4);
        let turn = || overload.ticket().expect("a ticket").turn();
        let all: Vec<_> = std::iter::from_fn(|| overload.ticket()).collect();
        assert_eq!(all.len(), MOST_WAITING + 4);
        for _ in 0..2 * MOST_REFUSED {
            assert!(overload.ticket().is_none());
        }
        drop(all);
        for number in 0..(MOST_REFUSED - FLOODED) / 2 {
            let first = turn().await;
            assert!(first.is_ok());
            assert!(poll!(Box::pin(turn())).is_pending(), "one at a time, {number} turns after the flood");
        }
        let four = [turn().await, turn().await, turn().await, turn().await];
        assert!(four.iter().all(Result::is_ok), "the flood is forgotten");
    }

    #[tokio::test]
    async fn payments_that_never_cease_do_not_stop_creates() {
        let overload = Overload::new(1);
        let _payment = overload.precede();
        assert!(overload.ticket().expect("a ticket").turn().await.is_ok());
    }
}
