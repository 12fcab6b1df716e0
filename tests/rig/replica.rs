//! One process of the service, started again whenever it ends.

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use tokio::{
    process::{Child, Command},
    sync::mpsc,
    task::JoinHandle,
};

use crate::{
    postgres::Postgres,
    processes::{Reaper, append, signal},
    tally::Tally,
};

/// A process gets this long to end after SIGTERM.
const TERM_LIMIT: Duration = Duration::from_secs(15);

/// One question whether it is ready.
const PROBE_LIMIT: Duration = Duration::from_millis(500);

/// What all replicas share.
pub struct Service {
    pub binary: PathBuf,
    pub logs: PathBuf,
    pub variables: Vec<(&'static str, String)>,
    pub reaper: Reaper,
    pub tally: Arc<Tally>,
    pub postgres: Arc<Postgres>,
    /// Whether a process may fail to start because its database cannot be reached.
    pub database_fails: bool,
    /// Asks whether replicas are ready. One for all: to build one takes longer than a replica's start.
    pub probe: reqwest::Client,
}

impl Service {
    /// The binary with the configuration of this run; its errors go to the log.
    pub fn command(&self, log: &str) -> anyhow::Result<Command> {
        let mut command = Command::new(&self.binary);
        command.env_clear().envs(self.variables.iter().cloned());
        let path = self.logs.join(log);
        command.stdin(Stdio::null()).stderr(append(&path)?).kill_on_drop(true).process_group(0);
        Ok(command)
    }
}

/// What can be done to a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// SIGKILL, and start again at once.
    Kill,
    /// SIGTERM, wait for the end, start again.
    Term,
    /// SIGTERM, for good.
    Stop,
}

pub struct Replica {
    orders: mpsc::Sender<Order>,
    supervisor: JoinHandle<()>,
}

impl Replica {
    pub fn start(service: Arc<Service>, number: usize, addr: SocketAddr) -> Self {
        let (orders, received) = mpsc::channel(4);
        let supervisor = Supervisor { service, number, addr, ran: 0 };
        Self { orders, supervisor: tokio::spawn(supervisor.run(received)) }
    }

    /// Passes an order on, unless several wait already.
    pub fn order(&self, order: Order) {
        let _ = self.orders.try_send(order);
    }

    pub async fn stop(self) {
        let _ = self.orders.send(Order::Stop).await;
        let _ = self.supervisor.await;
    }
}

struct Supervisor {
    service: Arc<Service>,
    number: usize,
    addr: SocketAddr,
    ran: u32,
}

enum End {
    Ordered,
    Stopped,
    Itself,
}

impl Supervisor {
    async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        loop {
            let started = Instant::now();
            let mut child = match self.spawn() {
                Ok(child) => child,
                Err(error) => {
                    self.service
                        .tally
                        .problem(format!("replica {} cannot be started: {error:#}", self.number));
                    return;
                }
            };
            self.ran += 1;
            let pid = child.id().unwrap_or_default();
            self.service.reaper.watch(pid);
            let end = self.attend(&mut child, pid, started, &mut orders).await;
            self.service.reaper.forget(pid);
            match end {
                End::Stopped => return,
                End::Ordered => {}
                End::Itself => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    fn spawn(&self) -> anyhow::Result<Child> {
        let log = format!("replica-{}.log", self.number);
        let mut command = self.service.command(&log)?;
        command.arg("serve").env("CHECKOUTD_BIND", self.addr.to_string());
        command.stdout(append(&self.service.logs.join(&log))?);
        command.spawn().context("exec")
    }

    async fn attend(
        &self,
        child: &mut Child,
        pid: u32,
        started: Instant,
        orders: &mut mpsc::Receiver<Order>,
    ) -> End {
        let changes = self.service.postgres.changes();
        let mut is_ready = false;
        let ready = until_ready(&self.service.probe, self.addr);
        tokio::pin!(ready);
        loop {
            tokio::select! {
                () = &mut ready, if !is_ready => {
                    is_ready = true;
                    let undisturbed = changes == self.service.postgres.changes() && !self.service.postgres.is_down();
                    self.service.tally.ready(started.elapsed(), undisturbed);
                }
                status = child.wait() => {
                    let Ok(status) = status else { return End::Stopped };
                    self.ended_by_itself(is_ready, status);
                    return End::Itself;
                }
                order = orders.recv() => match order {
                    Some(Order::Kill) => {
                        let _ = child.kill().await;
                        self.service.tally.count("SIGKILL");
                        return End::Ordered;
                    }
                    // Before it is ready it need not know the signal yet.
                    Some(Order::Term) if !is_ready => {}
                    Some(Order::Term) => {
                        self.terminate(child, pid).await;
                        self.service.tally.count("SIGTERM");
                        return End::Ordered;
                    }
                    Some(Order::Stop) | None => {
                        self.terminate(child, pid).await;
                        return End::Stopped;
                    }
                }
            }
        }
    }

    fn ended_by_itself(&self, was_ready: bool, status: ExitStatus) {
        if !was_ready && self.service.database_fails {
            self.service.tally.count("starts without a database");
        } else {
            self.service.tally.problem(format!("replica {} ended by itself: {status}", self.number));
        }
    }

    async fn terminate(&self, child: &mut Child, pid: u32) {
        let asked = Instant::now();
        signal("TERM", pid).await;
        match tokio::time::timeout(TERM_LIMIT, child.wait()).await {
            Ok(Ok(status)) => {
                self.service.tally.stopped(asked.elapsed());
                if !status.success() {
                    self.service.tally.problem(format!("replica {} after SIGTERM: {status}", self.number));
                }
            }
            _ => {
                let number = self.number;
                self.service
                    .tally
                    .problem(format!("replica {number} still runs 15 s after SIGTERM (run {})", self.ran));
                let _ = child.kill().await;
            }
        }
    }
}

/// Asks until the replica says that it is ready.
async fn until_ready(http: &reqwest::Client, addr: SocketAddr) {
    let url = format!("http://{addr}/readyz");
    loop {
        if http.get(&url).timeout(PROBE_LIMIT).send().await.is_ok_and(|answer| answer.status() == 200) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(4)).await;
    }
}
