//! `checkoutd dev`: the whole service on this machine, with nothing to set up. A private Postgres, a Razorpay
//! sandbox with a payment page, a demo tenant, and commands to paste.

use std::{io, net::SocketAddr, path::Path, sync::Arc};

use anyhow::{Context, bail};
use chrono::{DateTime, Utc};
use secrecy::SecretString;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use url::Url;

use super::{Config, build_with, db, keep_time, serve, start_logging, stop_signal};
use crate::{
    db::embedded,
    http::{self, Bound},
    kit::clock::Clock,
    sandbox::{Account, Sandbox, SandboxConfig},
    tenancy, worker,
};

mod demo;
mod running;
mod state;

pub use demo::{CUSTOMER, PLAN};
pub use running::Running;

/// Where everything lives that `dev` keeps.
const FOLDER: &str = ".checkoutd";
const DATABASE: &str = "checkoutd";

/// Runs until Ctrl-C; stops everything it started.
pub async fn run() -> anyhow::Result<()> {
    let mut config = Config::for_dev()?;
    for (name, addr) in [("CHECKOUTD_BIND", config.bind), ("CHECKOUTD_SANDBOX_BIND", config.sandbox_bind)] {
        if !addr.ip().is_loopback() {
            bail!("{name} must be a loopback address: dev has no protection against the network");
        }
    }
    start_logging(&config)?;
    let folder = state::open(Path::new(FOLDER))?;
    let key = config.encryption_key.take().map_or_else(|| state::encryption_key(&folder), Ok)?;
    let (postgres, url) = database(&config, &folder).await?;

    let api = bind_near(config.bind).await?;
    config.public_url = Url::parse(&format!("http://{}/", api.addr))?;
    let clock = Clock::system();
    let sandbox = start_sandbox(&config, clock).await?;
    config.razorpay_base_url = Url::parse(&format!("{}/", sandbox.base_url()))?;

    let app = build_with(&config, &url, &key)?;
    if tenancy::moves_real_money(&app).await.context("the database cannot be reached")? {
        bail!(
            "this database has a live Razorpay connection. dev would work on its sessions with a sandbox: unset DATABASE_URL"
        );
    }
    db::migrate(&url).await.context("the database could not be migrated")?;
    let stopped = stop_signal()?;
    let (tasks, shutdown) = (TaskTracker::new(), CancellationToken::new());
    keep_time(&app, &tasks, &shutdown).await?;
    let (router, stop) = (http::router(app.clone()), shutdown.clone());
    tasks.spawn(async move { http::serve(api, router, stop.cancelled_owned()).await });
    let demo = demo::prepare(&app, &folder).await?;
    let webhook_url = tenancy::webhook_url(&app, demo.scope);
    sandbox.put_account(
        Account::new(&demo.key_id, &demo.key_secret).with_webhook(&webhook_url, &demo.webhook_secret),
    )?;
    // Only now: a session of an earlier start is asked about at an account that must exist.
    worker::start_all(&app, &tasks, &shutdown);
    Running {
        api_url: app.config.public_url.clone(),
        sandbox_url: app.config.razorpay_base_url.clone(),
        api_key: demo.api_key.clone().into(),
    }
    .save(&folder)?;
    print!("{}", demo::greeting(&app, &sandbox.base_url(), &demo));

    stopped.await;
    println!("\nstopping");
    serve::stop(&app, tasks, &shutdown).await;
    sandbox.shutdown().await;
    if let Some(postgres) = postgres {
        postgres.stop().await?;
    }
    Ok(())
}

/// The database of `DATABASE_URL`, or one on a private server, which the caller stops.
async fn database(
    config: &Config,
    folder: &Path,
) -> anyhow::Result<(Option<embedded::Server>, SecretString)> {
    if let Some(url) = &config.database_url {
        return Ok((None, url.clone()));
    }
    let options =
        embedded::Options { dir: folder.join("postgres"), durable: true, pg_bin: config.pg_bin.clone() };
    let server = embedded::start(options).await?;
    db::create_database(&server.url("postgres").into(), DATABASE).await?;
    let url = server.url(DATABASE).into();
    Ok((Some(server), url))
}

async fn start_sandbox(config: &Config, clock: Clock) -> anyhow::Result<Sandbox> {
    let now = clock.now();
    let settings = |bind| {
        let clock = clock.clone();
        let time = Arc::new(move || -> DateTime<Utc> { clock.now() });
        // Its memory ends with it, the database does not: ids must not come twice.
        SandboxConfig { bind, seed: now.timestamp_micros().unsigned_abs(), ..SandboxConfig::new(time) }
    };
    match Sandbox::start(settings(config.sandbox_bind)).await {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let sandbox = Sandbox::start(settings(SocketAddr::new(config.sandbox_bind.ip(), 0))).await?;
            println!("{} is taken: the sandbox is on {}", config.sandbox_bind, sandbox.addr());
            Ok(sandbox)
        }
        started => started.context("CHECKOUTD_SANDBOX_BIND"),
    }
}

/// The wanted address, or another port where that one is taken.
async fn bind_near(wanted: SocketAddr) -> anyhow::Result<Bound> {
    match http::bind(wanted).await {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let bound = http::bind(SocketAddr::new(wanted.ip(), 0)).await?;
            println!("{wanted} is taken: the API is on {}", bound.addr);
            Ok(bound)
        }
        bound => bound.context("CHECKOUTD_BIND"),
    }
}
