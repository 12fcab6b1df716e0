use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::pending;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tracing_subscriber::layer::SubscriberExt;

use super::*;
use crate::{
    app::{Given, Pools},
    config::Config,
    db,
    kit::{clock::Clock, ids::Ids},
    metrics::{CountAlerts, Metrics},
};

/// Short for what is meant to stall, and longer than anything takes for what is not.
fn limits(script: Script) -> Limits {
    let (short, long) = (Duration::from_millis(300), Duration::from_secs(20));
    let limit = |stalls| if stalls { short } else { long };
    Limits {
        claim: limit(matches!(script, Script::ClaimHangs)),
        step: limit(matches!(script, Script::StepHangs)),
        drain: short,
    }
}

/// Parts that nothing is asked of: no database is there.
fn app() -> App {
    let clock = Clock::system();
    let ids = Ids::seeded(1, clock.clone());
    let pool = db::connect(&"postgres://nobody@127.0.0.1:1/none".into(), 1).expect("a URL");
    let config = Config::from_lookup(|_| None).expect("defaults");
    let given = Given {
        pools: Pools::shared(pool),
        clock,
        ids,
        encryption_key: "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".into(),
        metrics: Metrics::detached().0,
        config,
    };
    App::new(given).expect("parts")
}

#[derive(Clone, Copy)]
enum Script {
    ClaimHangs,
    ClaimPanics,
    StepHangs,
}

/// What is written happens once, the first time; then one row is due.
struct Scripted {
    script: Script,
    claims: AtomicUsize,
    done: UnboundedSender<()>,
}

struct Row(usize);

impl Leased for Row {
    fn token(&self) -> Uuid {
        Uuid::from_u128(self.0 as u128)
    }
}

impl Job for Scripted {
    type Lease = Row;
    const WORK: Work = Work::Refunds;
    const SLOTS: usize = 1;
    const POLL: Duration = Duration::from_millis(1);

    async fn claim(&self, _: &App, free: usize) -> anyhow::Result<Vec<Row>> {
        if free == 0 {
            return Ok(Vec::new());
        }
        let number = self.claims.fetch_add(1, Ordering::Relaxed);
        match (number, self.script) {
            (0, Script::ClaimHangs) => pending().await,
            (0, Script::ClaimPanics) => panic!("as the script says"),
            (0 | 1, _) => Ok(vec![Row(number)]),
            _ => Ok(Vec::new()),
        }
    }

    async fn step(&self, _: &App, row: Row) -> anyhow::Result<()> {
        if row.0 == 0 {
            pending::<()>().await;
        }
        self.done.send(())?;
        Ok(())
    }

    async fn release(&self, _: &App, tokens: &[Uuid]) -> anyhow::Result<()> {
        assert_eq!(tokens, [Uuid::nil()], "what still hangs");
        self.done.send(())?;
        Ok(())
    }
}

/// Runs the driver until the second row's step is done and it has stopped; the alerts that it raised, and how often
/// something was done.
async fn play(script: Script) -> (String, usize) {
    let (metrics, recorder) = Metrics::detached();
    drop(metrics);
    let _counting = ::metrics::set_default_local_recorder(&recorder);
    let _logging = tracing::subscriber::set_default(tracing_subscriber::registry().with(CountAlerts));
    let (done, mut told) = unbounded_channel();
    let job = Scripted { script, claims: AtomicUsize::new(0), done };
    let shutdown = CancellationToken::new();
    let driving = drive_within(limits(script), app(), job, shutdown.clone());
    let mut count = 0;
    let watching = async {
        tokio::select! {
            _ = told.recv() => count += 1,
            () = tokio::time::sleep(Duration::from_secs(20)) => panic!("the worker stands still"),
        }
        shutdown.cancel();
    };
    // A driver that never returns must fail the test, too.
    tokio::select! {
        _ = futures::future::join(driving, watching) => {}
        () = tokio::time::sleep(Duration::from_secs(30)) => panic!("the worker does not stop"),
    }
    while told.try_recv().is_ok() {
        count += 1;
    }
    let text = recorder.handle().render();
    let alerts: Vec<_> = text.lines().filter(|line| line.starts_with("checkoutd_alerts_total")).collect();
    (alerts.join("\n"), count)
}

#[tokio::test]
async fn a_claim_that_never_ends_is_left_behind() {
    let (alerts, done) = play(Script::ClaimHangs).await;
    assert_eq!((&*alerts, done), ("checkoutd_alerts_total{alert=\"worker_stalled\"} 1", 1));
}

#[tokio::test]
async fn a_claim_that_panics_does_not_end_the_worker() {
    let (alerts, done) = play(Script::ClaimPanics).await;
    assert_eq!((&*alerts, done), ("checkoutd_alerts_total{alert=\"claim_panicked\"} 1", 1));
}

#[tokio::test]
async fn a_step_that_never_ends_gives_its_slot_back_and_its_lease_at_the_end() {
    let (alerts, done) = play(Script::StepHangs).await;
    assert_eq!((&*alerts, done), ("checkoutd_alerts_total{alert=\"step_stalled\"} 1", 2));
}
