//! Load: closed loops, and an open loop that waits for nobody.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use tokio::{sync::Semaphore, task::JoinSet};

use super::http::Connection;

/// Connections of the open loop, by its rate: more than are ever under way, also at a rate that the service cannot bear.
/// Fewer at a low rate: one that idles for ten seconds is closed.
const OPEN_CONNECTIONS: std::ops::RangeInclusive<usize> = 64..=512;

/// Requests that were made before, and the status that each must be answered with.
pub struct Requests {
    requests: Vec<Vec<u8>>,
    turn: AtomicUsize,
    expected: u16,
    again: bool,
}

impl Requests {
    /// Each is made once.
    pub fn once(requests: Vec<Vec<u8>>, expected: u16) -> Arc<Self> {
        Arc::new(Self { requests, turn: AtomicUsize::new(0), expected, again: false })
    }

    /// They are made in turn, without end.
    pub fn in_turn(requests: Vec<Vec<u8>>, expected: u16) -> Arc<Self> {
        Arc::new(Self { requests, turn: AtomicUsize::new(0), expected, again: true })
    }

    fn next(&self) -> Option<&[u8]> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let turn = if self.again { turn % self.requests.len().max(1) } else { turn };
        self.requests.get(turn).map(Vec::as_slice)
    }
}

/// What became of a load.
#[derive(Debug, Default)]
pub struct Outcome {
    pub latencies: Latencies,
    pub elapsed: Duration,
}

impl Outcome {
    pub fn count(&self) -> usize {
        self.latencies.0.len()
    }

    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
    pub fn per_second(&self) -> f64 {
        self.count() as f64 / self.elapsed.as_secs_f64()
    }
}

/// How long each request took; every one is kept, so that percentiles are exact.
#[derive(Clone, Debug, Default)]
pub struct Latencies(pub Vec<Duration>);

impl Latencies {
    /// In milliseconds: the latency that `share` of the requests did not exceed.
    pub fn at(&self, share: f64) -> Option<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let place = (sorted.len() as f64 * share).ceil() as usize;
        sorted.get(place.saturating_sub(1)).map(|latency| latency.as_secs_f64() * 1000.0)
    }
}

/// Each of `clients` makes its next request when its last one is answered, for `lasting` or as long as there are
/// requests.
pub async fn closed_loop(
    to: SocketAddr,
    clients: usize,
    lasting: Duration,
    requests: &Arc<Requests>,
) -> anyhow::Result<Outcome> {
    let mut tasks = JoinSet::new();
    let begun = Instant::now();
    for _ in 0..clients {
        let requests = Arc::clone(requests);
        tasks.spawn(async move {
            let mut connection = Connection::open(to).await.context("connect")?;
            let mut latencies = Vec::new();
            while begun.elapsed() < lasting
                && let Some(request) = requests.next()
            {
                let sent = Instant::now();
                call(&mut connection, request, requests.expected, requests.expected).await?;
                latencies.push(sent.elapsed());
            }
            anyhow::Ok(latencies)
        });
    }
    let mut latencies = Vec::new();
    while let Some(done) = tasks.join_next().await {
        latencies.extend(done??);
    }
    Ok(Outcome { latencies: Latencies(latencies), elapsed: begun.elapsed() })
}

/// Requests at a steady rate, whatever becomes of those before. A latency counts from the moment at which its request
/// was due, so that a service that stalls is charged for those that had to wait for a connection.
pub async fn open_loop(
    to: SocketAddr,
    per_second: u32,
    lasting: Duration,
    requests: &Arc<Requests>,
) -> anyhow::Result<Outcome> {
    Ok(open_loop_or(to, per_second, lasting, requests, requests.expected).await?.taken)
}

/// As [`open_loop`], on a thread of its own: what another load keeps the generator busy with is not charged to this one.
pub async fn open_loop_apart(
    to: SocketAddr,
    per_second: u32,
    lasting: Duration,
    requests: &Arc<Requests>,
) -> anyhow::Result<Outcome> {
    let requests = Arc::clone(requests);
    let apart = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(open_loop(to, per_second, lasting, &requests))
    });
    apart.await?
}

/// How many an open loop of that rate has.
pub fn open_connections(per_second: u32) -> usize {
    let rate = usize::try_from(per_second).unwrap_or(usize::MAX);
    rate.clamp(*OPEN_CONNECTIONS.start(), *OPEN_CONNECTIONS.end())
}

/// What became of an open loop.
pub struct Offered {
    pub per_second: u32,
    pub taken: Outcome,
    /// Answered with the other status.
    pub refused: Outcome,
}

/// As [`open_loop`], where some may be answered with another status.
pub async fn open_loop_or(
    to: SocketAddr,
    per_second: u32,
    lasting: Duration,
    requests: &Arc<Requests>,
    or: u16,
) -> anyhow::Result<Offered> {
    let count = u32::try_from(lasting.as_secs())? * per_second;
    let connections = open_connections(per_second);
    let due = Arc::new(Semaphore::new(0));
    let next = Arc::new(AtomicU32::new(0));
    // The runtime's own timer is right to a millisecond, a thread's sleep to a twentieth of that.
    let begun = Instant::now();
    let moment = move |number: u32| begun + Duration::from_secs(1) * number / per_second;
    let ticks = Arc::clone(&due);
    std::thread::spawn(move || {
        for number in 0..count {
            std::thread::sleep(moment(number).saturating_duration_since(Instant::now()));
            ticks.add_permits(1);
        }
        ticks.add_permits(connections);
    });
    let mut tasks = JoinSet::new();
    for _ in 0..connections {
        let (requests, due, next) = (Arc::clone(requests), Arc::clone(&due), Arc::clone(&next));
        tasks.spawn(async move {
            let mut connection = Connection::open(to).await.context("connect")?;
            let (mut taken, mut refused) = (Vec::new(), Vec::new());
            loop {
                due.acquire().await.context("the clock has ended")?.forget();
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return anyhow::Ok((taken, refused));
                }
                let request = requests.next().context("there are no more requests")?;
                let is_taken = call(&mut connection, request, requests.expected, or).await?;
                (if is_taken { &mut taken } else { &mut refused }).push(moment(number).elapsed());
            }
        });
    }
    let (mut taken, mut refused) = (Vec::new(), Vec::new());
    while let Some(done) = tasks.join_next().await {
        let (more_taken, more_refused) = done??;
        taken.extend(more_taken);
        refused.extend(more_refused);
    }
    let outcome = |latencies| Outcome { latencies: Latencies(latencies), elapsed: begun.elapsed() };
    Ok(Offered { per_second, taken: outcome(taken), refused: outcome(refused) })
}

/// Whether the answer is the expected one, and not the `other`.
async fn call(
    connection: &mut Connection,
    request: &[u8],
    expected: u16,
    other: u16,
) -> anyhow::Result<bool> {
    let answer = connection.call(request).await?;
    if ![expected, other].contains(&answer.status()) {
        bail!("answered {} in place of {expected}: {}", answer.status(), answer.text());
    }
    Ok(answer.status() == expected)
}
