//! What merchants and Razorpay send.

use std::sync::Arc;

use checkoutd::{checkout::SessionId, kit::secret::hmac_sha256};
use serde_json::json;

use super::{
    doubles::link_id,
    http::request,
    load::Requests,
    world::{AMOUNT_MINOR, CUSTOMERS, Merchant, PLAN, WEBHOOK_SECRET},
};

fn create(merchant: &Merchant, number: usize) -> Vec<u8> {
    let customer = format!("user_{}", number % CUSTOMERS);
    let body = json!({
        "customer_external_id": customer, "action": "create_subscription", "payment_provider": "razorpay",
        "configuration": {"create_subscription_params": {"plan_id": PLAN, "currency": "INR", "billing_period": "monthly"}},
        "success_url": "https://app.example.com/welcome?session_id={CHECKOUT_SESSION_ID}",
        "failure_url": "https://app.example.com/pricing?error=payment_failed",
        "cancel_url": "https://app.example.com/pricing",
    });
    request("POST", "/v1/checkout/sessions", &merchant.authorization, body.to_string().as_bytes())
}

pub fn creates(merchant: &Merchant) -> Arc<Requests> {
    Requests::in_turn((0..CUSTOMERS).map(|number| create(merchant, number)).collect(), 201)
}

pub fn creates_once(merchant: &Merchant, count: usize) -> Arc<Requests> {
    Requests::once((0..count).map(|number| create(merchant, number)).collect(), 201)
}

pub fn completions(merchant: &Merchant, sessions: &[SessionId]) -> Arc<Requests> {
    let requests = sessions.iter().map(|id| {
        let (id, payment) = (id.to_string(), id.to_string().replace("chk_", "pay_"));
        let body = json!({"entity": "event", "event": "payment_link.paid", "contains": ["payment_link", "payment"], "payload": {
            "payment_link": {"entity": {"id": link_id(&id), "reference_id": id, "status": "paid"}},
            "payment": {"entity": {"id": payment, "amount": AMOUNT_MINOR, "currency": "INR", "status": "captured"}},
        }, "created_at": 1_795_000_000});
        let body = body.to_string();
        let signature = hex::encode(hmac_sha256(WEBHOOK_SECRET.as_bytes(), body.as_bytes()));
        let headers = format!("x-razorpay-signature: {signature}\r\n");
        request("POST", &merchant.inbound_path, &headers, body.as_bytes())
    });
    Requests::once(requests.collect(), 200)
}

pub fn polls(merchant: &Merchant, sessions: &[SessionId]) -> Arc<Requests> {
    let path = |id: &SessionId| format!("/v1/checkout/sessions/{id}");
    let requests = sessions.iter().map(|id| request("GET", &path(id), &merchant.authorization, b""));
    Requests::in_turn(requests.collect(), 200)
}
