//! Creating a session as a careful merchant does: with an idempotency key, again after every doubt.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{
    actors::{Actor, Known, expires_at},
    checker::is_terminal,
    client::TRY_AGAIN,
    dice::Dice,
};

/// Tries before a merchant gives up.
const TRIES: usize = 60;

/// Creates a session and waits for its link. `None`: it ended before it had one, or was refused.
pub async fn create(actor: &Actor, dice: &mut Dice) -> Option<Known> {
    let customer = customer(actor, dice).await?;
    let key = dice.percent(90).then(|| format!("order-{}-{}", actor.world.args.seed, actor.number));
    // Somebody clicks twice.
    let clicks = if key.is_some() && dice.percent(12) { 2 + dice.index(3) } else { 1 };
    let mut known: Vec<Known> = Vec::new();
    let each = (0..clicks).map(|_| dice.next()).collect::<Vec<_>>();
    let tries = each.into_iter().map(|seed| {
        let (customer, key) = (customer.clone(), key.clone());
        async move { until_answered(actor, &customer, key.as_deref(), &mut Dice::new(seed, "click", 0)).await }
    });
    for answered in futures::future::join_all(tries).await.into_iter().flatten() {
        if known.iter().all(|earlier| earlier.id != answered.id) {
            known.push(answered);
        }
    }
    check_overlap(actor, &known, key.as_deref().unwrap_or_default()).await;
    let session = known.pop()?;
    with_link(actor, session).await
}

/// The merchant's regular customer, or one who registers first.
async fn customer(actor: &Actor, dice: &mut Dice) -> Option<String> {
    if dice.percent(75) {
        return Some("regular".to_owned());
    }
    let name = format!("customer-{}", actor.number);
    let body = json!({"external_id": name, "name": "New Customer", "email": "new@example.com"});
    for _ in 0..TRIES {
        let limit = Duration::from_secs(8);
        let client = &actor.world.client;
        let reply = client
            .send(&actor.merchant, Method::POST, "/v1/customers", Some(&body), &[201, 409], limit)
            .await;
        match reply.map(|reply| reply.status) {
            // From here on it must be there: a session for nobody is answered 404, which is a problem.
            Some(201 | 409) => return Some(name),
            Some(status) if !TRY_AGAIN.contains(&status) => return None,
            _ => sleep(dice.between_ms(100, 800)).await,
        }
    }
    actor.world.tally.problem(format!("{name} could not be created in {TRIES} tries"));
    None
}

async fn until_answered(actor: &Actor, customer: &str, key: Option<&str>, dice: &mut Dice) -> Option<Known> {
    let params = json!({"plan_id": actor.merchant.plan, "currency": actor.merchant.currency, "billing_period": "monthly"});
    let mut body = json!({
        "customer_external_id": customer, "action": "create_subscription", "payment_provider": "razorpay",
        "configuration": {"create_subscription_params": params}, "metadata": {"number": actor.number.to_string()},
        "success_url": "https://shop.example/welcome?s={CHECKOUT_SESSION_ID}", "cancel_url": "https://shop.example/",
    });
    if let Some(key) = key {
        body["idempotency_key"] = json!(key);
    }
    let client = &actor.world.client;
    for _ in 0..TRIES {
        // Some are impatient, and come again while the first try is still under way.
        let limit = dice.between_ms(3_000, 20_000);
        let sent = client.now_ns();
        let path = "/v1/checkout/sessions";
        let reply =
            client.send(&actor.merchant, Method::POST, path, Some(&body), &[201, 409, 502], limit).await;
        if let Some(reply) = reply {
            let session = match reply.status {
                201 => reply.json.clone(),
                409 => reply.json["details"]["checkout_session"].clone(),
                _ => Value::Null,
            };
            let id = session["id"].as_str().or(reply.json["details"]["checkout_session_id"].as_str());
            if let Some(id) = id {
                client.name(&actor.merchant, id, reply.status);
            }
            client.observe(&session, sent);
            match reply.status {
                201 | 409 => return Some(Known { id: id?.to_owned(), expires_at: expires_at(&session) }),
                status if !TRY_AGAIN.contains(&status) => return None,
                // Without a key, another try would be another session.
                _ if key.is_none() => {
                    return id.map(|id| Known { id: id.to_owned(), expires_at: expires_at(&session) });
                }
                _ => {}
            }
        } else if key.is_none() {
            return None;
        }
        sleep(dice.between_ms(200, 1_200)).await;
    }
    actor.world.tally.problem(format!("session {} could not be created in {TRIES} tries", actor.number));
    None
}

/// Different sessions under one key: at most one of them may be open.
async fn check_overlap(actor: &Actor, known: &[Known], key: &str) {
    if known.len() < 2 {
        return;
    }
    let mut open = Vec::new();
    for session in known {
        // A session that is open now was open before: it was made before any of these reads.
        let seen = actor.world.client.read_session(&actor.merchant, &session.id, "").await;
        let status = seen.and_then(|seen| seen["checkout_status"].as_str().map(str::to_owned));
        if status.is_some_and(|status| !is_terminal(&status)) {
            open.push(session.id.clone());
        }
    }
    if open.len() > 1 {
        actor.world.client.overlap(format!("{key}: {}", open.join(", ")));
    }
}

/// Customers can pay only once there is a link.
async fn with_link(actor: &Actor, session: Known) -> Option<Known> {
    for _ in 0..60 {
        let seen = actor.world.client.read_session(&actor.merchant, &session.id, "").await;
        match seen.as_ref().and_then(|seen| seen["checkout_status"].as_str()) {
            Some("initiated") | None => sleep(Duration::from_millis(500)).await,
            Some("pending") => {
                let expires_at = seen.as_ref().map_or(session.expires_at, expires_at);
                return Some(Known { expires_at, ..session });
            }
            Some(_) => return None,
        }
    }
    None
}
