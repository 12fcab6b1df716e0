//! The same work in a database of ten thousand sessions and in one of millions.

use std::{
    fmt::Write,
    time::{Duration, Instant},
};

use anyhow::ensure;
use checkoutd::checkout::SessionId;
use sqlx::types::Uuid;

use super::{
    copies::{self, Copies},
    load::closed_loop,
    measure::Bench,
    traffic::{completions, creates, polls},
    world::Merchant,
};

/// The copy of the service's database that grows.
pub const DATABASE: &str = "grown";
/// Sessions of the other one, when it begins.
const FEW: usize = 10_000;
const CLIENTS: usize = 8;
/// One after the other, small and grown in turn, so that what else the machine does meets both.
const ROUNDS: usize = 5;
/// As Postgres's manual recommends: a quarter of the memory. With what it has by default not even the inner pages of the
/// indexes fit.
pub const SHARED_BUFFERS: &str = "6GB";
const COMPLETIONS: usize = 1_500;
const POLLED: usize = 5_000;
const EXPIRING: usize = 1_000;
const DUE_EVENTS: usize = 20_000;
const LIMIT: Duration = Duration::from_mins(2);

const WHAT: [&str; 5] = ["creates", "completions", "polls", "deliveries", "expiry of sessions"];

/// A rate of each of [`WHAT`], a second.
type Rates = [f64; WHAT.len()];

impl Bench {
    /// Must come first: the only session of the merchant with an endpoint is what is copied.
    pub async fn growth(&mut self, sessions: usize) -> anyhow::Result<()> {
        ensure!(sessions > FEW, "more than {FEW} sessions");
        let buffers: String = sqlx::query_scalar("select current_setting('shared_buffers')")
            .fetch_one(&self.world.pool)
            .await?;
        ensure!(
            buffers == SHARED_BUFFERS,
            "Postgres has {buffers} of shared buffers, and not {SHARED_BUFFERS}"
        );
        let merchant = self.world.merchants[1].clone();
        // How fast sessions expire is not to be what the service asks of Razorpay a second.
        self.world.set("CHECKOUTD_PROVIDER_READS_PER_SECOND", "1000");
        self.world.stop_service().await?;
        let copies = Copies::new(&self.world.pool, &merchant, sessions).await?;
        copies.insert_youngest(&self.world.pool, FEW).await?;
        self.world.copy_to(DATABASE).await?;
        self.world.turn_to(Some(DATABASE)).await?;
        let begun = Instant::now();
        copies.insert_others(&self.world.pool, FEW).await?;
        let size: String = sqlx::query_scalar("select pg_size_pretty(pg_database_size(current_database()))")
            .fetch_one(&self.world.pool)
            .await?;
        let took = begun.elapsed().as_secs();
        eprintln!("{sessions} sessions: {size}, loaded in {took} s");

        let mut rounds = [Vec::new(), Vec::new()];
        for round in 0..ROUNDS {
            // Each is the first as often as the other.
            for place in [round % 2, 1 - round % 2] {
                self.world.turn_to([None, Some(DATABASE)][place]).await?;
                let rates = self.rates(&merchant, round).await?;
                eprintln!("round {round}, {}: {rates:.0?}", ["few", "many"][place]);
                rounds[place].push(rates);
            }
        }
        self.world.drop_copy(DATABASE).await?;
        self.world.start_service().await?;
        self.report.tables.push(table(&rounds, sessions, &size));
        Ok(())
    }

    /// Begins and ends without the service.
    async fn rates(&mut self, merchant: &Merchant, round: usize) -> anyhow::Result<Rates> {
        self.world.start_service().await?;
        let before = self.world.log_bytes().await?;
        let created = self.load(CLIENTS, &creates(merchant)).await?;
        self.world.drain().await?;
        let logged = (self.world.log_bytes().await? - before) / i64::try_from(created.count.max(1))?;
        eprintln!("about {logged} bytes of log for each create");
        let created = created.per_second;

        let pending = self.pending(merchant, COMPLETIONS + EXPIRING).await?;
        let (paid, unpaid) = pending.split_at(COMPLETIONS);
        self.world.quiet().await?;
        let address = self.world.running()?.address;
        let completed = closed_loop(address, CLIENTS, LIMIT, &completions(merchant, paid)).await?;
        ensure!(completed.count() == paid.len(), "completions take too long");
        self.world.drain().await?;

        let polled = copies::completed(&self.world.pool, merchant, POLLED).await?;
        let polled: Vec<_> = polled.into_iter().map(SessionId::from).collect();
        let polled = self.load(CLIENTS, &polls(merchant, &polled)).await?.per_second;

        let unpaid: Vec<_> = unpaid.iter().map(|id| Uuid::from(*id)).collect();
        let expired = self.expire_all(merchant, &unpaid).await?;
        let (delivered, _) = self.deliver(merchant, round, DUE_EVENTS).await?;
        self.world.stop_service().await?;
        Ok([created, completed.per_second(), polled, delivered.per_second, expired])
    }

    /// How many sessions a second end at their deadline.
    async fn expire_all(&mut self, merchant: &Merchant, sessions: &[Uuid]) -> anyhow::Result<f64> {
        self.world.stop_service().await?;
        self.world.quiet().await?;
        self.world.pass_deadlines(merchant, sessions).await?;
        self.world.start_service().await?;
        let elapsed = self.world.until_ended(merchant, sessions).await?;
        self.world.drain().await?;
        #[expect(clippy::cast_precision_loss, reason = "a thousand")]
        let per_second = sessions.len() as f64 / elapsed.as_secs_f64();
        Ok(per_second)
    }
}

/// Medians of all rounds, and of the ratios of each.
fn table([few, many]: &[Vec<Rates>; 2], sessions: usize, size: &str) -> String {
    let mut text = format!(
        "\n{sessions} sessions are {size}; Postgres with {SHARED_BUFFERS} of shared buffers; medians of {ROUNDS} rounds.\n\n\
         | a second | {FEW} sessions | {sessions} sessions | ratio | of the rounds |\n|---|--:|--:|--:|---|\n"
    );
    for (place, what) in WHAT.iter().enumerate() {
        let of = |rounds: &[Rates]| rounds.iter().map(|rates| rates[place]).collect::<Vec<_>>();
        let (few, many) = (of(few), of(many));
        let ratios: Vec<_> = many.iter().zip(&few).map(|(many, few)| many / few).collect();
        let each: Vec<_> = ratios.iter().map(|ratio| format!("{ratio:.2}")).collect();
        let (few, many, ratio) = (median(few), median(many), median(ratios));
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| {what} | {few:.0} | {many:.0} | **{ratio:.2}** | {} |", each.join(", "));
    }
    text
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
