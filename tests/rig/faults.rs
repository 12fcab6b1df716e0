//! The schedule of faults: one loop for each kind, each with dice of its own.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    args::Fault,
    dice::Dice,
    razorpay::Razorpay,
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
