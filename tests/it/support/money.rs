//! Money that must go back: how it comes about, and what is known of it on each side.

use checkoutd::sandbox::{PaidInfo, PayRequest, Refund};
use chrono::TimeDelta;
use serde_json::{Value, json};

use super::{KEY_SECRET, Merchant, Reply, TestApp, WEBHOOK_SECRET, send};

/// The account of the first merchant of a test.
const KEY_ID: &str = "rzp_test_00000000000000";

impl TestApp {
    /// A payment on the session's link, whatever the link's state; its webhooks have arrived, no worker has run.
    pub async fn pay_late(&self, session: &Value) -> PaidInfo {
        let late = PayRequest { late: true, ..PayRequest::default() };
        let paid = self.sandbox.pay(session["id"].as_str().unwrap(), late).unwrap();
        self.sandbox.flush_webhooks().await;
        paid
    }

    /// A session that ended unpaid and was paid afterwards: a refund that is due and not sent yet.
    pub async fn late_payment(&self, merchant: &Merchant) -> (Value, PaidInfo) {
        let session = merchant.session().await;
        self.advance(TimeDelta::minutes(15)).await;
        let paid = self.pay_late(&session).await;
        (session, paid)
    }

    /// Runs workers without Razorpay's webhooks, which stay queued.
    pub async fn advance_quietly(&self, by: TimeDelta) {
        self.clock().advance(by);
        self.drain().await;
    }

    /// Razorpay's refunds of one payment, oldest first.
    pub fn made(&self, paid: &PaidInfo) -> Vec<Refund> {
        let refunds = self.sandbox.ledger().refunds;
        refunds.into_iter().filter(|refund| refund.payment_id == paid.payment_id).collect()
    }

    /// The merchant gives money back in Razorpay's dashboard.
    pub async fn refund_by_hand(&self, paid: &PaidInfo, body: Value) -> Value {
        let url = format!("{}/v1/payments/{}/refund", self.sandbox.base_url(), paid.payment_id);
        let request = reqwest::Client::builder().no_proxy().build().unwrap().post(url);
        send(request.basic_auth(KEY_ID, Some(KEY_SECRET)).json(&body)).await.expect(200)
    }
}

impl Merchant {
    /// The session's only refund.
    pub async fn refund_of(&self, session: &Value) -> Value {
        let path = format!("/v1/refunds?checkout_session_id={}", session["id"].as_str().unwrap());
        let list = self.get(&path).await.expect(200);
        assert_eq!(list["pagination"]["total"], 1, "{list}");
        list["items"][0].clone()
    }

    /// Types of a refund's events, oldest first, after a look at their numbers.
    pub async fn refund_events(&self, refund: &Value) -> Vec<String> {
        let path = format!("/v1/events?refund_id={}", refund["id"].as_str().unwrap());
        let mut events = self.get(&path).await.expect(200)["items"].as_array().unwrap().clone();
        events.reverse();
        for (index, event) in events.iter().enumerate() {
            assert_eq!(event["sequence"], index + 1, "{event}");
            assert_eq!(event["data"]["id"], refund["id"]);
            assert_eq!(event["data"], event["refund"]);
        }
        events.iter().map(|event| event["event_type"].as_str().unwrap().to_owned()).collect()
    }

    pub async fn retry(&self, refund: &Value) -> Reply {
        self.post_empty(&format!("/v1/refunds/{}/retry", refund["id"].as_str().unwrap())).await
    }

    /// Razorpay's `refund.…`, about this refund there, in this state.
    pub async fn hear_of_refund(&self, event: &str, made: &Refund, status: &str) {
        let body = json!({"entity": "event", "event": event, "contains": ["refund", "payment"], "payload": {
            "refund": {"entity": {"id": made.id, "payment_id": made.payment_id, "amount": made.amount,
                "receipt": made.receipt, "status": status}},
        }, "created_at": 1_795_000_000});
        self.post_signed(body.to_string(), WEBHOOK_SECRET).await.expect(200);
    }
}
