//! Outgoing webhooks: events, the endpoints that want them, and their delivery.
//!
//! An event is frozen as bytes and inserted with its deliveries in the transaction that made it true
//! ([`emit_in`]); [`Deliver`] signs and sends it until the endpoint takes it or the schedule ends.

pub mod api;
mod deliver;
mod delivery;
mod egress;
mod endpoint;
mod event;
mod outbox;
mod schedule;
mod sign;
mod store;
mod target;

pub use deliver::{Deliver, Lease};
pub use delivery::{Delivery, DeliveryId};
pub use egress::{Answer, Egress, Lookup, SendError};
pub use endpoint::{EndpointId, sealed_shut};
pub use event::{EventId, EventType, FrozenEvent, UnknownEventType, freeze};
pub use outbox::{MAX_ENDPOINTS, delivery_ids, emit_in};
pub use target::{Rejection, Rules};
