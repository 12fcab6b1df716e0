//! Looks at the lists of open sessions again and again: in none of them may a key stand twice. And plays the
//! bank, which ends refunds that take their time.

use std::{collections::HashMap, sync::Arc, time::Duration};

use checkoutd::sandbox::RefundStatus;
use tokio::time::sleep;

use crate::{checker::is_terminal, world::World};

/// One page is read in one statement, so what it shows was so at one moment.
pub async fn watch_keys(world: Arc<World>) {
    loop {
        for merchant in &world.merchants {
            let sent = world.client.now_ns();
            let Some(page) = world.client.get(merchant, "/v1/checkout/sessions?limit=200").await else {
                continue;
            };
            let mut open: HashMap<&str, &str> = HashMap::new();
            for (place, session) in page.json["items"].as_array().into_iter().flatten().enumerate() {
                let text = |field: &str| session[field].as_str().unwrap_or_default();
                if place % 50 == 7 {
                    world.client.observe(session, sent);
                }
                if session["idempotency_key"].is_null() || is_terminal(text("checkout_status")) {
                    continue;
                }
                if let Some(other) = open.insert(text("idempotency_key"), text("id")) {
                    world.client.overlap(format!("{}: {other}, {}", text("idempotency_key"), text("id")));
                }
            }
            sleep(Duration::from_millis(400)).await;
        }
    }
}

/// Ends most of the pending refunds, now and then.
pub async fn settle_refunds_slowly(world: Arc<World>) {
    loop {
        sleep(Duration::from_secs(15)).await;
        settle_refunds(&world);
    }
}

/// Ends every refund that is pending now.
pub fn settle_refunds(world: &World) {
    for refund in world.sandbox.ledger().refunds {
        if refund.status == RefundStatus::Pending {
            // It may have been settled meanwhile.
            let _ = world.sandbox.settle_refund(&refund.id, RefundStatus::Processed);
        }
    }
}
