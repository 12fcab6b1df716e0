//! How fast the service is, beside the database itself: see `docs/performance.md`.
//!
//! `cargo bench`, or `cargo bench -- --quick --only creates,polls`
#![allow(
    clippy::disallowed_methods,
    reason = "no part of the service: it lives in real time and stops its processes itself"
)]

mod backlog;
mod copies;
mod doubles;
mod floor;
mod growth;
mod http;
mod load;
mod measure;
mod overload;
mod processes;
mod report;
mod scripts;
mod traffic;
mod usage;
mod world;

use std::{
    process::{Command, ExitCode},
    time::Duration,
};

use clap::{Parser, ValueEnum};
use measure::Bench;
use report::{Report, milliseconds};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::sleep,
};
use world::World;

/// All of it takes a quarter of that.
const LIMIT: Duration = Duration::from_hours(1);
/// Starts that are measured.
const STARTS: u32 = 5;

/// Loads the service and, side by side, the database with the service's own statements.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    double: Option<doubles::Double>,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Measures for a second each, with a tenth of the backlog.
    #[arg(long)]
    quick: bool,
    /// Only these, separated by commas.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,
    /// Creates a second of the open loop.
    #[arg(long, default_value_t = 200)]
    rate: u32,
    /// Deliveries that are due at each endpoint when the service starts.
    #[arg(long, default_value_t = 20_000)]
    backlog: usize,
    /// Only how all goes in a database of ten thousand sessions, and in one of so many.
    #[arg(long, value_name = "SESSIONS", conflicts_with = "only")]
    growth: Option<usize>,
    /// Another setting of the service, to be tried: `CHECKOUTD_CREATES_AT_ONCE=8`.
    #[arg(long = "setting", value_name = "NAME=VALUE", value_parser = setting)]
    settings: Vec<(String, String)>,
    /// Leaves pgbench out.
    #[arg(long)]
    no_floor: bool,
    /// Given by `cargo bench`, not by `cargo test`.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    Creates,
    Completions,
    Polls,
    Open,
    Latency,
    Deliveries,
    Overload,
}

fn setting(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

impl Args {
    fn wants(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }
}

fn main() -> ExitCode {
    let mut args = Args::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime can be made");
    let done = match args.double.take() {
        Some(double) => runtime.block_on(double.run()),
        None if !args.bench => {
            println!("cargo bench runs this");
            return ExitCode::SUCCESS;
        }
        None => runtime.block_on(until_stopped(args)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("FAILED {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What was started ends when this returns, however it does.
async fn until_stopped(args: Args) -> anyhow::Result<()> {
    let mut terminated = signal(SignalKind::terminate())?;
    tokio::select! {
        done = run(args) => done,
        _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
        _ = terminated.recv() => anyhow::bail!("terminated"),
        () = sleep(LIMIT) => anyhow::bail!("it took more than {LIMIT:?}"),
    }
}

async fn run(mut args: Args) -> anyhow::Result<()> {
    if args.quick {
        (args.seconds, args.backlog) = (1, args.backlog / 10);
    }
    let usual = args.settings.is_empty();
    let mut world =
        World::start(std::mem::take(&mut args.settings), args.growth.map(|_| growth::SHARED_BUFFERS)).await?;
    world.furnish().await?;
    let lasting = Duration::from_secs(args.seconds);
    let mut bench = Bench { world, floor: None, report: Report::default(), lasting, most_resident_mib: 0.0 };
    bench.models().await?;
    about(&mut bench, &args).await?;
    bench.world.stop_service().await?;
    if let Some(sessions) = args.growth {
        bench.growth(sessions).await?;
        println!("{}", bench.report.markdown());
        return bench.world.stop().await;
    }
    if !args.no_floor {
        bench.floor = Some(bench.world.floor().await?);
    }
    starts(&mut bench).await?;
    parts(&mut bench, &args).await?;
    let in_place = bench.world.updates_in_place().await?;
    bench.report.single("updates that leave the indexes alone (HOT)", in_place);
    let most = bench.most_resident_mib;
    bench.report.single("resident memory under load, at most", format!("{most:.1} MiB"));
    println!("{}", bench.report.markdown());
    bench.world.stop().await?;
    if args.only.is_empty() && !args.quick && !args.no_floor && usual {
        bench.report.write()?;
    }
    Ok(())
}

async fn parts(bench: &mut Bench, args: &Args) -> anyhow::Result<()> {
    if args.wants(Part::Creates) {
        bench.creates().await?;
    }
    if args.wants(Part::Completions) {
        bench.completions().await?;
    }
    if args.wants(Part::Polls) {
        bench.polls().await?;
    }
    if args.wants(Part::Open) {
        bench.open(args.rate).await?;
    }
    if args.wants(Part::Latency) {
        bench.latency().await?;
    }
    if args.wants(Part::Deliveries) {
        bench.deliveries(args.backlog).await?;
    }
    if args.wants(Part::Overload) {
        bench.overload().await?;
    }
    Ok(())
}

/// From exec to ready, and memory before the first request.
async fn starts(bench: &mut Bench) -> anyhow::Result<()> {
    let mut took = load::Latencies::default();
    for _ in 0..STARTS {
        bench.world.stop_service().await?;
        bench.world.start_service().await?;
        took.0.push(bench.world.running()?.ready_after);
    }
    let (median, longest) = (milliseconds(took.at(0.5)), milliseconds(took.at(1.0)));
    bench.report.single("from exec to ready", format!("{median} ms, the longest of {STARTS} {longest} ms"));
    sleep(Duration::from_secs(2)).await;
    let idle = usage::resident_mib(bench.world.running()?.pid()).unwrap_or_default();
    bench.report.single("resident memory idle", format!("{idle:.1} MiB"));
    Ok(())
}

async fn about(bench: &mut Bench, args: &Args) -> anyhow::Result<()> {
    let show = async |setting: &str| {
        let show = sqlx::query_scalar::<_, String>("select current_setting($1)").bind(setting.to_owned());
        show.fetch_one(&bench.world.pool).await
    };
    let (version, buffers) = (show("server_version").await?, show("shared_buffers").await?);
    let synced = usage::sync_latencies(&bench.world.dir)?;
    let (p50, p99) = (milliseconds(synced.at(0.5)), milliseconds(synced.at(0.99)));
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output();
        output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
    };
    let changed = git(&["status", "--porcelain", "--", "src", "migrations", "Cargo.lock"]);
    let (commit, date) = (git(&["rev-parse", "--short", "HEAD"]), chrono::Utc::now().format("%-d %B %Y"));
    let dirty = if changed.is_empty() { "" } else { ", with changes" };
    let unoptimised = if cfg!(debug_assertions) { ", **not optimised**" } else { "" };
    let Args { seconds, .. } = args;
    bench.report.about = vec![
        usage::describe_machine(),
        format!("8 KiB written and synced to its disk in {p50} ms (p50), {p99} ms (p99)"),
        format!(
            "Postgres {version}, `fsync` on, {buffers} of shared buffers, every other setting as it comes"
        ),
        format!("commit {commit}{dirty}{unoptimised}, {date}; {seconds} s for each measurement"),
        format!(
            "the service's settings as they come, but for `CHECKOUTD_LOG=warn` and no limit of requests; {} connections to Postgres",
            world::POOL_SIZE
        ),
    ];
    Ok(())
}
