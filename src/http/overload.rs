//! Creates that come faster than the database takes them are refused at the door, before anything is written: what is
//! under way, and the payments of other sessions, must not wait for them.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{FromRequestParts, Request, State},
    http::{Method, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::ApiError;
use crate::app::App;

/// Creates that wait for their turn, beside those that have it.
const MOST_WAITING: usize = 128;
/// Nobody waits longer: the database does not answer then.
const PATIENCE: Duration = Duration::from_secs(2);
const RETRY_AFTER_SECONDS: u32 = 1;

/// The creates of this process.
#[derive(Debug)]
pub struct Overload {
    tickets: Arc<Semaphore>,
    turns: Arc<Semaphore>,
}

/// A create that was let in; dropped, it lets another one in.
#[derive(Clone, Debug)]
pub struct Ticket {
    turns: Arc<Semaphore>,
    _ticket: Arc<OwnedSemaphorePermit>,
}

/// The right to draft; dropped, it passes on to the next.
pub struct Turn {
    _ticket: Ticket,
    _turn: OwnedSemaphorePermit,
}

impl Overload {
    /// Lets the database work on so many drafts at a time.
    pub fn new(at_once: u32) -> Self {
        let at_once = usize::try_from(at_once).unwrap_or(MOST_WAITING);
        let turns = Arc::new(Semaphore::new(at_once));
        Self { tickets: Arc::new(Semaphore::new(at_once + MOST_WAITING)), turns }
    }

    fn ticket(&self) -> Option<Ticket> {
        let ticket = Arc::clone(&self.tickets).try_acquire_owned().ok()?;
        Some(Ticket { turns: Arc::clone(&self.turns), _ticket: Arc::new(ticket) })
    }
}

impl Ticket {
    /// Waits for the turn.
    ///
    /// # Errors
    /// 503 when it did not come in time.
    pub async fn turn(self) -> Result<Turn, ApiError> {
        let turn = tokio::select! {
            turn = Arc::clone(&self.turns).acquire_owned() => turn.map_err(ApiError::internal)?,
            () = tokio::time::sleep(PATIENCE) => return Err(refusal()),
        };
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
pub async fn shed(State(app): State<App>, mut request: Request, next: Next) -> Response {
    if request.method() == Method::POST && request.uri().path() == "/checkout/sessions" {
        let Some(ticket) = app.overload.ticket() else { return refusal().into_response() };
        request.extensions_mut().insert(ticket);
    }
    next.run(request).await
}

fn refusal() -> ApiError {
    metrics::counter!("checkoutd_requests_limited_total", "by" => "overload").increment(1);
    let message = "more checkout sessions are asked for than can be made at present: nothing was done";
    ApiError::unavailable(message, RETRY_AFTER_SECONDS).detail("reason", "overloaded")
}
