//! Sessions.

pub mod api;
pub mod return_page;

/// Looks at sessions that are due.
pub struct CheckSessions;

impl crate::worker::Job for CheckSessions {
    type Lease = ();
    const WORK: crate::worker::Work = crate::worker::Work::Sessions;
    const SLOTS: usize = 16;
    const POLL: std::time::Duration = std::time::Duration::from_secs(1);

    async fn claim(&self, _: &crate::app::App, _: usize) -> anyhow::Result<Vec<()>> {
        Ok(Vec::new())
    }

    async fn step(&self, _: &crate::app::App, (): ()) -> anyhow::Result<()> {
        Ok(())
    }
}
