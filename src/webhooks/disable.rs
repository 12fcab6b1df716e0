//! An endpoint that gets nothing any more, by its own fault: told to the merchant's other endpoints.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{
    EndpointId, EventId, EventType,
    delivery_store::{CANCELLED_AT_ONCE, cancel_pending_deliveries},
    emit_in,
    endpoint::{DisabledReason, next_event_in},
    endpoint_store as store,
    outbox::delivery_ids,
    queue_store,
};
use crate::{
    app::App,
    db::{self, Tx},
    tenancy::Scope,
};

/// Ids of the event and its deliveries, drawn before the transaction, because that may be run again.
#[derive(Clone, Debug)]
pub struct Ids {
    event: EventId,
    deliveries: Vec<Uuid>,
}

impl Ids {
    pub fn draw(app: &App) -> Self {
        Self { event: app.ids.next(), deliveries: delivery_ids(&app.ids) }
    }
}

/// Disables the endpoint, unless it points elsewhere than `url` by now or is disabled already; cancels what waits for
/// it and emits `webhook.endpoint.disabled`. The caller has locked the endpoint's row.
pub async fn disable_in(
    tx: &mut Tx,
    scope: Scope,
    id: EndpointId,
    url: &str,
    reason: DisabledReason,
    ids: &Ids,
    now: DateTime<Utc>,
) -> Result<(), db::Error> {
    if !store::mark_endpoint_disabled(tx, scope, id, url, reason, now).await? {
        return Ok(());
    }
    cancel_pending_deliveries(tx, scope, id, now).await?;
    let event_type = EventType::WebhookEndpointDisabled;
    // Deleted meanwhile: nobody asks any more.
    let Some((event, _)) = next_event_in(tx, scope, id, ids.event, event_type, now).await? else {
        return Ok(());
    };
    tracing::warn!(
        endpoint.id = %id,
        environment.id = %scope.environment,
        reason = reason.as_str(),
        "a webhook endpoint was disabled"
    );
    emit_in(tx, scope, &event, &ids.deliveries).await?;
    Ok(())
}

/// Goes on cancelling what waits for an endpoint that was disabled, when it was too much for one transaction. Should
/// this be cut short, the worker cancels each when it comes up.
pub async fn cancel_rest(app: &App, scope: Scope, id: EndpointId) -> Result<(), db::Error> {
    loop {
        let now = app.clock.now();
        let cancelled = db::transact(&app.pool, "cancel_deliveries", move |tx| {
            Box::pin(async move {
                if queue_store::lock_endpoint(tx, scope, id).await? {
                    return Ok::<_, db::Error>(0);
                }
                cancel_pending_deliveries(tx, scope, id, now).await
            })
        })
        .await?;
        if cancelled < CANCELLED_AT_ONCE {
            return Ok(());
        }
    }
}
