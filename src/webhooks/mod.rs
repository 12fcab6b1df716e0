//! Outgoing webhooks: events, the endpoints that want them, and their delivery.

pub mod api;
mod egress;
mod event;
mod outbox;
mod store;
mod target;

pub use egress::{Answer, Egress, Lookup, SendError};
pub use event::{EventId, EventType, FrozenEvent, UnknownEventType, freeze};
pub use outbox::{MAX_ENDPOINTS, delivery_ids, emit_in};
pub use target::{Rejection, Rules};

/// Delivers events.
pub struct Deliver;

impl crate::worker::Job for Deliver {
    type Lease = ();
    const WORK: crate::worker::Work = crate::worker::Work::Deliveries;
    const SLOTS: usize = 16;
    const POLL: std::time::Duration = std::time::Duration::from_secs(1);

    async fn claim(&self, _: &crate::app::App, _: usize) -> anyhow::Result<Vec<()>> {
        Ok(Vec::new())
    }

    async fn step(&self, _: &crate::app::App, (): ()) -> anyhow::Result<()> {
        Ok(())
    }
}
