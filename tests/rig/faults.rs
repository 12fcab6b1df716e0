//! The schedule of faults: one loop for each kind, each with dice of its own.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use checkoutd::sandbox::{FaultKind, FaultRule, Faults, Op, RefundStatus, WebhookFaults};
use tokio::{task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    args::Fault,
    dice::Dice,
    replica::Order,
    tcpfault::{Loss, TcpFault},
    world::World,
};

/// Starts every loop that was asked for; they end soon after `over`.
pub fn start(world: &Arc<World>, over: &CancellationToken) -> JoinSet<()> {
    let mut loops = JoinSet::new();
    let dice = |name| Dice::new(world.args.seed, name, 0);
    let mut run = |wanted: bool, work: futures::future::BoxFuture<'static, ()>| {
        if wanted {
            let over = over.clone();
            // Each loop is left where it waits; what it had changed is put right by `World::calm`.
            loops.spawn(async move {
                tokio::select! {
                    () = work => {}
                    () = over.cancelled() => {}
                }
            });
        }
    };
    let args = &world.args;
    let own = || Arc::clone(world);
    run(args.has(Fault::Kill), Box::pin(kill(own(), dice("kill"))));
    run(args.has(Fault::Term), Box::pin(term(own(), dice("term"))));
    run(args.has(Fault::Terminate), Box::pin(terminate(own(), dice("terminate"))));
    run(args.has(Fault::Proxy), Box::pin(database_proxy(own(), dice("proxy"))));
    run(args.has(Fault::Front), Box::pin(front(own(), dice("front"))));
    let razorpay = Razorpay {
        api: args.has(Fault::Sandbox),
        webhooks: args.has(Fault::Webhooks),
        api_dice: dice("sandbox"),
        webhook_dice: dice("webhooks"),
    };
    run(razorpay.api || razorpay.webhooks, Box::pin(razorpay.run(own())));
    if args.has(Fault::Postgres) {
        // Never left half-way: a server that is down must come up again.
        let (world, dice, over) = (own(), dice("postgres"), over.clone());
        loops.spawn(async move { postgres(world, dice, over).await });
    }
    loops
}

async fn kill(world: Arc<World>, mut dice: Dice) {
    loop {
        sleep(dice.between_ms(200, 2_600)).await;
        world.order(dice.index(world.replicas.len()), Order::Kill);
    }
}

async fn term(world: Arc<World>, mut dice: Dice) {
    loop {
        sleep(dice.between_ms(6_000, 20_000)).await;
        world.order(dice.index(world.replicas.len()), Order::Term);
    }
}

async fn postgres(world: Arc<World>, mut dice: Dice, over: CancellationToken) {
    loop {
        tokio::select! {
            () = sleep(dice.between_ms(5_000, 16_000)) => {}
            () = over.cancelled() => return,
        }
        match world.postgres.crash_and_restart().await {
            Ok(()) => {
                world.tally.count("Postgres restarts, immediate");
                recovery(&world).await;
            }
            Err(error) => {
                world.tally.problem(format!("Postgres could not be restarted: {error:#}"));
                return;
            }
        }
    }
}

/// From Postgres's return to the service's.
async fn recovery(world: &World) {
    let back = Instant::now();
    while !world.client.is_ready().await && back.elapsed() < Duration::from_secs(15) {
        sleep(Duration::from_millis(10)).await;
    }
    world.tally.recovered(back.elapsed());
}

async fn terminate(world: Arc<World>, mut dice: Dice) {
    loop {
        sleep(dice.between_ms(1_500, 6_000)).await;
        let count = i64::try_from(1 + dice.below(6)).unwrap_or(1);
        // Postgres may be down at this moment.
        if let Ok(ended) = world.postgres.terminate(count).await {
            world.tally.count_many("database sessions terminated", u64::try_from(ended).unwrap_or_default());
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Break {
    ResetAll,
    ResetOne,
    Delay,
    Silence,
    CutAnswer,
    LoseCommits,
    LoseRequests,
}

async fn database_proxy(world: Arc<World>, mut dice: Dice) {
    let choices = [
        (1, Break::ResetAll),
        (3, Break::ResetOne),
        (2, Break::Delay),
        (1, Break::Silence),
        (2, Break::CutAnswer),
        (6, Break::LoseCommits),
        (3, Break::LoseRequests),
    ];
    loop {
        sleep(dice.between_ms(200, 2_000)).await;
        let what = dice.weighted(&choices);
        world.tally.count(format!("database network: {what:?}"));
        break_network(&world.database_proxy, what, &mut dice).await;
    }
}

async fn front(world: Arc<World>, mut dice: Dice) {
    let choices = [(1, Break::ResetAll), (6, Break::ResetOne), (2, Break::CutAnswer)];
    loop {
        sleep(dice.between_ms(300, 3_000)).await;
        let what = dice.weighted(&choices);
        world.tally.count(format!("clients' network: {what:?}"));
        break_network(&world.front, what, &mut dice).await;
    }
}

async fn break_network(proxy: &TcpFault, what: Break, dice: &mut Dice) {
    match what {
        Break::ResetAll => {
            proxy.reset_all();
        }
        Break::ResetOne => {
            proxy.reset_one(dice.index(1 << 16));
        }
        Break::Delay => {
            proxy.delay(dice.between_ms(10, 120));
            sleep(dice.between_ms(300, 2_000)).await;
            proxy.delay(Duration::ZERO);
        }
        Break::Silence => {
            proxy.black_hole(true);
            sleep(dice.between_ms(200, 3_000)).await;
            // Half of the time nothing is ever heard again of those connections.
            if dice.percent(50) {
                proxy.reset_all();
            }
            proxy.black_hole(false);
        }
        Break::CutAnswer => proxy.cut_after(dice.index(600)),
        Break::LoseCommits => {
            proxy.lose_answers(u32::try_from(1 + dice.below(3)).unwrap_or(1), Loss::Commit);
        }
        Break::LoseRequests => {
            proxy.lose_answers(u32::try_from(1 + dice.below(2)).unwrap_or(1), Loss::Request);
        }
    }
}

/// Razorpay's double takes all its faults at once, so one loop sets those of the API and of the webhooks.
struct Razorpay {
    api: bool,
    webhooks: bool,
    api_dice: Dice,
    webhook_dice: Dice,
}

impl Razorpay {
    async fn run(mut self, world: Arc<World>) {
        let mut webhooks = WebhookFaults::default();
        let (mut weather_left, mut faults_left) = (0, 0);
        loop {
            if self.webhooks && weather_left == 0 {
                webhooks = self.webhook_weather(&world);
                weather_left = 4 + self.webhook_dice.below(20);
            }
            let mut faults = Faults { webhooks: webhooks.clone(), ..Faults::default() };
            if self.api {
                self.api_faults(&world, &mut faults);
                faults_left = 1 + self.api_dice.below(3);
            }
            {
                // Whoever pays and needs a webhook waits for this.
                let mut on = world.webhooks_on.write().await;
                world.sandbox.set_faults(faults);
                *on = webhooks.enabled;
            }
            let pause = faults_left.max(1);
            sleep(Duration::from_millis(150 * pause)).await;
            weather_left = weather_left.saturating_sub(pause);
        }
    }

    fn webhook_weather(&mut self, world: &World) -> WebhookFaults {
        let dice = &mut self.webhook_dice;
        let fine = WebhookFaults::default();
        let (name, weather) = match dice.below(10) {
            0..=3 => ("fine", fine),
            4 => (
                "delayed",
                WebhookFaults { delay_ms: 100 + i64::try_from(dice.below(4_000)).unwrap_or(0), ..fine },
            ),
            5 => ("doubled", WebhookFaults { duplicate: true, ..fine }),
            6 => ("reordered", WebhookFaults { delay_ms: 300, reorder: true, ..fine }),
            7 => {
                let delay_ms = 100 + i64::try_from(dice.below(2_000)).unwrap_or(0);
                (
                    "doubled, reordered and delayed",
                    WebhookFaults { delay_ms, duplicate: true, reorder: true, ..fine },
                )
            }
            _ => ("lost", WebhookFaults { enabled: false, ..fine }),
        };
        world.tally.count(format!("webhooks for a while: {name}"));
        weather
    }

    /// A handful of calls that go wrong.
    fn api_faults(&mut self, world: &World, faults: &mut Faults) {
        let dice = &mut self.api_dice;
        for _ in 0..dice.below(4) {
            let (op, kind) = api_fault(dice);
            world.tally.count(format!("Razorpay {op:?}: {}", name_of(&kind)));
            faults.rules.push(FaultRule::times(u32::try_from(1 + dice.below(2)).unwrap_or(1), op, kind));
        }
        if dice.percent(15) {
            faults.list_lag_ms = i64::try_from(500 + dice.below(4_000)).unwrap_or(0);
            world.tally.count("Razorpay: list lags");
        }
        match dice.below(20) {
            0..6 => {
                faults.refund_outcome = RefundStatus::Pending;
                world.tally.count("Razorpay: refunds take their time");
            }
            6..8 => {
                faults.refund_outcome = RefundStatus::Failed;
                world.tally.count("Razorpay: refunds fail");
            }
            _ => {}
        }
    }
}

const OPS: [(u64, Op); 8] = [
    (10, Op::CreateLink),
    (3, Op::FetchLink),
    (3, Op::ListLinks),
    (5, Op::CancelLink),
    (3, Op::FetchPayment),
    (1, Op::OrderPayments),
    (4, Op::Refund),
    (1, Op::FetchRefund),
];

fn api_fault(dice: &mut Dice) -> (Op, FaultKind) {
    let op = dice.weighted(&OPS);
    let status = |code, retry_after| FaultKind::Status { code, body: None, retry_after };
    let kind = match dice.below(20) {
        0..=3 => FaultKind::TimeoutAfter,
        4..=7 => FaultKind::ResetAfter,
        8..=9 => FaultKind::Malformed,
        10 => FaultKind::TimeoutBefore,
        11..=12 => status(429, dice.percent(50).then_some(1)),
        13 => status(500, None),
        14 => status(502, None),
        15..=16 => status(503, None),
        // A link that is not what was asked for; of a payment that would be a lie nobody can see through.
        17 if op == Op::CreateLink => FaultKind::OtherAmount,
        _ => FaultKind::DelayMs { delay_ms: 50 + dice.below(2_500) },
    };
    (op, kind)
}

fn name_of(kind: &FaultKind) -> String {
    match kind {
        FaultKind::Status { code, .. } => format!("answers {code}"),
        FaultKind::DelayMs { .. } => "late".to_owned(),
        other => format!("{other:?}"),
    }
}
