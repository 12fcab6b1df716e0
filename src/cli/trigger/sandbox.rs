//! The sandbox's actions: what a customer and Razorpay do elsewhere.

use anyhow::{Context, bail};
use serde_json::{Value, json};
use url::Url;

use super::path::text;
use crate::cli::client::{Api, CallError, printable};

/// The sandbox that a service is connected to.
pub struct Sandbox(Api);

/// What was changed there for a while.
pub struct Undo {
    refund_outcome: Value,
}

impl Sandbox {
    /// The one at `url`. Fails when the service's Razorpay account is anywhere else: a session would then be created at
    /// Razorpay itself.
    pub async fn of(service: &Api, url: Url) -> anyhow::Result<Self> {
        let sandbox = Self(Api::new(url, None)?);
        let connections: Value = service.get("v1/connections", &[]).await?.json()?;
        let connections = connections["items"].as_array().cloned().unwrap_or_default();
        if connections.is_empty() {
            bail!(
                "the environment has no Razorpay connection: create one to the sandbox (POST /v1/connections)"
            );
        }
        for connection in connections {
            let key_id = text(&connection["key_id"]);
            match sandbox.0.get(&format!("_sandbox/accounts/{key_id}"), &[]).await {
                Ok(_) => {}
                Err(CallError::Refused { .. }) => bail!(
                    "the service's Razorpay account {key_id} is not one of the sandbox at {}: nothing was created. \
                     Events are triggered at the sandbox only",
                    sandbox.0.address()
                ),
                Err(error) => return Err(error).context("the sandbox"),
            }
        }
        Ok(sandbox)
    }

    /// The customer pays the session's link; `late` although it is dead.
    pub async fn pay(&self, session: &str, late: bool) -> Result<(), CallError> {
        let request = json!({"method": "upi", "late": late});
        let paid = self.0.post(&format!("_sandbox/links/{session}/pay"), &request).await?;
        let how = if late { "paid late" } else { "paid" };
        println!("sandbox  {how}: {}", text(&paid["payment_id"]));
        Ok(())
    }

    /// `cancel` or `expire`, as in Razorpay's dashboard and by its clock.
    pub async fn end_link(&self, session: &str, action: &str) -> Result<(), CallError> {
        let ended = self.0.post(&format!("_sandbox/links/{session}/{action}"), &json!({})).await?;
        println!("sandbox  payment link {}", text(&ended["status"]));
        Ok(())
    }

    /// From now on refunds end so; what undoes it.
    pub async fn end_refunds_as(&self, outcome: &str) -> Result<Undo, CallError> {
        let refund_outcome = self.set_refund_outcome(&json!(outcome)).await?;
        Ok(Undo { refund_outcome })
    }

    /// The outcome before.
    async fn set_refund_outcome(&self, outcome: &Value) -> Result<Value, CallError> {
        let mut faults: Value = self.0.get("_sandbox/faults", &[]).await?.json()?;
        let before = std::mem::replace(&mut faults["refund_outcome"], outcome.clone());
        self.0.put("_sandbox/faults", &faults).await?;
        Ok(before)
    }
}

impl Undo {
    /// Puts it back.
    pub async fn run(self, sandbox: &Sandbox) -> Result<(), CallError> {
        sandbox.set_refund_outcome(&self.refund_outcome).await?;
        let outcome = printable(self.refund_outcome.as_str().unwrap_or_default(), 20);
        println!("sandbox  refunds end as {outcome} again");
        Ok(())
    }
}
