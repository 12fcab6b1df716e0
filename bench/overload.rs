//! Three times the creates that the service can bear, for a minute, and what becomes of everything else meanwhile.

use std::time::{Duration, Instant};

use sqlx::types::Uuid;
use tokio::time::sleep;

use super::{
    load::{self, Latencies, Offered, Outcome, closed_loop, open_loop_apart, open_loop_or},
    measure::Bench,
    report::milliseconds,
    traffic::{completions, creates},
    usage,
    world::Merchant,
};

const LASTING: Duration = Duration::from_mins(1);
/// As many creates as it can bear, before.
const CAPACITY_LASTING: Duration = Duration::from_secs(15);
/// Completions a second, before and meanwhile.
const COMPLETIONS: u32 = 20;
/// Sessions whose deadline comes in the middle of it.
const EXPIRING: usize = 300;
const REFUSED: u16 = 503;
const CLIENTS: usize = 32;

impl Bench {
    /// # Errors
    /// An answer that is neither 201 nor 503, or a completion that fails.
    pub async fn overload(&mut self) -> anyhow::Result<()> {
        let merchant = self.world.merchants[0].clone();
        self.world.quiet().await?;
        let address = self.world.running()?.address;
        let count = usize::try_from(LASTING.as_secs())? * COMPLETIONS as usize;
        let pending = self.pending(&merchant, 2 * count + EXPIRING).await?;
        let (before, rest) = pending.split_at(count);
        let (during, expiring) = rest.split_at(count);
        let capacity = self.load(CLIENTS, &creates(&merchant)).await?.per_second;
        self.world.quiet().await?;
        let unloaded =
            open_loop_apart(address, COMPLETIONS, LASTING, &completions(&merchant, before)).await?;
        let resting = self.resident()?;

        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "hundreds")]
        let (bearable, rate) = (capacity as u32, (capacity * 3.0) as u32);
        let (flood, paid) = (creates(&merchant), completions(&merchant, during));
        // By as many connections: what these cost is no growth.
        let (_, resident) = tokio::try_join!(
            open_loop_or(address, bearable, CAPACITY_LASTING, &flood, REFUSED),
            self.most_resident(CAPACITY_LASTING),
        )?;
        let expiring: Vec<Uuid> = expiring.iter().map(|id| Uuid::from(*id)).collect();
        let (flooded, completed, expired_after, most_resident) = tokio::try_join!(
            open_loop_or(address, rate, LASTING, &flood, REFUSED),
            open_loop_apart(address, COMPLETIONS, LASTING, &paid),
            self.expire(&merchant, &expiring),
            self.most_resident(LASTING),
        )?;
        let after = closed_loop(address, CLIENTS, self.lasting, &creates(&merchant)).await?.per_second();
        self.tell(capacity, &unloaded, &flooded, &completed, after);
        let growth = (most_resident / resident - 1.0) * 100.0;
        let report = &mut self.report;
        report.single(
            "overload: resident memory",
            format!(
                "{resting:.1} MiB before; at most {resident:.1} MiB at the capacity, {most_resident:.1} MiB at three times that ({growth:+.0} %), each by {} connections",
                load::open_connections(rate),
            ),
        );
        report.single(
            "overload: sessions past their deadline",
            format!("the last of {EXPIRING} expired after {:.1} s", expired_after.as_secs_f64()),
        );
        Ok(())
    }

    fn tell(
        &mut self,
        capacity: f64,
        unloaded: &Outcome,
        flooded: &Offered,
        completed: &Outcome,
        after: f64,
    ) {
        let Offered { per_second: offered, taken, refused } = flooded;
        let report = &mut self.report;
        report.single(
            "overload: creates",
            format!(
                "{offered}/s offered, {:.0}/s taken (p99 {} ms), {:.0}/s refused (p99 {} ms); {capacity:.0}/s before, {after:.0}/s right after",
                taken.per_second(),
                milliseconds(taken.latencies.at(0.99)),
                refused.per_second(),
                milliseconds(refused.latencies.at(0.99)),
            ),
        );
        let of = |latencies: &Latencies, share| milliseconds(latencies.at(share));
        report.single(
            format!("overload: completions, {COMPLETIONS}/s"),
            format!(
                "p50 {} ms, p99 {} ms; without load p50 {} ms, p99 {} ms",
                of(&completed.latencies, 0.5),
                of(&completed.latencies, 0.99),
                of(&unloaded.latencies, 0.5),
                of(&unloaded.latencies, 0.99),
            ),
        );
    }

    /// Lets the deadline of these sessions pass in the middle of it; how long it takes until all are expired.
    async fn expire(&self, merchant: &Merchant, sessions: &[Uuid]) -> anyhow::Result<Duration> {
        sleep(LASTING / 3).await;
        self.world.pass_deadlines(merchant, sessions).await?;
        self.world.until_ended(merchant, sessions).await
    }

    async fn most_resident(&self, lasting: Duration) -> anyhow::Result<f64> {
        let (begun, mut most) = (Instant::now(), 0.0_f64);
        while begun.elapsed() < lasting {
            most = most.max(self.resident()?);
            sleep(Duration::from_millis(500)).await;
        }
        Ok(most)
    }

    fn resident(&self) -> anyhow::Result<f64> {
        Ok(usage::resident_mib(self.world.running()?.pid()).unwrap_or_default())
    }
}
