//! Outgoing webhooks: events, the endpoints that want them, and their delivery.
//!
//! An event is frozen as bytes and inserted with its deliveries in the transaction that made it true
//! ([`emit_in`]); [`Deliver`] signs and sends it until the endpoint takes it or the schedule ends. What was sent, and
//! what came of it, is read and sent again by `event_api.rs` and `delivery_api.rs`.

pub mod api;
mod catch_up;
mod deliver;
mod delivery;
mod delivery_api;
mod delivery_store;
mod disable;
mod egress;
mod endpoint;
mod endpoint_api;
mod endpoint_store;
mod endpoint_view;
mod event;
mod event_api;
mod event_store;
mod headers;
mod outbox;
mod prune;
mod prune_store;
mod queue_store;
mod record;
mod replay;
mod replay_store;
mod resend;
mod schedule;
mod sign;
mod target;

pub use catch_up::CatchUp;
pub use deliver::{Deliver, Lease};
pub use delivery::{Attempt, AttemptId, Delivery, DeliveryId, DeliveryStatus};
pub use egress::{Answer, Egress, Lookup, SendError};
pub use endpoint::{EndpointId, sealed_shut};
pub use event::{EventId, EventType, FrozenEvent, UnknownEventType, freeze};
pub(crate) use event_store::query_with_event;
pub use outbox::{MAX_ENDPOINTS, delivery_ids, emit_in, emit_to_in};
pub use prune::Prune;
pub use record::Recorder;
pub use replay::{Replay, ReplayId, SendReplays};
pub use sign::{MalformedSecret, generate_secret, parse_secret, signed_headers};
pub use target::{Rejection, Rules};
