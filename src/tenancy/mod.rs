//! Tenants, their environments, API keys and provider connections.

pub mod api;
mod connection;
mod environment;
pub mod environment_api;
mod environment_store;
pub mod integration_api;
mod key;
pub mod key_api;
mod key_store;
pub mod me_api;
mod operator;
mod operator_store;
mod store;

use serde::{Deserialize, Serialize};

pub use connection::{
    Account, AccountError, ConnectionId, SealedAccount, SealedCredentials, Verifier, connection_account,
    open_account, remembered_webhook_verifiers, sealed_shut, webhook_verifiers,
};
pub use environment::{Environment, session_ttl, set_session_ttl};
pub use environment_store::lock_environment_in;
pub use key::Authenticated;
pub use key_store::FoundKey;
pub use operator::{OperatorKey, Revoked, TenantKey, create_key, list_keys, revoke_key};

use crate::{app::App, db, http::Named};

use key::NewKey;

/// The name of an environment's first key.
const FIRST_KEY: &str = "default";

crate::define_ids! {
    /// A merchant.
    TenantId = "tenant";
    /// A tenant's test or live half. Objects of one are invisible to the other.
    EnvironmentId = "env";
    /// An API key's record.
    KeyId = "secret";
}

impl Named for EnvironmentId {
    const NOUN: &'static str = "environment";
}

/// Whose data a statement may touch: an argument of every store function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Scope {
    /// The merchant.
    pub tenant: TenantId,
    /// The environment, which belongs to the tenant.
    pub environment: EnvironmentId,
}

/// Whether an environment moves real money.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Razorpay's test keys, http webhook targets where allowed.
    Test,
    /// Real money: live keys and https only.
    Live,
}

impl Mode {
    /// As in the tables, in API keys and in Razorpay's key ids.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Test => "test",
            Self::Live => "live",
        }
    }

    /// The name of an environment that nobody named.
    fn default_name(self) -> &'static str {
        match self {
            Self::Test => "Test",
            Self::Live => "Live",
        }
    }

    pub(crate) fn from_column(text: &str) -> Self {
        if text == "live" { Self::Live } else { Self::Test }
    }
}

/// What `tenant create` made. The keys are shown here once and never again.
#[derive(Debug, Serialize)]
pub struct NewTenant {
    /// The merchant.
    pub tenant_id: TenantId,
    /// Test first, then live.
    pub environments: Vec<NewEnvironment>,
}

/// An environment of a new tenant, with its first key.
#[derive(Debug, Serialize)]
pub struct NewEnvironment {
    /// The environment.
    pub id: EnvironmentId,
    /// Test or live.
    pub mode: Mode,
    /// The first API key.
    pub api_key: String,
    /// Where Razorpay's webhook is to point.
    pub webhook_url: String,
}

/// Creates a tenant with a test and a live environment and a key for each, in one transaction.
pub async fn create_tenant(app: &App, name: &str) -> Result<NewTenant, db::Error> {
    let tenant: TenantId = app.ids.next();
    let now = app.clock.now();
    let environments = [Mode::Test, Mode::Live].map(|mode| {
        let scope = Scope { tenant, environment: app.ids.next() };
        let secret = key::generate(app, mode);
        let key = NewKey { id: app.ids.next(), name: FIRST_KEY.into(), expires_at: None, secret };
        (scope, mode, key)
    });
    let (rows, name) = (environments.clone(), name.to_owned());
    db::transact(&app.pool, "create_tenant", move |tx| {
        let (rows, name) = (rows.clone(), name.clone());
        Box::pin(async move {
            store::insert_tenant(tx, tenant, &name, now).await?;
            for (scope, mode, key) in &rows {
                environment_store::put_environment(tx, *scope, mode.default_name(), *mode, now).await?;
                key_store::put_key(tx, *scope, key, now).await?;
            }
            Ok::<_, db::Error>(())
        })
    })
    .await?;
    let environments = environments
        .into_iter()
        .map(|(scope, mode, key)| NewEnvironment {
            id: scope.environment,
            mode,
            api_key: key.secret.text,
            webhook_url: webhook_url(app, scope),
        })
        .collect();
    Ok(NewTenant { tenant_id: tenant, environments })
}

/// Whether any environment of this database has a live Razorpay account. A database without tables has none.
pub async fn moves_real_money(app: &App) -> Result<bool, db::Error> {
    store::has_live_account_any_scope(&app.pool).await
}

/// Where Razorpay posts the events of `scope`.
pub fn webhook_url(app: &App, scope: Scope) -> String {
    format!("{}v1/webhooks/razorpay/{}/{}", app.config.public_url, scope.tenant, scope.environment)
}

/// The caller that `key` belongs to; `None` when it is unknown, malformed, expired or revoked.
pub async fn authenticate(app: &App, key: &str) -> Result<Option<Authenticated>, db::Error> {
    key::authenticate(app, key).await
}
