//! Inbound provider events.

pub mod api;

/// Drives events that wait.
pub struct DriveInbox;

impl crate::worker::Job for DriveInbox {
    type Lease = ();
    const WORK: crate::worker::Work = crate::worker::Work::Inbox;
    const SLOTS: usize = 16;
    const POLL: std::time::Duration = std::time::Duration::from_secs(1);

    async fn claim(&self, _: &crate::app::App, _: usize) -> anyhow::Result<Vec<()>> {
        Ok(Vec::new())
    }

    async fn step(&self, _: &crate::app::App, (): ()) -> anyhow::Result<()> {
        Ok(())
    }
}
