//! A TCP proxy that breaks: it delays, resets, goes silent, cuts in the middle of an answer, and loses the
//! answer to a COMMIT that the server has carried out. Stands between the service and Postgres, or between a
//! client and the service.

use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixStream},
    sync::watch,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

#[path = "pg_frames.rs"]
mod pg_frames;

use pg_frames::Frames;
pub use pg_frames::Loss;

/// Where connections go.
#[derive(Clone, Debug)]
pub enum Upstream {
    /// A server's Unix socket.
    Unix(PathBuf),
    /// The first of these that accepts, starting with another one each time.
    Tcp(Vec<SocketAddr>),
}

/// How things stand for connections right now.
#[derive(Clone, Debug, Default)]
struct Weather {
    /// Answers come this much later.
    delay: Duration,
    /// Nothing moves in either direction.
    silent: bool,
    /// New connections are reset at once.
    refusing: bool,
}

#[derive(Debug)]
struct Shared {
    upstream: Upstream,
    weather: watch::Sender<Weather>,
    /// Answers still to be lost, and of what.
    losses: Mutex<(u32, Option<Loss>)>,
    /// Requests of that kind that get their answer first.
    passing: Mutex<u32>,
    /// Each connection's own end, oldest first.
    open: Mutex<Vec<(u64, CancellationToken)>>,
    /// Bytes of answers after which the next connection that answers is cut.
    cut_after: Mutex<Option<usize>>,
    next: AtomicU64,
    lost: AtomicU64,
    round_trips: AtomicU64,
    commits: AtomicU64,
}

/// A running proxy; it stops when dropped.
#[derive(Debug)]
pub struct TcpFault {
    addr: SocketAddr,
    shared: Arc<Shared>,
    _serving: JoinSet<()>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[allow(dead_code, reason = "each user needs some of the faults")]
impl TcpFault {
    /// Listens on a free loopback port.
    pub async fn start(upstream: Upstream) -> io::Result<Self> {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), upstream).await
    }

    /// Listens on `addr`.
    pub async fn start_at(addr: SocketAddr, upstream: Upstream) -> io::Result<Self> {
        let listener = TcpListener::bind(addr).await?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared {
            upstream,
            weather: watch::Sender::default(),
            losses: Mutex::default(),
            passing: Mutex::default(),
            open: Mutex::default(),
            cut_after: Mutex::default(),
            next: AtomicU64::default(),
            lost: AtomicU64::default(),
            round_trips: AtomicU64::default(),
            commits: AtomicU64::default(),
        });
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, Arc::clone(&shared)));
        Ok(Self { addr, shared, _serving: serving })
    }

    /// The bound address.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Open connections.
    pub fn connections(&self) -> usize {
        locked(&self.shared.open).len()
    }

    /// Resets every open connection, on both sides. How many there were.
    pub fn reset_all(&self) -> usize {
        let open = std::mem::take(&mut *locked(&self.shared.open));
        for (_, end) in &open {
            end.cancel();
        }
        open.len()
    }

    /// Resets one open connection, the oldest plus `nth` (round the corner). False when there is none.
    pub fn reset_one(&self, nth: usize) -> bool {
        let open = locked(&self.shared.open);
        let Some((_, end)) = open.get(nth.checked_rem(open.len()).unwrap_or(0)) else { return false };
        end.cancel();
        true
    }

    /// Answers come this much later, from now on.
    pub fn delay(&self, by: Duration) {
        self.shared.weather.send_modify(|weather| weather.delay = by);
    }

    /// Swallows everything, or goes on from where it stopped. Connections stay up.
    pub fn black_hole(&self, silent: bool) {
        self.shared.weather.send_modify(|weather| weather.silent = silent);
    }

    /// Resets new connections at once, or accepts them again.
    pub fn refuse(&self, refusing: bool) {
        self.shared.weather.send_modify(|weather| weather.refusing = refusing);
    }

    /// Cuts the next connection that gets answers, after this many bytes of them.
    pub fn cut_after(&self, bytes: usize) {
        *locked(&self.shared.cut_after) = Some(bytes);
    }

    /// Loses the answers to the next `count` requests of this kind, and resets their connections.
    pub fn lose_answers(&self, count: u32, loss: Loss) {
        *locked(&self.shared.losses) = (count, Some(loss));
    }

    /// As [`TcpFault::lose_answers`] for one request, after as many others have passed.
    pub fn lose_answer_after(&self, passing: u32, loss: Loss) {
        *locked(&self.shared.passing) = passing;
        self.lose_answers(1, loss);
    }

    /// Answers lost so far.
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }

    /// How often Postgres was asked something, so far.
    pub fn round_trips(&self) -> u64 {
        self.shared.round_trips.load(Ordering::Relaxed)
    }

    /// Transactions of several statements that were to commit, so far.
    pub fn commits(&self) -> u64 {
        self.shared.commits.load(Ordering::Relaxed)
    }

    /// Ends every fault; connections stay up.
    pub fn calm(&self) {
        self.shared.weather.send_replace(Weather::default());
        *locked(&self.shared.losses) = (0, None);
        *locked(&self.shared.cut_after) = None;
    }
}

impl Shared {
    /// Uses up one loss that fits, if there is one.
    fn take_loss(&self, request: Loss) -> bool {
        let mut losses = locked(&self.losses);
        let fits = losses.1 == Some(Loss::Request) || losses.1 == Some(request);
        if losses.0 == 0 || !fits {
            return false;
        }
        let mut passing = locked(&self.passing);
        if *passing > 0 {
            *passing -= 1;
            return false;
        }
        losses.0 -= 1;
        self.lost.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// Waits while nothing may move.
    async fn until_moving(&self) {
        let mut weather = self.weather.subscribe();
        // The sender lives in `self`, so this cannot fail.
        let _ = weather.wait_for(|weather| !weather.silent).await;
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => {
                    connections.spawn(connection(client, Arc::clone(&shared)));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

async fn connect(shared: &Shared) -> io::Result<Box<dyn Stream>> {
    let number = shared.next.fetch_add(1, Ordering::Relaxed);
    match &shared.upstream {
        Upstream::Unix(path) => Ok(Box::new(UnixStream::connect(path).await?)),
        Upstream::Tcp(addrs) => {
            let first = usize::try_from(number).unwrap_or_default() % addrs.len();
            for addr in addrs.iter().cycle().skip(first).take(addrs.len()) {
                if let Ok(stream) = TcpStream::connect(addr).await {
                    stream.set_nodelay(true)?;
                    return Ok(Box::new(stream));
                }
            }
            Err(io::ErrorKind::ConnectionRefused.into())
        }
    }
}

async fn connection(client: TcpStream, shared: Arc<Shared>) {
    let _ = client.set_nodelay(true);
    shared.until_moving().await;
    let refusing = shared.weather.borrow().refusing;
    let server = if refusing { None } else { connect(&shared).await.ok() };
    let Some(server) = server else {
        let _ = client.set_zero_linger();
        return;
    };
    let (number, end) = (shared.next.fetch_add(1, Ordering::Relaxed), CancellationToken::new());
    locked(&shared.open).push((number, end.clone()));
    forward(client, server, &shared, &end).await;
    locked(&shared.open).retain(|(open, _)| *open != number);
}

/// Copies until one side closes, or a fault resets the client.
async fn forward(mut client: TcpStream, server: Box<dyn Stream>, shared: &Shared, end: &CancellationToken) {
    let (from_server, to_server) = tokio::io::split(server);
    let over = {
        let (from_client, to_client) = client.split();
        tokio::select! {
            over = requests(from_client, to_server, shared) => over,
            over = answers(from_server, to_client, shared) => over,
            () = end.cancelled() => Over::Reset,
        }
    };
    if over == Over::Reset {
        let _ = client.set_zero_linger();
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    Closed,
    Reset,
}

async fn requests(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    shared: &Shared,
) -> Over {
    let mut frames = Frames::default();
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = match from.read(&mut buffer).await {
            Ok(0) | Err(_) => return Over::Closed,
            Ok(read) => read,
        };
        shared.until_moving().await;
        let mut rest = &buffer[..read];
        while let Some((taken, request)) = frames.next(rest) {
            let (frame, after) = rest.split_at(taken);
            shared.round_trips.fetch_add(frames.take_round_trips(), Ordering::Relaxed);
            shared.commits.fetch_add(u64::from(request == Some(Loss::Commit)), Ordering::Relaxed);
            if to.write_all(frame).await.is_err() {
                return Over::Closed;
            }
            rest = after;
            if request.is_some_and(|request| shared.take_loss(request)) {
                // Long enough for the server to carry it out, mostly: both outcomes are worth having. The
                // answers' side is not polled meanwhile, so the answer goes nowhere.
                tokio::time::sleep(Duration::from_millis(5)).await;
                return Over::Reset;
            }
        }
        if to.write_all(rest).await.is_err() {
            return Over::Closed;
        }
    }
}

async fn answers(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, shared: &Shared) -> Over {
    let mut buffer = vec![0; 16 * 1024];
    let mut left: Option<usize> = None;
    loop {
        let read = match from.read(&mut buffer).await {
            Ok(0) | Err(_) => return Over::Closed,
            Ok(read) => read,
        };
        let delay = shared.weather.borrow().delay;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        shared.until_moving().await;
        left = left.or_else(|| locked(&shared.cut_after).take());
        let whole = left.is_none_or(|left| read < left);
        let part = left.map_or(read, |left| left.min(read));
        if to.write_all(&buffer[..part]).await.is_err() {
            return Over::Closed;
        }
        if !whole {
            return Over::Reset;
        }
        left = left.map(|left| left - part);
    }
}

#[cfg(test)]
#[allow(dead_code, clippy::unwrap_used, reason = "also compiled where no test runs")]
#[path = "tcpfault_tests.rs"]
mod tests;
