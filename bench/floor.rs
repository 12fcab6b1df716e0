//! The floor: the service's own statements, as `.sqlx` has them, run by pgbench on the same Postgres with nothing around
//! them.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use chrono::Utc;
use sqlx::{Executor, PgPool, types::Uuid};
use tokio::time::sleep;

use super::{
    load::Outcome,
    processes,
    report::Figures,
    scripts::{self, Constants},
    usage::{self, Cpu},
    world::Merchant,
};

/// A copy of the service's database, made before any load.
pub const DATABASE: &str = "floor";
/// Of numbers that become ids: as many digits as the last part of a UUID.
const FIRST_NUMBER: i64 = 100_000_000_000;
/// More than any run makes.
const NUMBERS_A_RUN: i64 = 100_000_000;
/// For connections, and for the five executions after which Postgres keeps a statement's plan.
const WARM_UP: Duration = Duration::from_secs(1);
/// Until the server's processes of a client that has left have ended.
const FAREWELL: Duration = Duration::from_millis(200);
const LIMIT: Duration = Duration::from_mins(5);

pub struct Floor {
    pgbench: PathBuf,
    dir: PathBuf,
    url: String,
    pool: PgPool,
    postmaster: u32,
    /// Where the next run's numbers begin.
    next: i64,
}

/// What a run of pgbench came to.
#[derive(Default)]
struct Run {
    /// After it was warm.
    outcome: Outcome,
    figures: Figures,
    /// How many there were from its start.
    all: usize,
    /// How many of them each client did at least.
    each: usize,
}

impl Floor {
    /// `postmaster` is the server's first process; the database must be there.
    pub fn new(postmaster: u32, dir: &Path, url: String) -> anyhow::Result<Self> {
        let server = fs::read_link(format!("/proc/{postmaster}/exe"))?;
        let beside = server.parent().map(|bin| bin.join("pgbench")).filter(|path| path.is_file());
        let elsewhere = || {
            std::env::split_paths(&std::env::var_os("PATH")?)
                .map(|bin| bin.join("pgbench"))
                .find(|path| path.is_file())
        };
        let pgbench = beside.or_else(elsewhere).with_context(|| {
            format!("pgbench is neither beside {} nor in PATH: install the package of Postgres that has it (Debian: postgresql-contrib), or leave the floor out by --no-floor", server.display())
        })?;
        let pool = PgPool::connect_lazy(&url)?;
        Ok(Self { pgbench, dir: dir.to_owned(), url, pool, postmaster, next: FIRST_NUMBER })
    }

    pub async fn creates(
        &mut self,
        merchant: &Merchant,
        clients: usize,
        lasting: Duration,
    ) -> anyhow::Result<Figures> {
        Ok(self.make_pending(merchant, clients, lasting).await?.figures)
    }

    async fn make_pending(
        &mut self,
        merchant: &Merchant,
        clients: usize,
        lasting: Duration,
    ) -> anyhow::Result<Run> {
        let constants = self.constants(merchant).await?;
        let script = scripts::create(merchant, &constants)?;
        self.next += NUMBERS_A_RUN;
        let before = self.count(merchant, "pending").await?;
        let run = self.run(&script, clients, &limits(lasting)).await?;
        let made = self.count(merchant, "pending").await? - before;
        ensure!(made == run.all, "{} creates made {made} sessions", run.all);
        Ok(run)
    }

    /// Makes sessions first, for as long.
    pub async fn completions(
        &mut self,
        merchant: &Merchant,
        clients: usize,
        lasting: Duration,
    ) -> anyhow::Result<Figures> {
        let made = self.make_pending(merchant, clients, lasting).await?;
        let script = scripts::completion(merchant, &self.constants(merchant).await?)?;
        let before = self.count(merchant, "completed").await?;
        let run = self.run(&script, clients, &["-t".to_owned(), made.each.to_string()]).await?;
        let done = self.count(merchant, "completed").await? - before;
        ensure!(done == run.all, "{} completions completed {done} sessions", run.all);
        Ok(run.figures)
    }

    /// Of the first sessions of the last run, or of a short one.
    pub async fn polls(
        &mut self,
        merchant: &Merchant,
        clients: usize,
        lasting: Duration,
    ) -> anyhow::Result<Figures> {
        if self.count(merchant, "completed").await? == 0 {
            self.completions(merchant, 1, Duration::from_secs(1)).await?;
        }
        let ids: Vec<Uuid> = sqlx::query_scalar(
            "select id from checkout_sessions where environment_id = $1 and checkout_status = 'completed' order by id limit 500",
        )
        .bind(merchant.environment)
        .fetch_all(&self.pool)
        .await?;
        let script = scripts::poll(merchant, &ids)?;
        Ok(self.run(&script, clients, &limits(lasting)).await?.figures)
    }

    async fn constants(&self, merchant: &Merchant) -> anyhow::Result<Constants> {
        let hex = "select encode(body, 'hex') from events where environment_id = $1 and event_type = $2 order by id limit 1";
        let body = async |event_type: &str| {
            let body = sqlx::query_scalar::<_, String>(hex).bind(merchant.environment).bind(event_type);
            body.fetch_one(&self.pool).await
        };
        let content = "select encode(convert_to(content::text, 'utf8'), 'hex') from inbox where environment_id = $1 order by id limit 1";
        let price = "select id::text from prices where environment_id = $1";
        let one = async |sql: &'static str| {
            sqlx::query_scalar::<_, String>(sql).bind(merchant.environment).fetch_one(&self.pool).await
        };
        Ok(Constants {
            initiated: body("checkout.session.initiated").await?,
            completed: body("checkout.session.completed").await?,
            content: one(content).await?,
            price: one(price).await?,
        })
    }

    async fn count(&self, merchant: &Merchant, status: &str) -> anyhow::Result<usize> {
        let count =
            "select count(*) from checkout_sessions where environment_id = $1 and checkout_status = $2";
        let count: i64 =
            sqlx::query_scalar(count).bind(merchant.environment).bind(status).fetch_one(&self.pool).await?;
        Ok(usize::try_from(count)?)
    }

    async fn run(&self, script: &str, clients: usize, limits: &[String]) -> anyhow::Result<Run> {
        // As the service finds them: it has been running for a while.
        self.pool.execute("analyze").await?;
        let (file, log) = (self.dir.join("floor.sql"), "floor-log");
        fs::write(&file, script)?;
        let base = self.next;
        let mut arguments: Vec<String> = ["-n", "-M", "prepared", "-l", "--log-prefix", log, "-D", "i=0"]
            .into_iter()
            .map(str::to_owned)
            .collect();
        arguments.extend(["-D".into(), format!("base={base}"), "-D".into(), format!("clients={clients}")]);
        arguments.extend(["-c".into(), clients.to_string(), "-j".into(), clients.min(2).to_string()]);
        arguments.extend(limits.iter().cloned());
        arguments.extend(["-f".into(), file.display().to_string(), self.url.clone()]);
        let ended = usage::ended_children(std::process::id());
        let child = processes::start(&self.pgbench, &arguments, &self.dir)?;
        let pid = child.id().context("pgbench has ended")?;
        sleep(WARM_UP).await;
        let warm = Utc::now().timestamp_micros();
        let mut before = self.cpu();
        before.pgbench = ended + usage::own(pid);
        processes::finish(&self.pgbench, child, LIMIT).await?;
        // What a server's process used is nowhere to be seen while it is on its way from the living to the ended ones.
        sleep(FAREWELL).await;
        let mut after = self.cpu();
        after.pgbench = usage::ended_children(std::process::id());
        let mut run = self.read_log(log, warm)?;
        run.figures = Figures::new(&run.outcome, after.since(before));
        Ok(run)
    }

    fn cpu(&self) -> Cpu {
        let (postgres, generator) = (usage::family(self.postmaster), usage::own(std::process::id()));
        Cpu { postgres, generator, machine: usage::machine(), ..Cpu::default() }
    }

    /// One line for each transaction: its client, its number, its microseconds, the script, and when it ended, in seconds
    /// and microseconds.
    fn read_log(&self, prefix: &str, warm: i64) -> anyhow::Result<Run> {
        let (mut run, mut by_client, mut last) = (Run::default(), BTreeMap::<u32, usize>::new(), warm);
        for entry in fs::read_dir(&self.dir)?.flatten() {
            if !entry.file_name().to_string_lossy().starts_with(prefix) {
                continue;
            }
            for line in fs::read_to_string(entry.path())?.lines() {
                let fields: Vec<_> = line.split(' ').collect();
                let [client, _, took, _, seconds, micros] = fields[..] else {
                    bail!("pgbench logged {line:?}")
                };
                *by_client.entry(client.parse()?).or_default() += 1;
                run.all += 1;
                let at = seconds.parse::<i64>()? * 1_000_000 + micros.parse::<i64>()?;
                if at > warm {
                    run.outcome.latencies.0.push(Duration::from_micros(took.parse()?));
                    last = last.max(at);
                }
            }
            fs::remove_file(entry.path())?;
        }
        ensure!(last > warm, "pgbench ended too early: give it more --seconds");
        run.outcome.elapsed = Duration::from_micros(u64::try_from(last - warm)?);
        run.each = by_client.values().copied().min().unwrap_or_default();
        Ok(run)
    }
}

/// How long pgbench is to run, what it is warmed up by included.
fn limits(lasting: Duration) -> [String; 2] {
    ["-T".to_owned(), (lasting + WARM_UP).as_secs().to_string()]
}
