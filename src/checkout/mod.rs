//! Checkout sessions: the core.
//!
//! `session.rs` decides, `settle.rs` carries out, everything else brings facts: `create.rs` and `cancel.rs` from the
//! merchant, `reconcile.rs` and `expire.rs` from the provider and the clock, `return_page.rs` from the browser;
//! the inbox brings the provider's webhooks.

pub mod api;
mod cancel;
mod create;
mod expire;
mod link;
mod model;
mod quote;
mod reconcile;
pub mod return_page;
mod session;
mod settle;
mod store;
mod urls;

pub use expire::CheckSessions;
pub use link::SESSION_NOTE;
pub use reconcile::provider_payment;
pub use session::{Cause, Decision, SessionId, Status};
pub use settle::{News, SettleError, Settled, Source, announce, settle_in};

use crate::{
    db::{self, Tx},
    tenancy::{ConnectionId, Scope},
};

/// The session that a provider event is about: by its link, else by the link's `reference_id`.
pub async fn find_id_by_link_in(
    tx: &mut Tx,
    scope: Scope,
    link_id: Option<&str>,
    reference: Option<SessionId>,
) -> Result<Option<SessionId>, db::Error> {
    store::find_id_by_link(tx, scope, link_id, reference).await
}

/// Whether a session's link may be the one an event names, at the account that signed it.
pub async fn belongs_in(
    tx: &mut Tx,
    scope: Scope,
    session: SessionId,
    connection: ConnectionId,
    link_id: Option<&str>,
) -> Result<bool, db::Error> {
    store::belongs(tx, scope, session, connection, link_id).await
}
