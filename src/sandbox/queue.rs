//! The queue of webhooks: frozen when the event happens, claimed when due, retried by the ladder.

use std::collections::HashSet;

use super::books::Books;
use super::ledger::{Attempt, Delivery, DeliveryStatus};
use super::webhooks::{Outgoing, sign};

impl Books {
    /// Freezes an event's bytes, signature and id for the business's webhook, if it has one that wants it.
    pub fn emit(&mut self, account_id: &str, event: &str, body: String) {
        let Some(account) = self.account_of(account_id) else { return };
        let Some(url) = account.webhook_url.clone() else { return };
        if !account.events.iter().any(|name| name == event) {
            return;
        }
        let signature = account.webhook_secret.as_ref().map(|secret| sign(secret, body.as_bytes()));
        let now_ms = self.now().timestamp_millis();
        let webhooks = &self.faults.webhooks;
        let copies = if webhooks.duplicate { 2 } else { 1 };
        let delivery = Delivery {
            account_id: account_id.to_owned(),
            event: event.to_owned(),
            url,
            body,
            signature,
            created_at_ms: now_ms,
            due_at_ms: now_ms.saturating_add(webhooks.delay_ms),
            status: if webhooks.enabled { DeliveryStatus::Pending } else { DeliveryStatus::Suppressed },
            attempts: Vec::new(),
            event_id: self.ids.alphanumeric(14),
        };
        for _ in 0..copies {
            if delivery.status == DeliveryStatus::Pending {
                self.pending.insert((delivery.due_at_ms, self.ledger.deliveries.len()));
            }
            self.ledger.deliveries.push(delivery.clone());
        }
        self.webhooks_due.notify_one();
    }

    /// Takes the next delivery that is due and not in `tried`.
    pub fn claim_delivery(&mut self, tried: &HashSet<usize>) -> Option<(usize, Outgoing)> {
        self.expire_due();
        let due = self.pending.range(..=(self.now().timestamp_millis(), usize::MAX));
        let mut due = due.filter(|(_, index)| !tried.contains(index));
        let entry = *if self.faults.webhooks.reorder { due.next_back() } else { due.next() }?;
        self.pending.remove(&entry);
        let delivery = &mut self.ledger.deliveries[entry.1];
        delivery.status = DeliveryStatus::InFlight;
        let outgoing = Outgoing {
            url: delivery.url.clone(),
            event_id: delivery.event_id.clone(),
            signature: delivery.signature.clone(),
            body: delivery.body.clone(),
        };
        Some((entry.1, outgoing))
    }

    /// Records an attempt: done on a 2xx, else due again by the ladder, until that is used up.
    pub fn finish_delivery(&mut self, index: usize, answer: Result<u16, String>) {
        let now_ms = self.now().timestamp_millis();
        let delivery = &mut self.ledger.deliveries[index];
        let delivered = matches!(answer, Ok(200..300));
        let retry_in_ms = self.retry_ladder_ms.get(delivery.attempts.len()).copied();
        delivery.attempts.push(attempt(now_ms, answer));
        delivery.status = match retry_in_ms {
            _ if delivered => DeliveryStatus::Delivered,
            None => DeliveryStatus::Exhausted,
            Some(wait_ms) => {
                delivery.due_at_ms = now_ms.saturating_add(wait_ms);
                self.pending.insert((delivery.due_at_ms, index));
                DeliveryStatus::Pending
            }
        };
    }
}

pub(super) fn attempt(at_ms: i64, answer: Result<u16, String>) -> Attempt {
    match answer {
        Ok(status) => Attempt { at_ms, status: Some(status), error: None },
        Err(error) => Attempt { at_ms, status: None, error: Some(error) },
    }
}
