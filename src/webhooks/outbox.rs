//! The outbox: an event and its deliveries are rows of the transaction that made it true.

use uuid::Uuid;

use super::{DeliveryId, EndpointId, FrozenEvent, event_store as store};
use crate::{
    db::{self, Tx},
    kit::ids::Ids,
    tenancy::Scope,
};

/// The most endpoints an environment may have, and so the most deliveries an event can need.
pub const MAX_ENDPOINTS: usize = 50;

/// Ids for the deliveries of one event, as many as there can be endpoints. Drawn before the transaction,
/// because it may be run again.
pub fn delivery_ids(ids: &Ids) -> Vec<Uuid> {
    std::iter::repeat_with(|| ids.uuid()).take(MAX_ENDPOINTS).collect()
}

/// Inserts `event` and one pending delivery for every enabled endpoint of `scope` that wants its type. One statement. After the commit, wake [`crate::worker::Work::Deliveries`].
///
/// `delivery_ids` comes from [`delivery_ids`].
pub async fn emit_in(
    tx: &mut Tx,
    scope: Scope,
    event: &FrozenEvent,
    delivery_ids: &[Uuid],
) -> Result<(), db::Error> {
    store::insert_event_with_deliveries(tx, scope, event, delivery_ids, None).await
}

/// Inserts `event` and one pending delivery for `endpoint`, whatever types it wants.
pub async fn emit_to_in(
    tx: &mut Tx,
    scope: Scope,
    event: &FrozenEvent,
    endpoint: EndpointId,
    delivery: DeliveryId,
) -> Result<(), db::Error> {
    store::insert_event_with_deliveries(tx, scope, event, &[delivery.into()], Some(endpoint)).await
}
