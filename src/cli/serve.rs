//! `checkoutd serve`

use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{App, build, db, keep_time, service_config, start_logging, stop_signal};
use crate::{http, worker};

/// Arguments of `serve`.
#[derive(Debug, Args)]
pub struct Options {
    /// Run only a part, so that the parts can be scaled apart.
    #[arg(long)]
    only: Option<Part>,
}

/// A part of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Requests in.
    Api,
    /// Deliveries, deadlines, refunds, provider events that wait.
    Workers,
}

/// Serves until SIGTERM or Ctrl-C, then finishes what was accepted.
pub async fn run(options: &Options) -> anyhow::Result<()> {
    let config = service_config()?;
    start_logging(&config)?;
    let app = build(&config)?;
    if !db::is_ready(&app.pool).await.context("the database cannot be reached")? {
        bail!("the database is not migrated: run checkoutd migrate");
    }
    // Before there is anything to finish.
    let stopped = stop_signal()?;
    let (tasks, shutdown) = (TaskTracker::new(), CancellationToken::new());
    keep_time(&app, &tasks, &shutdown).await?;
    if options.only != Some(Part::Api) {
        worker::start_all(&app, &tasks, &shutdown);
    }
    if options.only != Some(Part::Workers) {
        let bound = http::bind(app.config.bind).await.context("CHECKOUTD_BIND")?;
        tracing::info!(address = %bound.addr, "listening");
        let (router, stop) = (http::router(app.clone()), shutdown.clone());
        tasks.spawn(async move { http::serve(bound, router, stop.cancelled_owned()).await });
    }
    stopped.await;
    stop(&app, tasks, &shutdown).await;
    Ok(())
}

/// All of it together; a supervisor that sends SIGKILL after 15 seconds never has to.
const STOP_TIMEOUT: Duration = Duration::from_secs(14);

/// Stops claiming and accepting, waits for what is under way, closes the pool.
#[expect(
    clippy::disallowed_methods,
    reason = "the process ends: what is dropped here is dropped all the same"
)]
pub async fn stop(app: &App, tasks: TaskTracker, shutdown: &CancellationToken) {
    tracing::info!("stopping");
    shutdown.cancel();
    app.wake.stop();
    tasks.close();
    let stopped = async {
        tasks.wait().await;
        app.pools.close().await;
    };
    if tokio::time::timeout(STOP_TIMEOUT, stopped).await.is_err() {
        tracing::warn!("stopped before everything had come to its end");
    }
}
