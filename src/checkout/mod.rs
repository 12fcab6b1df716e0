//! Checkout sessions: the core.
//!
//! `session.rs` decides, `settle.rs` carries out, everything else brings facts: `create.rs` and `cancel.rs` from the
//! merchant, `reconcile.rs`, `expire.rs` and `aftercare.rs` from the provider, when `schedule.rs` says so,
//! `return_page.rs` from the browser; the inbox brings the provider's webhooks.

mod aftercare;
pub mod api;
mod cancel;
mod confirm;
mod create;
mod expire;
mod link;
mod model;
mod offer_store;
mod process_api;
mod quote;
mod reconcile;
pub mod return_page;
mod schedule;
mod session;
mod settle;
mod store;
mod urls;
mod whole_api;

pub use confirm::{confirm_link_end, confirm_payment};
pub use expire::CheckSessions;
pub use link::SESSION_NOTE;
pub use reconcile::ReconcileError;
pub use session::{Cause, Decision, SessionId, Status};
pub use settle::{News, SettleError, Settled, SignedPayment, Source, announce, complete_at_once, settle_in};
pub use store::Evidence;

use crate::{
    db::{self, Tx},
    tenancy::{ConnectionId, Scope},
};

/// A session that a provider event names.
#[derive(Clone, Copy, Debug)]
pub struct Named {
    /// The session.
    pub id: SessionId,
    /// Whether its account is one of those that signed and its link, as far as both are known, the one named.
    pub matches: bool,
    /// Whether it is `initiated` or `pending`.
    pub is_open: bool,
}

/// The session that a provider event is about, by its link or else the link's `reference_id`; and whether its
/// account and link are the ones that the event names.
pub async fn find_named_in(
    tx: &mut Tx,
    scope: Scope,
    connections: &[ConnectionId],
    link_id: Option<&str>,
    reference: Option<SessionId>,
) -> Result<Option<Named>, db::Error> {
    let found = store::find_by_link(tx, scope, link_id, reference).await?;
    Ok(found.map(|session| Named {
        id: session.id,
        matches: session.is_of(connections, link_id),
        is_open: !session.state.status.is_terminal(),
    }))
}
