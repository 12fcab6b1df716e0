//! What Razorpay sends, with any signature: for events that the sandbox would not send.

use axum::http::Method;
use checkoutd::kit::secret::hmac_sha256;
use serde_json::{Value, json};

use super::{Merchant, Reply, send};

/// The signature of `body` as Razorpay writes it.
pub fn signature(body: &[u8], secret: &str) -> String {
    hex::encode(hmac_sha256(secret.as_bytes(), body))
}

/// `payment_link.paid` for a session's link, with a captured payment of `amount`.
pub fn paid_event(session: &Value, link_id: &str, amount: &Value) -> Value {
    json!({"entity": "event", "event": "payment_link.paid", "contains": ["payment_link", "payment"], "payload": {
        "payment_link": {"entity": {"id": link_id, "reference_id": session["id"], "status": "paid"}},
        "payment": {"entity": {"id": "pay_00000000000001", "amount": amount, "currency": "INR", "status": "captured"}},
    }, "created_at": 1_795_000_000})
}

impl Merchant {
    /// Posts `body` to the merchant's inbound URL with this signature, or none.
    pub async fn post_event(&self, body: impl Into<Vec<u8>>, signature: Option<&str>) -> Reply {
        let path = format!("/v1/webhooks/razorpay/{}/{}", self.tenant_id, self.environment_id);
        let mut request = self.builder(Method::POST, &path).header("content-type", "application/json");
        if let Some(signature) = signature {
            request = request.header("x-razorpay-signature", signature);
        }
        send(request.body(body.into())).await
    }

    /// Posts `body` signed with `secret`.
    pub async fn post_signed(&self, body: impl Into<Vec<u8>>, secret: &str) -> Reply {
        let body = body.into();
        let signature = signature(&body, secret);
        self.post_event(body, Some(&signature)).await
    }
}
