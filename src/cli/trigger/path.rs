//! The ways to the events: real calls of the API and real actions at the sandbox, nothing made up.

use anyhow::Context;
use serde_json::{Value, json};

use super::sandbox::{Sandbox, Undo};
use crate::{
    cli::client::{Api, CallError, printable},
    webhooks::EventType,
};

/// The way to one event.
#[derive(Clone, Copy, Debug)]
pub struct Path(EventType);

/// What is bought, by whom.
pub struct Order<'a> {
    /// Lookup key or id.
    pub plan: &'a str,
    /// External id.
    pub customer: &'a str,
}

impl Path {
    /// Those that there is a way to.
    const ALL: [EventType; 8] = [
        EventType::CheckoutSessionInitiated,
        EventType::CheckoutSessionCompleted,
        EventType::CheckoutSessionFailed,
        EventType::CheckoutSessionExpired,
        EventType::PaymentLate,
        EventType::RefundCreated,
        EventType::RefundSucceeded,
        EventType::RefundFailed,
    ];

    /// The way to `event`, when there is one.
    pub fn to(event: EventType) -> Option<Self> {
        Self::ALL.contains(&event).then_some(Self(event))
    }

    /// The names of all of them.
    pub fn known() -> String {
        Self::ALL.map(EventType::as_str).join(", ")
    }

    /// Where it leads.
    pub fn event(self) -> EventType {
        self.0
    }

    /// What must be otherwise at the sandbox for this way.
    pub async fn prepare(self, sandbox: &Sandbox) -> Result<Option<Undo>, CallError> {
        if self.0 != EventType::RefundFailed {
            return Ok(None);
        }
        let undo = sandbox.end_refunds_as("failed").await?;
        println!("sandbox  refunds made from now on fail, until this command ends");
        Ok(Some(undo))
    }

    /// Goes it; the session's id.
    pub async fn walk(self, api: &Api, sandbox: &Sandbox, order: &Order<'_>) -> anyhow::Result<String> {
        let session = create(api, order).await.with_context(|| {
            format!("a session of {} for {} (--plan, --customer)", order.plan, order.customer)
        })?;
        match self.0 {
            EventType::CheckoutSessionCompleted => sandbox.pay(&session, false).await?,
            EventType::CheckoutSessionFailed => sandbox.end_link(&session, "cancel").await?,
            EventType::CheckoutSessionExpired => sandbox.end_link(&session, "expire").await?,
            EventType::PaymentLate
            | EventType::RefundCreated
            | EventType::RefundSucceeded
            | EventType::RefundFailed => {
                cancel(api, &session).await?;
                sandbox.pay(&session, true).await?;
            }
            // The link that comes with the session is all.
            _ => {}
        }
        Ok(session)
    }
}

async fn create(api: &Api, order: &Order<'_>) -> Result<String, CallError> {
    let params = json!({"plan_id": order.plan, "currency": "INR", "billing_period": "monthly"});
    let request = json!({
        "customer_external_id": order.customer, "action": "create_subscription", "payment_provider": "razorpay",
        "configuration": {"create_subscription_params": params},
        "success_url": "https://app.example.com/welcome?session_id={CHECKOUT_SESSION_ID}",
        "failure_url": "https://app.example.com/pricing?error=payment_failed",
        "cancel_url": "https://app.example.com/pricing",
    });
    let session = api.post("v1/checkout/sessions", &request).await?;
    let id = text(&session["id"]);
    println!(
        "session  {id}  {} {}, {}",
        text(&session["amount"]),
        text(&session["currency"]),
        order.customer
    );
    Ok(id)
}

async fn cancel(api: &Api, session: &str) -> Result<(), CallError> {
    api.post(&format!("v1/checkout/sessions/{session}/cancel"), &json!({})).await?;
    println!("API      {session} cancelled: what is paid from now on is late");
    Ok(())
}

/// A text of an answer, as it is shown.
pub fn text(value: &Value) -> String {
    printable(value.as_str().unwrap_or_default(), 64)
}
