//! Outgoing webhooks.

pub mod api;

/// Sends requests to merchants.
pub struct Egress;

/// Delivers events.
pub struct Deliver;

impl crate::worker::Job for Deliver {
    type Lease = ();
    const WORK: crate::worker::Work = crate::worker::Work::Deliveries;
    const SLOTS: usize = 16;
    const POLL: std::time::Duration = std::time::Duration::from_secs(1);

    async fn claim(&self, _: &crate::app::App, _: usize) -> anyhow::Result<Vec<()>> {
        Ok(Vec::new())
    }

    async fn step(&self, _: &crate::app::App, (): ()) -> anyhow::Result<()> {
        Ok(())
    }
}
