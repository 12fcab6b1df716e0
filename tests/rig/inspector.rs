//! Looks at the lists of open sessions again and again: in none of them may a key stand twice. And plays the
//! bank, which ends refunds that take their time.

use std::{collections::HashMap, sync::Arc, time::Duration};

use checkoutd::sandbox::RefundStatus;
use reqwest::Method;
use tokio::time::sleep;

use crate::{args::Fault, checker::is_terminal, dice::Dice, world::World};

/// One page is read in one statement, so what it shows was so at one moment.
pub async fn watch_keys(world: Arc<World>) {
    loop {
        for merchant in &world.merchants {
            let sent = world.client.now_ns();
            let Some(page) = world.client.get(merchant, "/v1/checkout/sessions?limit=120").await else {
                continue;
            };
            let mut open: HashMap<&str, &str> = HashMap::new();
            for (place, session) in page.json["items"].as_array().into_iter().flatten().enumerate() {
                let text = |field: &str| session[field].as_str().unwrap_or_default();
                if place % 40 == 7 {
                    world.client.observe(session, sent);
                }
                if session["idempotency_key"].is_null() || is_terminal(text("checkout_status")) {
                    continue;
                }
                if let Some(other) = open.insert(text("idempotency_key"), text("id")) {
                    world.client.overlap(format!("{}: {other}, {}", text("idempotency_key"), text("id")));
                }
            }
            sleep(Duration::from_millis(700)).await;
        }
    }
}

/// The bank ends pending refunds now and then, some of them badly; the operator tries those again.
pub async fn settle_refunds_slowly(world: Arc<World>) {
    let mut dice = Dice::new(world.args.seed, "bank", 0);
    let fails = world.args.has(Fault::Sandbox);
    loop {
        sleep(Duration::from_secs(12)).await;
        end_refunds(&world, |_| {
            if fails && dice.percent(25) { RefundStatus::Failed } else { RefundStatus::Processed }
        });
        retry_refunds(&world).await;
    }
}

/// Ends every refund that is pending now, well, and tries again those that have failed.
pub async fn settle_refunds(world: &World) {
    end_refunds(world, |_| RefundStatus::Processed);
    retry_refunds(world).await;
}

fn end_refunds(world: &World, mut how: impl FnMut(&str) -> RefundStatus) {
    for refund in world.sandbox.ledger().refunds {
        if refund.status == RefundStatus::Pending {
            // It may have been settled meanwhile.
            let _ = world.sandbox.settle_refund(&refund.id, how(&refund.id));
        }
    }
}

/// What an operator does when the alert `refund_failed` comes.
async fn retry_refunds(world: &World) {
    for merchant in &world.merchants {
        let Some(page) = world.client.get(merchant, "/v1/refunds?status=FAILED&limit=100").await else {
            continue;
        };
        for refund in page.json["items"].as_array().into_iter().flatten() {
            let path = format!("/v1/refunds/{}/retry", refund["id"].as_str().unwrap_or_default());
            let limit = Duration::from_secs(10);
            world.client.send(merchant, Method::POST, &path, None, &[200, 400], limit).await;
            world.tally.count("refunds tried again");
        }
    }
}
