//! The demo tenant: a plan, a customer and a connection to the sandbox, and the commands to try them.

use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::state;
use crate::{
    app::App,
    cli::client::{Api, CallError},
    tenancy::{self, Mode, Scope},
};

const FILE: &str = "demo.json";
/// Lookup key of the demo's plan.
pub const PLAN: &str = "plan_pro_monthly";
/// External id of the demo's customer.
pub const CUSTOMER: &str = "user_12345";

/// What is remembered of the demo tenant, its API key included: it opens nothing but this machine's own data.
#[derive(Debug, Serialize, Deserialize)]
struct Remembered {
    api_key: String,
    key_id: String,
    key_secret: String,
    webhook_secret: String,
}

/// The demo tenant, ready for use.
pub struct Demo {
    /// Its test environment.
    pub scope: Scope,
    /// Its API key.
    pub api_key: String,
    /// Its account at the sandbox.
    pub key_id: String,
    /// Its account at the sandbox.
    pub key_secret: String,
    /// Its account at the sandbox.
    pub webhook_secret: String,
}

/// Finds the demo tenant of an earlier start in this database, or makes one. The API must be up.
pub async fn prepare(app: &App, folder: &Path) -> anyhow::Result<Demo> {
    let path = folder.join(FILE);
    if let Some(known) = state::load::<Remembered>(&path)
        && let Some(caller) = tenancy::authenticate(app, &known.api_key).await?
    {
        return Ok(demo(caller.scope, known));
    }
    let tenant = tenancy::create_tenant(app, "Demo").await?;
    let test = tenant.environments.into_iter().find(|environment| environment.mode == Mode::Test);
    let test = test.context("a new tenant has a test environment")?;
    let scope = Scope { tenant: tenant.tenant_id, environment: test.id };
    let new = Remembered {
        api_key: test.api_key,
        key_id: format!("rzp_test_{}", app.ids.base62(14)),
        key_secret: app.ids.base62(24),
        webhook_secret: app.ids.base62(24),
    };
    let api = Api::new(app.config.public_url.clone(), Some(new.api_key.as_str().into()))?;
    fill(&api, &new).await.context("the demo could not be made")?;
    // Last: a start that dies before leaves no file that promises more than there is.
    state::save(&path, &new)?;
    Ok(demo(scope, new))
}

/// Makes all of it by the service's own API: the demo needs no door of its own.
async fn fill(api: &Api, account: &Remembered) -> Result<(), CallError> {
    let secrets = json!({
        "key_id": account.key_id, "secret_key": account.key_secret, "webhook_secret": account.webhook_secret,
    });
    let connection =
        json!({"name": "Sandbox", "provider_type": "razorpay", "encrypted_secret_data": secrets});
    api.post("v1/connections", &connection).await?;
    let plan = api.post("v1/plans", &json!({"name": "Pro", "lookup_key": PLAN})).await?;
    let price = json!({
        "entity_type": "PLAN", "entity_id": plan["id"], "type": "FIXED", "billing_model": "FLAT_FEE",
        "billing_period": "MONTHLY", "billing_period_count": 1, "currency": "INR", "amount": "499.00",
        "invoice_cadence": "ADVANCE", "price_unit_type": "FIAT",
    });
    api.post("v1/prices", &price).await?;
    let customer = json!({
        "external_id": CUSTOMER, "name": "Jane Smith", "email": "jane@example.com", "currency": "INR",
    });
    api.post("v1/customers", &customer).await?;
    Ok(())
}

fn demo(scope: Scope, known: Remembered) -> Demo {
    Demo {
        scope,
        api_key: known.api_key,
        key_id: known.key_id,
        key_secret: known.key_secret,
        webhook_secret: known.webhook_secret,
    }
}

/// What a person sees: where things are, and the guide's commands, ready to paste.
pub fn greeting(app: &App, sandbox: &str, demo: &Demo) -> String {
    let api = app.config.public_url.as_str().trim_end_matches('/');
    let (key, environment) = (&demo.api_key, demo.scope.environment);
    format!(
        r#"
checkoutd is ready.

  API               {api}
  Razorpay sandbox  {sandbox}  (its dashboard; no money moves)
  API key           {key}
  environment       {environment}
  plan, customer    {PLAN} (INR 499.00 a month), {CUSTOMER}

In another terminal, in this directory:

  checkoutd listen --forward-to http://127.0.0.1:3000/webhooks   # every event, signed, to a handler of yours
  checkoutd trigger checkout.session.completed                   # a session that is paid

Paste these, one after another:

# 1. Optional: get events at http://127.0.0.1:3000/webhooks (any port of yours); the answer has the signing secret
curl -sS -X POST {api}/v1/webhook_endpoints \
  -H "Authorization: Bearer {key}" -H "X-Environment-ID: {environment}" -H "Content-Type: application/json" \
  -d '{{"url":"http://127.0.0.1:3000/webhooks"}}'; echo

# 2. Create a checkout session
ANSWER=$(curl -sS -X POST {api}/v1/checkout/sessions \
  -H "Authorization: Bearer {key}" -H "X-Environment-ID: {environment}" -H "Content-Type: application/json" \
  -d '{{"customer_external_id":"{CUSTOMER}","action":"create_subscription","payment_provider":"razorpay","configuration":{{"create_subscription_params":{{"plan_id":"{PLAN}","currency":"INR","billing_period":"monthly"}}}},"success_url":"https://app.example.com/welcome?session_id={{CHECKOUT_SESSION_ID}}","failure_url":"https://app.example.com/pricing?error=payment_failed","cancel_url":"https://app.example.com/pricing"}}' \
  ) && echo "$ANSWER" && SESSION=$(echo "$ANSWER" | sed -n 's/.*"id":"\(chk_[0-9A-Z]*\)".*/\1/p')

# 3. Pay: open the payment_action.url from the answer in a browser, or
curl -sS -X POST {sandbox}/_sandbox/links/$SESSION/pay -H "Content-Type: application/json" -d '{{"method":"upi","outcome":"success"}}'; echo

# 4. See that it is completed
curl -sS "{api}/v1/checkout/sessions/$SESSION?wait=10" -H "Authorization: Bearer {key}" -H "X-Environment-ID: {environment}"; echo

Ctrl-C stops everything.
"#
    )
}
