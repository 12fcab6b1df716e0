//! Customers and merchants: what each of them does with one checkout session, decided by seed.

use std::{sync::Arc, time::Duration};

use checkoutd::sandbox::{PaidInfo, PayMethod, PayOutcome, PayRequest};
use chrono::{DateTime, Utc};
use reqwest::Method;
use serde_json::Value;
use tokio::time::sleep;

use crate::{
    checker::is_terminal,
    client::{Merchant, Reply, TRY_AGAIN},
    creating::create,
    dice::Dice,
    world::{SESSION_TTL, World},
};

/// What becomes of a session, as far as people decide it.
#[derive(Clone, Copy, Debug)]
enum Story {
    Pay,
    FailThenPay,
    Never,
    PayAtTheDeadline,
    PayLate,
    PayTwice,
    PayAnotherAmount,
    PayAnotherCurrency,
    Cancel,
    Delete,
    CancelWhilePaying,
    CloseAtRazorpay,
}

const STORIES: [(u64, Story); 12] = [
    (34, Story::Pay),
    (8, Story::FailThenPay),
    (12, Story::Never),
    (8, Story::PayAtTheDeadline),
    (7, Story::PayLate),
    (7, Story::PayTwice),
    (3, Story::PayAnotherAmount),
    (2, Story::PayAnotherCurrency),
    (5, Story::Cancel),
    (3, Story::Delete),
    (8, Story::CancelWhilePaying),
    (3, Story::CloseAtRazorpay),
];

/// How the merchant follows it.
#[derive(Clone, Copy, Debug)]
enum Following {
    Not,
    Polling,
    Waiting,
}

/// A session that somebody was told of.
#[derive(Clone, Debug)]
pub struct Known {
    pub id: String,
    pub expires_at: DateTime<Utc>,
}

/// One customer's business with one merchant.
pub struct Actor {
    pub world: Arc<World>,
    pub merchant: Merchant,
    pub number: usize,
}

/// Lives one session from its creation to the end of everybody's interest in it.
pub async fn live(world: Arc<World>, number: usize) {
    let mut dice = Dice::new(world.args.seed, "session", number);
    let merchant = world.merchants[dice.index(world.merchants.len())].clone();
    let story = dice.weighted(&STORIES);
    let following =
        dice.weighted(&[(35, Following::Not), (45, Following::Polling), (20, Following::Waiting)]);
    let actor = Actor { world, merchant, number };
    if let Some(session) = create(&actor, &mut dice).await {
        actor.world.tally.count(format!("story: {story:?}"));
        tokio::join!(actor.act(story, &session, &mut dice), actor.follow(following, &session));
    }
    actor.world.tally.sessions_done.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
}

impl Actor {
    async fn follow(&self, following: Following, session: &Known) {
        let (pause, query) = match following {
            Following::Not => return,
            Following::Polling => (Duration::from_millis(1200), ""),
            Following::Waiting => (Duration::from_millis(100), "?wait=10"),
        };
        let until = tokio::time::Instant::now() + SESSION_TTL + Duration::from_secs(6);
        while tokio::time::Instant::now() < until {
            let seen = self.world.client.read_session(&self.merchant, &session.id, query).await;
            if seen.is_some_and(|seen| is_terminal(seen["checkout_status"].as_str().unwrap_or_default())) {
                // Once more: what has ended must stay so.
                sleep(pause).await;
                self.world.client.read_session(&self.merchant, &session.id, "").await;
                return;
            }
            sleep(pause).await;
        }
    }

    async fn act(&self, story: Story, session: &Known, dice: &mut Dice) {
        let thinking = dice.between_ms(50, 5_000);
        let request = PayRequest {
            method: if dice.percent(50) { PayMethod::Card } else { PayMethod::Upi },
            ..PayRequest::default()
        };
        match story {
            Story::Never => {}
            Story::Pay => {
                sleep(thinking).await;
                let paid = self.pay(session, request);
                self.come_back(paid, dice).await;
            }
            Story::FailThenPay => {
                sleep(thinking).await;
                self.pay(session, PayRequest { outcome: PayOutcome::Failure, ..request.clone() });
                sleep(dice.between_ms(100, 2_000)).await;
                let paid = self.pay(session, request);
                self.come_back(paid, dice).await;
            }
            Story::PayAtTheDeadline => {
                let edge = session.expires_at - chrono::TimeDelta::milliseconds(900);
                sleep_until(edge + dice.between_ms(0, 1_500)).await;
                if self.pay(session, request.clone()).is_none() && dice.percent(50) {
                    self.pay_for_sure(session, PayRequest { late: true, ..request }).await;
                }
            }
            Story::PayLate => {
                sleep_until(session.expires_at + dice.between_ms(500, 4_000)).await;
                self.pay_for_sure(session, PayRequest { late: true, ..request }).await;
            }
            Story::PayTwice => self.pay_twice(session, request, thinking, dice).await,
            Story::PayAnotherAmount => {
                sleep(thinking).await;
                let difference = if dice.percent(50) { 1 } else { -1 };
                self.pay(session, PayRequest { amount: Some(self.merchant.price + difference), ..request });
            }
            Story::PayAnotherCurrency => {
                sleep(thinking).await;
                self.pay(session, PayRequest { currency: Some("EUR".into()), ..request });
            }
            Story::Cancel => {
                sleep(thinking).await;
                self.end(session, Method::POST, "/cancel").await;
            }
            Story::Delete => {
                sleep(thinking).await;
                self.end(session, Method::DELETE, "").await;
            }
            Story::CancelWhilePaying => self.cancel_while_paying(session, request, thinking, dice).await,
            Story::CloseAtRazorpay => {
                sleep(thinking).await;
                let _ = self.world.sandbox.cancel(&session.id);
            }
        }
    }

    /// Two tabs. Money that comes when the link is used up already is only ever told by a webhook.
    async fn pay_twice(&self, session: &Known, request: PayRequest, thinking: Duration, dice: &mut Dice) {
        sleep(thinking).await;
        let first = self.pay_for_sure(session, PayRequest { late: false, ..request.clone() }).await;
        sleep(dice.between_ms(0, 1_500)).await;
        self.pay_for_sure(session, PayRequest { late: true, ..request }).await;
        self.come_back(first, dice).await;
    }

    async fn cancel_while_paying(
        &self,
        session: &Known,
        request: PayRequest,
        thinking: Duration,
        dice: &mut Dice,
    ) {
        sleep(thinking).await;
        let (delay, late) = (dice.between_ms(0, 60), dice.percent(30));
        let delete = dice.percent(30);
        let paying = async {
            sleep(delay).await;
            if self.pay(session, request.clone()).is_none() && late {
                self.pay_for_sure(session, PayRequest { late: true, ..request }).await;
            }
        };
        let (method, path) = if delete { (Method::DELETE, "") } else { (Method::POST, "/cancel") };
        tokio::join!(paying, self.end(session, method, path));
    }

    /// Pays while the link takes it.
    fn pay(&self, session: &Known, request: PayRequest) -> Option<PaidInfo> {
        let paid = self.world.sandbox.pay(&session.id, request).ok();
        if paid.is_some() {
            self.world.tally.count("payments");
        }
        paid
    }

    /// Pays while Razorpay's webhooks are switched on: nothing else would tell of this payment.
    async fn pay_for_sure(&self, session: &Known, request: PayRequest) -> Option<PaidInfo> {
        loop {
            let on = self.world.webhooks_on.read().await;
            if *on || self.world.args.untold {
                return self.pay(session, request);
            }
            drop(on);
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// The browser returns, more often than not.
    async fn come_back(&self, paid: Option<PaidInfo>, dice: &mut Dice) {
        if let Some(url) = paid.and_then(|paid| paid.redirect_url)
            && dice.percent(50)
        {
            self.world.client.visit(&url).await;
        }
    }

    /// Cancels or deletes, until it is answered.
    async fn end(&self, session: &Known, method: Method, path: &str) {
        let path = format!("/v1/checkout/sessions/{}{path}", session.id);
        let limit = Duration::from_secs(20);
        for _ in 0..20 {
            let client = &self.world.client;
            let sent = client.now_ns();
            let reply =
                client.send(&self.merchant, method.clone(), &path, None, &[200, 204, 400], limit).await;
            match reply {
                Some(Reply { status, .. }) if TRY_AGAIN.contains(&status) => {}
                Some(Reply { status: 200, json }) => return client.observe(&json, sent),
                Some(Reply { status: 400, json }) => {
                    if json["details"]["reason"] == "session_completed" {
                        client.observe_status(&session.id, "completed", sent);
                    }
                    return;
                }
                Some(_) => return,
                None => {}
            }
            sleep(Duration::from_millis(300)).await;
        }
    }
}

async fn sleep_until(at: DateTime<Utc>) {
    sleep((at - Utc::now()).to_std().unwrap_or_default()).await;
}

/// When a session's time is up.
pub fn expires_at(session: &Value) -> DateTime<Utc> {
    let text = session["expires_at"].as_str().unwrap_or_default();
    text.parse().unwrap_or_else(|_| Utc::now() + SESSION_TTL)
}
