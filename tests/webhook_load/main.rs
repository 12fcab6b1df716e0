//! Deliveries under load: are healthy endpoints as fast next to broken ones, and does a backlog drain? Ratios, measured
//! side by side in one run: see docs/webhook-load.md.
//!
//! `cargo test --release --test webhook_load -- --backlog 1000000`
#![allow(
    clippy::disallowed_methods,
    reason = "no part of the service: it lives in real time and stops its tasks itself"
)]

mod receiver;
mod world;

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use checkoutd::tenancy::Scope;
use clap::Parser;
use receiver::{Fault, Receiver};
use world::{PER_ENVIRONMENT, World};

/// Endpoints in all, 50 to an environment.
const ENDPOINTS: usize = 2000;
/// With faults, the first one hangs and so many after it answer 500.
const FAILING: usize = 100;
/// Events a second; each goes to the 50 endpoints of its environment.
const EVENTS_PER_SECOND: u32 = 6;
/// While the backlog drains: less than every endpoint's share, or they would have a backlog of their own.
const EVENTS_PER_SECOND_ON_TOP: u32 = 2;

#[derive(Parser)]
struct Args {
    /// Deliveries that are due when the worker starts.
    #[arg(long, default_value_t = 100_000)]
    backlog: usize,
    /// How long each rate is measured.
    #[arg(long, default_value_t = 12)]
    seconds: u64,
    /// Windows without and with a backlog elsewhere, in turn.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Only lets the backlog drain.
    #[arg(long)]
    drain_only: bool,
    /// Left by the test runner.
    #[arg(long, hide = true)]
    nocapture: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let done = runtime.expect("threads can be started").block_on(run(&args));
    match done {
        Ok(problems) if problems.is_empty() => {
            println!("OK");
            ExitCode::SUCCESS
        }
        Ok(problems) => {
            for problem in problems {
                println!("PROBLEM {problem}");
            }
            ExitCode::FAILURE
        }
        Err(error) => {
            println!("FAILED {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> anyhow::Result<Vec<String>> {
    let mut problems = Vec::new();
    let receiver = Receiver::start().await?;
    let world = World::start().await?;
    let environments = world.endpoints(&receiver, ENDPOINTS).await?;
    println!("{ENDPOINTS} endpoints in {} environments", environments.len());
    let load = Load { args, receiver, world, environments };
    if !args.drain_only {
        load.beside_broken_endpoints(&mut problems).await?;
        load.beside_a_backlog(&mut problems).await?;
    }
    load.drain(&mut problems).await?;
    load.world.stop().await;
    Ok(problems)
}

struct Load<'a> {
    args: &'a Args,
    receiver: Receiver,
    world: World,
    environments: Vec<Scope>,
}

impl Load<'_> {
    /// Is a healthy endpoint as fast next to broken ones?
    async fn beside_broken_endpoints(&self, problems: &mut Vec<String>) -> anyhow::Result<()> {
        let working = self.world.work();
        self.measure().await?;
        let without = self.measure().await?;
        self.receiver.break_endpoints(|number| match number {
            0 => Fault::Hang,
            1..=FAILING => Fault::Fail,
            _ => Fault::None,
        });
        let with = self.measure().await?;
        self.receiver.break_endpoints(|_| Fault::None);
        working.stop().await;
        let what = format!("1 of {ENDPOINTS} hangs and {FAILING} answer 500");
        problems.extend(compare(&what, without, with, 1.5));
        Ok(())
    }

    /// Is an endpoint as fast next to one that catches up?
    async fn beside_a_backlog(&self, problems: &mut Vec<String>) -> anyhow::Result<()> {
        let (mut without, mut with) = (Vec::new(), Vec::new());
        for _ in 0..self.args.rounds {
            self.world.clear().await?;
            let working = self.world.work();
            without.extend(self.measure().await?);
            working.stop().await;
            self.world.add_backlog(&self.environments[..1], 1, self.args.backlog).await?;
            let working = self.world.work();
            with.extend(self.measure().await?);
            working.stop().await;
            anyhow::ensure!(
                self.world.is_pending(&self.environments[..1]).await?,
                "the backlog was over too soon to be measured"
            );
        }
        let what = format!("1 of {ENDPOINTS} has a backlog of {}", self.args.backlog);
        problems.extend(compare(&what, without, with, 3.0));
        Ok(())
    }

    /// Does a backlog drain, and do new events wait behind it?
    async fn drain(&self, problems: &mut Vec<String>) -> anyhow::Result<()> {
        let Self { args, receiver, world, environments } = self;
        world.clear().await?;
        receiver.take_latencies();
        receiver.forget();
        let (late, live) = environments.split_at(environments.len() / 2);
        world.add_backlog(late, PER_ENVIRONMENT, args.backlog).await?;
        println!("{} deliveries are due; {} MiB resident", args.backlog, world::resident_mib());
        let from = Instant::now();
        let working = world.work();
        let mut peak = world::resident_mib();
        while world.is_pending(late).await? {
            world.emit_steadily(live, EVENTS_PER_SECOND_ON_TOP, Duration::from_secs(2)).await?;
            peak = peak.max(world::resident_mib());
            anyhow::ensure!(from.elapsed() < Duration::from_secs(3600), "the backlog does not drain");
        }
        let took = from.elapsed();
        world.settle(receiver).await;
        working.stop().await;
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = args.backlog as f64 / took.as_secs_f64();
        let fresh = Percentiles::of(receiver.take_latencies());
        println!("drained in {:.1} s: {rate:.0} a second; at most {peak} MiB resident", took.as_secs_f64());
        println!("new events at other endpoints meanwhile: {fresh}");
        if fresh.p99 > Duration::from_secs(5) {
            problems.push(format!("new events wait for {:?} behind a backlog of others", fresh.p99));
        }
        let (distinct, all) = receiver.counts();
        let emitted = world.deliveries().await?;
        println!("{emitted} deliveries, {distinct} received, {} of them twice", all - distinct);
        if distinct != emitted {
            problems.push(format!("{emitted} deliveries, and {distinct} received"));
        }
        if all != distinct {
            problems.push(format!("{} came twice though nothing crashed", all - distinct));
        }
        Ok(())
    }

    /// Latencies of a steady rate of new events.
    async fn measure(&self) -> anyhow::Result<Vec<Duration>> {
        self.receiver.take_latencies();
        let lasting = Duration::from_secs(self.args.seconds);
        self.world.emit_steadily(&self.environments, EVENTS_PER_SECOND, lasting).await?;
        // What was emitted last is still on its way.
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok(self.receiver.take_latencies())
    }
}

/// Prints first attempts at healthy endpoints beside others, and says so when their p99 exceeds `limit` times the one
/// without those.
fn compare(beside: &str, without: Vec<Duration>, with: Vec<Duration>, limit: f64) -> Option<String> {
    let (without, with) = (Percentiles::of(without), Percentiles::of(with));
    let ratio = with.p99.as_secs_f64() / without.p99.as_secs_f64();
    println!("first attempts at healthy endpoints, all well: {without}");
    println!("{beside}: {with}");
    println!("p99 with : without = {ratio:.2}");
    (ratio > limit).then(|| format!("{beside}: healthy endpoints wait {ratio:.2} times as long"))
}

/// How long first attempts took, from the event's time to their arrival.
struct Percentiles {
    count: usize,
    p50: Duration,
    p99: Duration,
    longest: Duration,
}

impl Percentiles {
    fn of(mut latencies: Vec<Duration>) -> Self {
        latencies.sort_unstable();
        let at = |share: usize| latencies.get(latencies.len() * share / 100).copied().unwrap_or_default();
        Self {
            count: latencies.len(),
            p50: at(50),
            p99: at(99),
            longest: latencies.last().copied().unwrap_or_default(),
        }
    }
}

impl std::fmt::Display for Percentiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { count, p50, p99, longest } = self;
        write!(f, "p50 {p50:.1?}, p99 {p99:.1?}, longest {longest:.1?}, of {count}")
    }
}
