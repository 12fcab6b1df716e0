//! What every use case needs, in one value.

use std::{ops::Deref, sync::Arc};

use crate::{
    config::Config,
    db::Pool,
    kit::{clock::Clock, ids::Ids, secret::Sealer},
    metrics::Metrics,
    razorpay, webhooks,
    worker::Wake,
};

/// The service's parts; cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Parts>);

/// The parts themselves, reached through [`App`].
pub struct Parts {
    /// Postgres, the only truth.
    pub pool: Pool,
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
    /// Tells the workers of this process that there is work; never more than a hint.
    pub wake: Wake,
    /// What is counted and measured.
    pub metrics: Metrics,
    /// The configuration.
    pub config: Config,
}

impl App {
    /// Shares `parts`.
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }
}

impl Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}
