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
pub struct App {
    /// The connections that this part of the service uses.
    pub pool: Pool,
    parts: Arc<Parts>,
}

/// The parts themselves, reached through [`App`].
pub struct Parts {
    /// Postgres, the only truth, for the API and deliveries.
    pub pool: Pool,
    /// Connections kept for what must go on when the API takes all of [`Parts::pool`]: Razorpay's webhooks,
    /// completions, deadlines and refunds.
    pub reserved: Pool,
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
        Self { pool: parts.pool.clone(), parts: Arc::new(parts) }
    }

    /// The same service on the connections that the API cannot take.
    #[must_use]
    pub fn on_reserved(&self) -> Self {
        Self { pool: self.parts.reserved.clone(), parts: Arc::clone(&self.parts) }
    }
}

impl Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.parts
    }
}
