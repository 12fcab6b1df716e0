//! Events that are made up, as the transactions of the domain emit them.

use std::time::{Duration, Instant};

use checkoutd::{
    db::{self, Tx},
    tenancy::Scope,
    webhooks::{self, EventType, FrozenEvent},
};
use serde_json::json;
use sqlx::types::Uuid;

use super::{Merchant, TestApp};

/// No scenario holds a transaction open for as long.
const PATIENCE: Duration = Duration::from_secs(30);

pub fn scope(merchant: &Merchant) -> Scope {
    Scope {
        tenant: merchant.tenant_id.parse().unwrap(),
        environment: merchant.environment_id.parse().unwrap(),
    }
}

/// An event about something new.
pub fn event(app: &TestApp, event_type: EventType) -> FrozenEvent {
    event_about(app, event_type, app.state().ids.uuid(), 1)
}

pub fn event_about(app: &TestApp, event_type: EventType, subject: Uuid, sequence: i32) -> FrozenEvent {
    let state = app.state();
    let object = json!({"id": "chk_1", "customer_id": "cust_1", "amount": "499.00"});
    let (id, now) = (state.ids.next(), state.clock.now());
    webhooks::freeze(id, event_type, subject, sequence, now, "checkout_session", &object).unwrap()
}

pub async fn emit_in(app: &TestApp, tx: &mut Tx, merchant: &Merchant, event: &FrozenEvent) {
    let ids = webhooks::delivery_ids(&app.state().ids);
    webhooks::emit_in(tx, scope(merchant), event, &ids).await.unwrap();
}

pub async fn emit_event(app: &TestApp, merchant: &Merchant, event: FrozenEvent) -> FrozenEvent {
    let (state, scope) = (app.state(), scope(merchant));
    let ids = webhooks::delivery_ids(&state.ids);
    let row = event.clone();
    db::transact(&state.pool, "emit", move |tx| {
        let (row, ids) = (row.clone(), ids.clone());
        Box::pin(async move { webhooks::emit_in(tx, scope, &row, &ids).await })
    })
    .await
    .unwrap();
    event
}

pub async fn emit(app: &TestApp, merchant: &Merchant, event_type: EventType) -> FrozenEvent {
    emit_event(app, merchant, event(app, event_type)).await
}

pub async fn emit_completed(app: &TestApp, merchant: &Merchant) -> FrozenEvent {
    emit(app, merchant, EventType::CheckoutSessionCompleted).await
}

/// Waits until every event that is committed can be caught up with: none is shown while an older transaction of the
/// server is open, whosever that is, and the scenarios share one server.
pub async fn until_caught_up_with(app: &TestApp) {
    let deadline = Instant::now() + PATIENCE;
    let is_shown = "select coalesce(max(xact_id), 0) < pg_snapshot_xmin(pg_current_snapshot())::text::bigint from events";
    while !sqlx::query_scalar::<_, bool>(is_shown).fetch_one(&app.state().pool).await.unwrap() {
        assert!(Instant::now() < deadline, "another scenario holds a transaction open");
    }
}
