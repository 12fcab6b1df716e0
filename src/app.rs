//! What every use case needs, in one value.

use std::{ops::Deref, sync::Arc};

use anyhow::Context;
use secrecy::SecretString;

use crate::{
    config::Config,
    db::Pool,
    http::Overload,
    kit::{clock::Clock, ids::Ids, recent::Recent, secret::Sealer},
    metrics::Metrics,
    razorpay, tenancy, webhooks,
    worker::Wake,
};

/// The service's parts; cheap to clone.
#[derive(Clone)]
pub struct App {
    /// The connections that this part of the service uses.
    pub pool: Pool,
    parts: Arc<Parts>,
}

/// The parts themselves, reached through [`App`].
pub struct Parts {
    /// Postgres, the only truth.
    pub pools: Pools,
    /// Time.
    pub clock: Clock,
    /// Ids and random values.
    pub ids: Ids,
    /// Seals and opens secrets.
    pub sealer: Sealer,
    /// Razorpay's API.
    pub razorpay: razorpay::Client,
    /// Requests to merchants' endpoints.
    pub egress: webhooks::Egress,
    /// Writes down what came of deliveries.
    pub recorder: webhooks::Recorder,
    /// Lets deliveries that are behind wait for new ones.
    pub catch_up: webhooks::CatchUp,
    /// Refuses creates that would have to wait for long.
    pub overload: Overload,
    /// API keys that were looked up a moment ago.
    pub known_keys: Recent<String, tenancy::FoundKey>,
    /// Accounts whose secrets verified webhooks a moment ago.
    pub known_accounts: Recent<tenancy::Scope, Vec<tenancy::SealedAccount>>,
    /// Tells the workers of this process that there is work; never more than a hint.
    pub wake: Wake,
    /// What is counted and measured.
    pub metrics: Metrics,
    /// The configuration.
    pub config: Config,
}

/// Connections to Postgres, apart for what must not wait for each other.
#[derive(Clone)]
pub struct Pools {
    /// The API and deliveries.
    pub api: Pool,
    /// What money waits for: Razorpay's webhooks, events that were kept, and refunds.
    pub payments: Pool,
    /// Looks at sessions. Hundreds may pass their deadline at once: few connections, so that they do so one after the
    /// other and leave the processors to payments.
    pub sessions: Pool,
}

impl Pools {
    /// All on the same connections.
    #[must_use]
    pub fn shared(pool: Pool) -> Self {
        Self { api: pool.clone(), payments: pool.clone(), sessions: pool }
    }

    /// Waits until every connection has been given back, and closes them.
    pub async fn close(&self) {
        for pool in [&self.api, &self.payments, &self.sessions] {
            pool.close().await;
        }
    }
}

/// What a process, or a test, decides; the other parts follow from it.
pub struct Given {
    /// See [`Parts::pools`].
    pub pools: Pools,
    /// See [`Parts::clock`].
    pub clock: Clock,
    /// See [`Parts::ids`].
    pub ids: Ids,
    /// What secrets are sealed with: 32 bytes in base64.
    pub encryption_key: SecretString,
    /// See [`Parts::metrics`].
    pub metrics: Metrics,
    /// See [`Parts::config`].
    pub config: Config,
}

impl App {
    /// Puts the parts together.
    ///
    /// # Errors
    /// The encryption key is not one, or no HTTP client can be made.
    pub fn new(given: Given) -> anyhow::Result<Self> {
        let Given { pools, clock, ids, encryption_key, metrics, config } = given;
        let parts = Parts {
            sealer: Sealer::parse(&encryption_key, ids.clone()).context("CHECKOUTD_ENCRYPTION_KEY")?,
            razorpay: razorpay::Client::new(
                config.razorpay_base_url.clone(),
                ids.clone(),
                razorpay::Pace::new(clock.clone(), config.provider_reads_per_second),
            )?,
            egress: webhooks::Egress::new(config.allow_private_webhook_targets)?,
            recorder: webhooks::Recorder::default(),
            catch_up: webhooks::CatchUp::default(),
            overload: Overload::new(config.creates_at_once),
            known_keys: Recent::default(),
            known_accounts: Recent::default(),
            wake: Wake::default(),
            pools,
            clock,
            ids,
            metrics,
            config,
        };
        Ok(Self { pool: parts.pools.api.clone(), parts: Arc::new(parts) })
    }

    /// The same service on other connections: one of [`Parts::pools`].
    #[must_use]
    pub fn on(&self, pool: &Pool) -> Self {
        Self { pool: pool.clone(), parts: Arc::clone(&self.parts) }
    }
}

impl Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.parts
    }
}
