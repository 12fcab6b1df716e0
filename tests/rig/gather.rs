//! Gathers the evidence at the end: Razorpay's books, the receivers' logs, and the public API.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use anyhow::Context;
use checkoutd::sandbox::{Ledger, RefundStatus};
use futures::{StreamExt, stream};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use crate::{
    checker::{Event, Evidence, Found, Link, Payment, Refund, RefundState, Session, is_terminal},
    client::{Merchant, Reply},
    receivers::digest,
    world::World,
};

const PAGE: usize = 500;
const PARALLEL: usize = 24;
const READ_LIMIT: Duration = Duration::from_secs(30);

/// Sessions that had ended and were read in full need not be read again.
#[derive(Default)]
pub struct Gatherer {
    ended: BTreeMap<String, Session>,
}

impl Gatherer {
    /// Everything that is known now. Books and logs come first: what they show, the API must know already.
    pub async fn gather(&mut self, world: &World) -> anyhow::Result<Evidence> {
        let mut evidence = books(&world.sandbox.ledger());
        evidence.receipts = world.receivers.receipts();
        evidence.endpoints.clone_from(&world.endpoints);
        evidence.named = world.client.named();
        evidence.overlaps = world.client.overlaps();
        let sessions = self.wanted(world, &evidence).await?;
        evidence.sessions = self.read_all(world, sessions).await?;
        evidence.observations = world.client.observations();
        for merchant in &world.merchants {
            evidence.events.extend(events(world, merchant).await?);
        }
        // Refunds once more: what the events tell, these books must know already.
        evidence.refunds = books(&world.sandbox.ledger()).refunds;
        Ok(evidence)
    }

    /// Every session that the API lists, named, or that Razorpay knows a link of, with its merchant.
    async fn wanted(&self, world: &World, evidence: &Evidence) -> anyhow::Result<BTreeSet<(usize, String)>> {
        let mut wanted = BTreeSet::new();
        for named in &evidence.named {
            wanted.insert((named.merchant, named.session.clone()));
        }
        for merchant in &world.merchants {
            let offset = |all: &[_]| Ok(format!("&offset={}", all.len()));
            let items = list::<Value>(world, merchant, "/v1/checkout/sessions", offset).await?;
            let ids = items.iter().filter_map(|session| session["id"].as_str());
            wanted.extend(ids.map(|id| (merchant.number, id.to_owned())));
        }
        let known: BTreeSet<&str> = wanted.iter().map(|(_, id)| id.as_str()).collect();
        // Hidden from lists (deleted) or never heard of: some merchant must know it.
        let others = evidence.links.iter().filter(|link| !known.contains(link.reference.as_str()));
        let mut found = BTreeSet::new();
        for link in others {
            for merchant in &world.merchants {
                let path = format!("/v1/checkout/sessions/{}", link.reference);
                let reply = world.client.get_for_sure(merchant, &path, &[200, 404], READ_LIMIT).await;
                if reply.is_some_and(|reply| reply.status == 200) {
                    found.insert((merchant.number, link.reference.clone()));
                }
            }
        }
        wanted.extend(found);
        Ok(wanted)
    }

    async fn read_all(
        &mut self,
        world: &World,
        wanted: BTreeSet<(usize, String)>,
    ) -> anyhow::Result<Vec<Session>> {
        let (known, unknown): (Vec<_>, Vec<_>) =
            wanted.into_iter().partition(|(_, id)| self.ended.contains_key(id));
        let reads = unknown.into_iter().map(|(merchant, id)| read(world, &world.merchants[merchant], id));
        let read: Vec<_> = stream::iter(reads).buffer_unordered(PARALLEL).collect().await;
        let mut sessions: Vec<Session> = read.into_iter().collect::<anyhow::Result<_>>()?;
        sessions.extend(known.iter().map(|(_, id)| self.ended[id].clone()));
        for session in &sessions {
            if session.found.as_ref().is_some_and(|found| is_terminal(&found.status)) {
                self.ended.insert(session.id.clone(), session.clone());
            }
        }
        Ok(sessions)
    }
}

/// The session first: what it drafted is at least as new.
async fn read(world: &World, merchant: &Merchant, id: String) -> anyhow::Result<Session> {
    let path = format!("/v1/checkout/sessions/{id}");
    let sent = world.client.now_ns();
    let reply = object(world, merchant, &path, &[200, 404]).await?;
    if reply.status == 404 {
        return Ok(Session { id, merchant: merchant.number, found: None });
    }
    let session = reply.json;
    world.client.observe(&session, sent);
    let part = async |kind: &str, field: &str| {
        let id = session[field].as_str().unwrap_or_default();
        Ok::<_, anyhow::Error>(object(world, merchant, &format!("/v1/{kind}/{id}"), &[200]).await?.json)
    };
    let subscription = part("subscriptions", "checkout_subscription_id").await?;
    let invoice = part("invoices", "checkout_invoice_id").await?;
    let payment = part("payments", "checkout_payment_id").await?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let currency = text(&session["currency"]).to_uppercase();
    let minor = |value: &Value| minor(value.as_str().unwrap_or_default(), &currency);
    let found = Found {
        status: text(&session["checkout_status"]),
        amount: minor(&session["amount"]),
        subscription_status: text(&subscription["subscription_status"]),
        invoice_status: text(&invoice["invoice_status"]),
        invoice_payment_status: text(&invoice["payment_status"]),
        invoice_paid: minor(&invoice["amount_paid"]),
        payment_status: text(&payment["payment_status"]),
        applied: payment["gateway_payment_id"].as_str().map(str::to_owned),
        currency,
    };
    Ok(Session { id, merchant: merchant.number, found: Some(found) })
}

async fn object(world: &World, merchant: &Merchant, path: &str, allowed: &[u16]) -> anyhow::Result<Reply> {
    let reply = world.client.get_for_sure(merchant, path, allowed, READ_LIMIT).await;
    reply.with_context(|| format!("{path}: no answer in {READ_LIMIT:?}"))
}

/// `499.00` in minor units; -1 for what is no amount.
pub fn minor(text: &str, currency: &str) -> i64 {
    let places = if currency == "JPY" { 0 } else { 2 };
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let part = part.trim_end_matches('0');
    if part.len() > places {
        return -1;
    }
    format!("{whole}{part:0<places$}").parse().unwrap_or(-1)
}

#[derive(Deserialize)]
struct Page<T> {
    items: Vec<T>,
}

/// All pages of a list, each where `place` says, by what there is of it. New objects come in front, so a page may repeat
/// some: none is left out.
async fn list<T: for<'de> Deserialize<'de>>(
    world: &World,
    merchant: &Merchant,
    path: &str,
    place: fn(&[T]) -> anyhow::Result<String>,
) -> anyhow::Result<Vec<T>> {
    let mut all = Vec::new();
    loop {
        let path = format!("{path}?limit={PAGE}{}", place(&all)?);
        let mut text = None;
        for _ in 0..60 {
            text = world.client.raw(merchant, &path).await;
            if text.is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        let text = text.with_context(|| format!("{path}: no answer"))?;
        let page: Page<T> = serde_json::from_str(&text).with_context(|| path.clone())?;
        let count = page.items.len();
        all.extend(page.items);
        if count < PAGE {
            return Ok(all);
        }
    }
}

/// As logs are read, which have no offsets.
fn before_the_last(all: &[Box<RawValue>]) -> anyhow::Result<String> {
    let Some(last) = all.last() else { return Ok(String::new()) };
    let event: Value = serde_json::from_str(last.get())?;
    Ok(format!("&before={}", event["id"].as_str().context("an event without an id")?))
}

/// Events with the very bytes that were frozen.
async fn events(world: &World, merchant: &Merchant) -> anyhow::Result<Vec<Event>> {
    let bodies = list::<Box<RawValue>>(world, merchant, "/v1/events", before_the_last).await?;
    let mut events: HashMap<String, Event> = HashMap::new();
    for body in bodies {
        let event: Value = serde_json::from_str(body.get())?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let id = text(&event["id"]).context("an event without an id")?;
        let kind = text(&event["event_type"]).context("an event without a type")?;
        let data = &event["data"];
        let event = Event {
            merchant: merchant.number,
            subject: text(&data["id"]).context("an event about nothing")?,
            sequence: event["sequence"].as_i64().unwrap_or(-1),
            status: text(&data["checkout_status"]),
            payment: text(&data["gateway_payment_id"]),
            body: digest(body.get().as_bytes()),
            id: id.clone(),
            kind,
        };
        events.insert(id, event);
    }
    Ok(events.into_values().collect())
}

/// Razorpay's side.
fn books(ledger: &Ledger) -> Evidence {
    let links = ledger.links.iter().map(|link| Link {
        id: link.id.clone(),
        reference: link.terms.reference_id.clone(),
        payable: link.is_open(),
    });
    let captured = ledger.payments.iter().filter(|payment| payment.was_captured());
    let payments = captured.map(|payment| Payment {
        id: payment.id.clone(),
        link: payment.link_id.clone(),
        amount: payment.amount,
        currency: payment.currency.clone(),
    });
    let refunds = ledger.refunds.iter().map(|refund| Refund {
        payment: refund.payment_id.clone(),
        amount: refund.amount,
        state: match refund.status {
            RefundStatus::Pending => RefundState::Pending,
            RefundStatus::Processed => RefundState::Processed,
            RefundStatus::Failed => RefundState::Failed,
        },
    });
    Evidence {
        links: links.collect(),
        payments: payments.collect(),
        refunds: refunds.collect(),
        ..Evidence::default()
    }
}
