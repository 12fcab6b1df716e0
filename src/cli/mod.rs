//! The command line: one file per command.

mod client;
mod dev;
mod doctor;
mod feed;
mod inbox;
mod listen;
mod migrate;
mod refund;
mod serve;
mod service;
mod tenant;
mod trigger;

use std::{
    io::{IsTerminal, Write},
    process::ExitCode,
    sync::Arc,
};

use anyhow::Context;
use clap::{Parser, Subcommand};
use secrecy::SecretString;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing_subscriber::{
    EnvFilter, Layer, filter::LevelFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt,
};

use crate::{
    app::{App, Given, Pools},
    config::{self, Config, LogFormat},
    db::{self, clock::DatabaseTime},
    http,
    kit::{
        clock::{Clock, SystemTime},
        ids::Ids,
    },
    metrics::{CountAlerts, Metrics},
};

/// Hosted checkout sessions: subscriptions paid by Razorpay payment links, kept true in Postgres.
#[derive(Debug, Parser)]
#[command(name = "checkoutd", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the service with a private Postgres and a Razorpay sandbox; needs no set-up.
    Dev,
    /// Forward the events of a test environment to a handler on this machine, until Ctrl-C. Uses a running service: the
    /// `checkoutd dev` of this directory, or the one that is named.
    Listen(listen::Options),
    /// Make an event happen at the sandbox: creates a session and pays it, or lets it fail or expire. Uses a running
    /// service, as `listen` does.
    Trigger(trigger::Options),
    /// Run the API and the workers. Configured by environment variables (.env.example).
    Serve(serve::Options),
    /// Bring the database's schema up to date.
    Migrate,
    /// Manage tenants.
    Tenant(tenant::Options),
    /// Look at provider events that could not be settled, and try them again.
    Inbox(inbox::Options),
    /// Close refunds that were made by another way.
    Refund(refund::Options),
    /// Print the description of the API (OpenAPI 3.1), as a running service has it at `/openapi.json`.
    Openapi,
    /// Look whether everything that must be true is; changes nothing. Exit code 0: yes, 1: no, 2: cannot tell.
    Doctor(doctor::Options),
}

/// Runs the command; what the process exits with.
pub async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Dev => dev::run().await?,
        Command::Listen(options) => listen::run(options).await?,
        Command::Trigger(options) => trigger::run(options).await?,
        Command::Serve(options) => serve::run(&options).await?,
        Command::Migrate => migrate::run().await?,
        Command::Tenant(options) => tenant::run(options).await?,
        Command::Inbox(options) => inbox::run(options).await?,
        Command::Refund(options) => refund::run(options).await?,
        Command::Openapi => std::io::stdout().write_all(&[&http::document()[..], b"\n"].concat())?,
        Command::Doctor(options) => return Ok(doctor::run(&options).await),
    }
    Ok(ExitCode::SUCCESS)
}

/// The configuration of a command that needs the database and the keys.
fn service_config() -> anyhow::Result<Config> {
    Ok(Config::from_env_requiring(&[config::DATABASE_URL, config::ENCRYPTION_KEY])?)
}

/// Builds the service's parts from [`service_config`].
fn build(config: &Config) -> anyhow::Result<App> {
    let (url, key) =
        (config.database_url.clone().unwrap_or_default(), config.encryption_key.clone().unwrap_or_default());
    build_with(config, &url, &key)
}

fn build_with(config: &Config, url: &SecretString, key: &SecretString) -> anyhow::Result<App> {
    let clock = Clock::from_source(Arc::new(DatabaseTime::new(Arc::new(SystemTime))));
    let ids = Ids::random(clock.clone());
    let reserved = reserved_of(config.database_pool_size);
    let for_sessions = for_sessions_of(reserved);
    // The URL may hold a password: its text stays out of the error.
    let connect =
        |size| db::connect(url, size).map_err(|_| anyhow::anyhow!("DATABASE_URL must be a Postgres URL"));
    let payments = connect(reserved - for_sessions)?;
    let sessions = if for_sessions == 0 { payments.clone() } else { connect(for_sessions)? };
    App::new(Given {
        pools: Pools { api: connect(config.database_pool_size - reserved)?, payments, sessions },
        clock,
        ids,
        encryption_key: key.clone(),
        metrics: Metrics::install(),
        config: config.clone(),
    })
}

/// Connections for what the API must not starve: a third, but four where that leaves as many to the API.
fn reserved_of(pool_size: u32) -> u32 {
    (pool_size / 3).max((pool_size / 2).min(4)).max(1)
}

/// How many of the reserved ones looks at sessions have to themselves: fewer than payments, and two at least, so that
/// one that vanished without a word stops nothing. None where that leaves payments one: then they share.
fn for_sessions_of(reserved: u32) -> u32 {
    if reserved < 4 { 0 } else { reserved / 2 }
}

/// As [`build`], for a command that does one thing: with the database's time.
async fn build_for_command() -> anyhow::Result<App> {
    let app = build(&service_config()?)?;
    db::clock::measure_skew(&app.pool, &app.clock).await.context("the database cannot be reached")?;
    Ok(app)
}

/// Goes by the database's time from here on.
async fn keep_time(app: &App, tasks: &TaskTracker, shutdown: &CancellationToken) -> anyhow::Result<()> {
    db::clock::measure_skew(&app.pool, &app.clock).await?;
    tasks.spawn(db::clock::keep(app.pool.clone(), app.clock.clone(), shutdown.clone()));
    Ok(())
}

/// Sends log lines to standard error, so that standard output is the command's own.
fn start_logging(config: &Config) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&config.log).context("CHECKOUTD_LOG")?;
    let filter = filter.add_directive(db::QUIET_NOTICES.parse()?);
    // Alerts are counted even if the log leaves them out.
    let registry = tracing_subscriber::registry().with(CountAlerts.with_filter(LevelFilter::WARN));
    match config.log_format {
        LogFormat::Json => {
            registry.with(fmt::layer().json().with_writer(std::io::stderr).with_filter(filter)).try_init()?;
        }
        LogFormat::Pretty => registry
            .with(
                fmt::layer()
                    .with_target(false)
                    .with_ansi(std::io::stderr().is_terminal())
                    .with_writer(std::io::stderr)
                    .with_filter(filter),
            )
            .try_init()?,
    }
    Ok(())
}

/// Resolves on Ctrl-C or SIGTERM, which end the process no more as soon as this returns.
fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

#[cfg(test)]
mod tests {
    use super::{for_sessions_of, reserved_of};

    #[test]
    fn no_part_of_four_connections_or_more_is_a_single_one() {
        for size in 2..=1000 {
            let reserved = reserved_of(size);
            let sessions = for_sessions_of(reserved);
            let (api, payments) = (size - reserved, reserved - sessions);
            assert!(api >= payments && payments >= sessions, "{size}");
            assert!(size < 4 || (api >= 2 && payments >= 2 && sessions != 1), "{size}");
        }
        assert_eq!((reserved_of(16), for_sessions_of(5)), (5, 2));
        assert_eq!((reserved_of(7), for_sessions_of(3)), (3, 0));
        assert_eq!((reserved_of(8), for_sessions_of(4)), (4, 2));
    }
}
