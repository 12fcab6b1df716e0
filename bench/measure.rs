//! The measurements: each loads the service, then what it is compared with, and adds its lines to the report.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use checkoutd::checkout::SessionId;
use sqlx::types::Uuid;
use tokio::time::sleep;

use super::{
    backlog::add_backlog,
    floor::Floor,
    http::request,
    load::{Latencies, Outcome, Requests, closed_loop, open_loop},
    processes::Double,
    report::{Figures, Report, Row, milliseconds},
    scripts::Statement,
    traffic::{completions, creates, creates_once, polls},
    world::{Merchant, World},
};

const CLIENTS: [usize; 3] = [1, 8, 32];
/// Before each measurement, so that connections are there and statements are prepared.
const WARM_UP: Duration = Duration::from_secs(1);
/// More completions a second than there will be.
const MOST_COMPLETIONS_A_SECOND: usize = 2_000;
/// Events a second at which latencies are looked at.
const EVENTS_PER_SECOND: u32 = 50;
/// A backlog that takes longer is given up: the rate is known by then.
const MOST_DELIVERING: Duration = Duration::from_mins(1);
/// Sessions that polls are about, in turn.
const POLLED: usize = 500;

pub struct Bench {
    pub world: World,
    pub floor: Option<Floor>,
    pub report: Report,
    pub lasting: Duration,
    pub most_resident_mib: f64,
}

impl Bench {
    /// A load on the service, after a short one that is not counted.
    pub async fn load(&mut self, clients: usize, requests: &Arc<Requests>) -> anyhow::Result<Figures> {
        self.world.quiet().await?;
        self.measure_service(clients, requests).await
    }

    pub async fn measure_service(
        &mut self,
        clients: usize,
        requests: &Arc<Requests>,
    ) -> anyhow::Result<Figures> {
        let (address, pid) = (self.world.running()?.address, self.world.running()?.pid());
        let figures = self.measure(address, clients, requests).await?;
        let resident = super::usage::resident_mib(pid).unwrap_or_default();
        self.most_resident_mib = self.most_resident_mib.max(resident);
        Ok(figures)
    }

    async fn measure(
        &self,
        address: std::net::SocketAddr,
        clients: usize,
        requests: &Arc<Requests>,
    ) -> anyhow::Result<Figures> {
        closed_loop(address, clients, WARM_UP, requests).await?;
        let before = self.world.cpu();
        let outcome = closed_loop(address, clients, self.lasting, requests).await?;
        Ok(Figures::new(&outcome, self.world.cpu().since(before)))
    }

    fn add(&mut self, row: Row) {
        eprint!("{}", row.markdown());
        self.report.rows.push(row);
    }

    /// Adds a line with the floor beside it, which is measured now, while the service does not run.
    async fn add_beside(
        &mut self,
        mut row: Row,
        run: impl AsyncFnOnce(&mut Floor, usize, Duration) -> anyhow::Result<Figures>,
    ) -> anyhow::Result<()> {
        if let Some(mut floor) = self.floor.take() {
            self.world.stop_service().await?;
            let clients = row.clients.unwrap_or(1);
            row.beside = Some(run(&mut floor, clients, self.lasting).await.context("the floor")?);
            self.floor = Some(floor);
            self.world.start_service().await?;
        }
        self.add(row);
        Ok(())
    }

    /// `POST /v1/checkout/sessions`, for merchants with and without endpoints.
    pub async fn creates(&mut self) -> anyhow::Result<()> {
        for merchant in self.world.merchants.clone() {
            for clients in CLIENTS {
                self.world.forget_received().await?;
                let service = self.load(clients, &creates(&merchant)).await?;
                let received = self.world.received("/").await?.all;
                let share = self.lasting.as_secs_f64() / (self.lasting + WARM_UP).as_secs_f64();
                #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
                let delivered = received as f64 * share / self.lasting.as_secs_f64();
                let note = match merchant.endpoints {
                    0 => String::new(),
                    _ => format!("delivers {delivered:.0}/s meanwhile"),
                };
                self.world.drain().await?;
                let what = format!("create, {}", endpoints(&merchant));
                let row = Row { what, clients: Some(clients), service, beside: None, note };
                let floor = async |floor: &mut Floor, clients, lasting| {
                    floor.creates(&merchant, clients, lasting).await
                };
                self.add_beside(row, floor).await?;
            }
        }
        self.creates_beside_looks().await
    }

    /// Creates while the worker has looks at open sessions to make, more than its budget of reads allows.
    async fn creates_beside_looks(&mut self) -> anyhow::Result<()> {
        let (merchant, clients) = (self.world.merchants[0].clone(), 8);
        let due = self.world.unquiet().await?;
        let writes = self.world.writes().await?;
        let service = self.measure_service(clients, &creates(&merchant)).await?;
        let writes = self.world.writes().await? - writes;
        let what = "create, no endpoint, beside looks".to_owned();
        let note = format!("{due} open sessions are due for a look; {writes} commits meanwhile");
        self.add(Row { what, clients: Some(clients), service, beside: None, note });
        Ok(())
    }

    /// Razorpay's signed `payment_link.paid`, each of another pending session of one merchant.
    pub async fn completions(&mut self) -> anyhow::Result<()> {
        let merchant = self.world.merchants[0].clone();
        for clients in CLIENTS {
            let most =
                f64::from(u32::try_from(MOST_COMPLETIONS_A_SECOND)?) * (self.lasting + WARM_UP).as_secs_f64();
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few thousand")]
            let pending = self.pending(&merchant, most as usize).await?;
            let service = self.load(clients, &completions(&merchant, &pending)).await?;
            let what = "completion".to_owned();
            let row = Row { what, clients: Some(clients), service, beside: None, note: String::new() };
            let floor = async |floor: &mut Floor, clients, lasting| {
                floor.completions(&merchant, clients, lasting).await
            };
            self.add_beside(row, floor).await?;
        }
        Ok(())
    }

    /// So many pending sessions, made as far as they are not there.
    pub async fn pending(&self, merchant: &Merchant, count: usize) -> anyhow::Result<Vec<SessionId>> {
        loop {
            let pending = self.world.sessions(merchant, "pending", count).await?;
            if pending.len() >= count {
                return Ok(pending);
            }
            let missing = creates_once(merchant, count - pending.len());
            closed_loop(self.world.running()?.address, 8, Duration::from_mins(2), &missing).await?;
        }
    }

    /// `GET` of sessions that are completed, and of pending ones; the first also beside a bare server.
    pub async fn polls(&mut self) -> anyhow::Result<()> {
        let merchant = self.world.merchants[0].clone();
        if self.world.sessions(&merchant, "completed", POLLED).await?.len() < POLLED {
            let pending = self.pending(&merchant, POLLED).await?;
            let requests = completions(&merchant, &pending);
            closed_loop(self.world.running()?.address, 8, Duration::from_mins(1), &requests).await?;
        }
        self.pending(&merchant, POLLED).await?;
        for status in ["completed", "pending"] {
            let sessions = self.world.sessions(&merchant, status, POLLED).await?;
            for clients in CLIENTS {
                let service = self.load(clients, &polls(&merchant, &sessions)).await?;
                let what = format!("poll, {status}");
                let row = Row { what, clients: Some(clients), service, beside: None, note: String::new() };
                let floor = async |floor: &mut Floor, clients, lasting| {
                    floor.polls(&merchant, clients, lasting).await
                };
                self.add_beside(row, floor).await?;
            }
        }
        self.beside_bare(&merchant).await
    }

    async fn beside_bare(&mut self, merchant: &Merchant) -> anyhow::Result<()> {
        let sessions = self.world.sessions(merchant, "completed", POLLED).await?;
        let statement = Statement::read("checkout.find")?.text;
        let url = self.world.database_url();
        let double = Double::start(&["bare", "--database-url", &url, "--statement", &statement]).await?;
        let address = double.address;
        self.world.bare = Some(double);
        let path = |id: &SessionId| format!("/{}/{}", merchant.environment, Uuid::from(*id));
        let reads = sessions.iter().map(|id| request("GET", &path(id), "", b"")).collect();
        let reads = Requests::in_turn(reads, 200);
        for clients in CLIENTS {
            let service = self.load(clients, &polls(merchant, &sessions)).await?;
            let beside = Some(self.measure(address, clients, &reads).await?);
            let (what, note) = ("poll, completed".to_owned(), "beside a bare axum handler".to_owned());
            self.add(Row { what, clients: Some(clients), service, beside, note });
        }
        self.world.bare = None;
        Ok(())
    }

    /// Creates that come at a rate of their own.
    pub async fn open(&mut self, per_second: u32) -> anyhow::Result<()> {
        let merchant = self.world.merchants[1].clone();
        let service = self.steadily(&merchant, per_second).await?;
        let what = format!("create, 1 endpoint, open loop at {per_second}/s");
        self.add(Row { what, clients: None, service, beside: None, note: "from when it was due".into() });
        Ok(())
    }

    /// From the commit of an event to its receipt.
    pub async fn latency(&mut self) -> anyhow::Result<()> {
        let merchant = self.world.merchants[1].clone();
        self.steadily(&merchant, EVENTS_PER_SECOND).await?;
        let latencies = Latencies(self.world.commit_to_receipt().await?);
        let (p50, p99) = (milliseconds(latencies.at(0.5)), milliseconds(latencies.at(0.99)));
        let count = latencies.0.len();
        self.report.single(
            format!("from commit to receipt, {EVENTS_PER_SECOND} events/s"),
            format!("p50 {p50} ms, p99 {p99} ms, of {count}"),
        );
        Ok(())
    }

    async fn steadily(&mut self, merchant: &Merchant, per_second: u32) -> anyhow::Result<Figures> {
        self.world.quiet().await?;
        let (address, requests) = (self.world.running()?.address, creates(merchant));
        open_loop(address, per_second, Duration::from_secs(1), &requests).await?;
        self.world.drain().await?;
        self.world.forget_received().await?;
        let before = self.world.cpu();
        let outcome =
            open_loop(address, per_second, self.lasting.max(Duration::from_secs(10)), &requests).await?;
        let figures = Figures::new(&outcome, self.world.cpu().since(before));
        self.world.drain().await?;
        Ok(figures)
    }

    /// Deliveries that are due when the service starts, until each is received and its result is durable.
    pub async fn deliveries(&mut self, events: usize) -> anyhow::Result<()> {
        for merchant in self.world.merchants.clone().iter().filter(|merchant| merchant.endpoints > 0) {
            let (service, note) = self.deliver(merchant, 0, events).await?;
            let what = format!("delivery, {}", endpoints(merchant));
            self.add(Row { what, clients: None, service, beside: None, note });
        }
        Ok(())
    }

    /// One merchant's; `round` tells them from those before. The service runs afterwards.
    pub async fn deliver(
        &mut self,
        merchant: &Merchant,
        round: usize,
        events: usize,
    ) -> anyhow::Result<(Figures, String)> {
        let due = events * merchant.endpoints;
        self.world.stop_service().await?;
        self.world.quiet().await?;
        add_backlog(&self.world.pool, merchant, round, events).await?;
        self.world.forget_received().await?;
        let (before, writes) = (self.world.cpu(), self.world.writes().await?);
        self.world.start_service().await?;
        let begun = Instant::now();
        while begun.elapsed() < MOST_DELIVERING && self.world.received("/").await?.distinct < due {
            sleep(Duration::from_millis(50)).await;
        }
        if self.world.received("/").await?.distinct == due {
            self.world.drain().await?;
        }
        let (tail, cpu) = (begun.elapsed(), self.world.cpu().since(before));
        let (writes, received) = (self.world.writes().await? - writes, self.world.received("/").await?);
        let count = received.distinct;
        let lasted = Duration::from_micros(received.lasted_us);
        let outcome = Outcome { latencies: Latencies(vec![Duration::ZERO; count]), elapsed: lasted };
        let service = Figures { p50: None, p99: None, ..Figures::new(&outcome, cpu) };
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
        let commits = writes as f64 / count as f64;
        let note = format!(
            "{count} of {due} in {:.1} s from the start; {commits:.3} commits each; {} received twice",
            tail.as_secs_f64(),
            received.all - count,
        );
        self.world.cancel_deliveries().await?;
        Ok((service, note))
    }

    /// One session of each merchant that goes all the way, for the floor's values to be taken from.
    pub async fn models(&self) -> anyhow::Result<()> {
        for merchant in &self.world.merchants {
            let pending = self.pending(merchant, 1).await?;
            let address = self.world.running()?.address;
            closed_loop(address, 1, Duration::from_secs(10), &completions(merchant, &pending)).await?;
        }
        self.world.drain().await
    }
}

fn endpoints(merchant: &Merchant) -> String {
    match merchant.endpoints {
        0 => "no endpoint".to_owned(),
        1 => "1 endpoint".to_owned(),
        count => format!("{count} endpoints"),
    }
}
