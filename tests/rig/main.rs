//! The rig: the real binary under mixed load, killed at random, with a Postgres that crashes, a network that
//! breaks and a Razorpay that fails, all by seed; then an independent checker looks at what is left. See
//! `docs/rig.md`.
//!
//! `cargo test --release --test rig -- --seed 42 --sessions 500`
#![allow(
    clippy::disallowed_methods,
    reason = "the rig is no part of the service: it lives in real time and stops its tasks itself"
)]

mod actors;
mod args;
#[allow(dead_code, reason = "its unit tests run in rig_parts")]
mod checker;
mod client;
mod creating;
mod dice;
mod faults;
mod gather;
mod inspector;
mod logs;
mod postgres;
mod processes;
mod razorpay;
mod receivers;
mod replica;
mod report;
mod tally;
#[allow(dead_code, reason = "its unit tests run in rig_parts")]
#[path = "../it/support/tcpfault.rs"]
mod tcpfault;
mod world;

use std::{
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use clap::Parser;
use tokio::{sync::Semaphore, task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;

use args::Args;
use checker::{Evidence, Violation};
use gather::Gatherer;
use world::World;

fn main() -> ExitCode {
    let args = Args::parse().settled();
    stop_after(args.time_limit(), args.replay());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.expect("threads can be started");
    match runtime.block_on(run(&args)) {
        Ok(true) => {
            println!("OK");
            ExitCode::SUCCESS
        }
        Ok(false) => {
            println!("FAILED with seed {}. Again: {}", args.seed, args.replay());
            ExitCode::FAILURE
        }
        Err(error) => {
            println!("the rig itself failed: {error:#}. Again: {}", args.replay());
            ExitCode::FAILURE
        }
    }
}

/// The last resort; what the rig has started ends with it.
fn stop_after(limit: Duration, replay: String) {
    std::thread::spawn(move || {
        std::thread::sleep(limit);
        println!("FAILED: not finished after {limit:?}. Again: {replay}");
        std::process::exit(1);
    });
}

async fn run(args: &Args) -> anyhow::Result<bool> {
    let begun = Instant::now();
    let world = Arc::new(World::start(args).await?);
    println!("ready after {:.1} s", begun.elapsed().as_secs_f64());
    load(&world, begun).await?;
    let (evidence, violations) = rest(&world).await?;
    logs::scan(&world.logs, &world.tally)?;
    world.tally.count_many("answers of the database lost", world.database_proxy.lost());
    let webhooks = world.sandbox.ledger().deliveries;
    report::print(args, &world.tally, &evidence, &violations, &webhooks, begun.elapsed());
    let clean = violations.is_empty() && world.tally.problems().is_empty();
    let world = Arc::into_inner(world).context("a task still holds the world")?;
    println!("logs: {}", world.logs.display());
    let tally = Arc::clone(&world.tally);
    world.stop().await?;
    Ok(clean && tally.problems().is_empty())
}

/// About as long as a session lives.
const FAULTS_AFTER_THE_LAST_START: Duration = Duration::from_secs(15);

/// Customers and faults, until the last customer has gone.
async fn load(world: &Arc<World>, begun: Instant) -> anyhow::Result<()> {
    let over = CancellationToken::new();
    let mut faults = faults::start(world, &over);
    let mut watchers = JoinSet::new();
    watchers.spawn(inspector::watch_keys(Arc::clone(world)));
    watchers.spawn(inspector::settle_refunds_slowly(Arc::clone(world)));
    watchers.spawn(progress(Arc::clone(world), begun));
    let places = Arc::new(Semaphore::new(world.args.concurrency));
    let gap = Duration::from_secs(1) / world.args.rate.max(1);
    let mut actors = JoinSet::new();
    let load_limit = world.args.load_limit.map_or(Duration::MAX, Duration::from_secs);
    for number in 0..world.args.sessions {
        if begun.elapsed() > load_limit {
            break;
        }
        let place = Arc::clone(&places).acquire_owned().await?;
        let world = Arc::clone(world);
        actors.spawn(async move {
            actors::live(world, number).await;
            drop(place);
        });
        while let Some(done) = actors.try_join_next() {
            done.context("an actor panicked")?;
        }
        sleep(gap).await;
    }
    // The last ones see faults a little longer, then they may finish in peace.
    let until = tokio::time::Instant::now() + FAULTS_AFTER_THE_LAST_START;
    let mut left = std::pin::pin!(tokio::time::sleep_until(until));
    loop {
        tokio::select! {
            done = actors.join_next() => match done {
                Some(done) => done.context("an actor panicked")?,
                None => break,
            },
            () = &mut left, if !over.is_cancelled() => {
                over.cancel();
                world.calm().await;
            }
        }
    }
    over.cancel();
    while let Some(done) = faults.join_next().await {
        done.context("a loop of faults panicked")?;
    }
    watchers.shutdown().await;
    Ok(())
}

async fn progress(world: Arc<World>, begun: Instant) {
    loop {
        sleep(Duration::from_secs(5)).await;
        let tally = &world.tally;
        println!(
            "{:>5.0} s  {} of {} sessions, {} kills, {} Postgres restarts, {} payments, {} deliveries, {} problems",
            begun.elapsed().as_secs_f64(),
            tally.done(),
            world.args.sessions,
            tally.counted("SIGKILL"),
            tally.counted("Postgres restarts, immediate"),
            tally.counted("payments"),
            world.receivers.count(),
            tally.counted("problems"),
        );
    }
}

/// No more faults: looks again and again until nothing is wrong any more, or what is wrong cannot heal.
async fn rest(world: &Arc<World>) -> anyhow::Result<(Evidence, Vec<Violation>)> {
    world.calm().await;
    let limit = Instant::now() + Duration::from_secs(world.args.rest_limit);
    let mut gatherer = Gatherer::default();
    let begun = Instant::now();
    loop {
        inspector::settle_refunds(world).await;
        let evidence = gatherer.gather(world).await?;
        let violations = checker::violations(&evidence);
        let healing = violations.iter().filter(|violation| violation.heals).count();
        println!(
            "at rest for {:.0} s: {} sessions, {healing} unfinished, {} broken",
            begun.elapsed().as_secs_f64(),
            evidence.sessions.len(),
            violations.len() - healing,
        );
        if healing == 0 || Instant::now() > limit {
            return Ok((evidence, violations));
        }
        sleep(Duration::from_secs(3)).await;
    }
}
