//! A private Postgres for `checkoutd dev` and for tests, run by the server programs found on the machine.
//!
//! The server listens on a Unix socket only, in a directory that nobody else may enter, so no port can clash
//! and trust authentication is safe. It belongs to the process that started it and ends with it, even by
//! SIGKILL: a small `sh` holds the other end of a pipe and stops the server when the pipe closes. A second
//! process that starts on the same directory joins the running server and leaves it running.

mod error;
mod place;
mod programs;
#[cfg(test)]
mod tests;

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tokio::process::{Child, Command};
use tokio::time::sleep;

pub use error::Error;
use place::{LOCK, PORT, Place, State};
use programs::Programs;

/// Until a server must be ready. Generous, because a crashed one first replays its log.
const START_LIMIT: Duration = Duration::from_mins(1);
/// Until a server without an owner must have ended.
const ORPHAN_LIMIT: Duration = Duration::from_secs(10);
/// Another process holds the lock when it is still held after so many looks: a program that this process is about to
/// run holds what this process held, until it runs.
const LOOKS_AT_LOCK: u32 = 10;
/// Between two looks at a server that is changing its state.
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// macOS knows `C.UTF-8` only since version 14.
const LOCALE: &str = if cfg!(target_os = "macos") { "C" } else { "C.UTF-8" };

/// `sh -c SUPERVISOR sh LOG POSTGRES ARGUMENT...` runs Postgres until it ends or standard input closes.
///
/// The interrupt (a fast shutdown) is repeated, because a background job starts with it ignored and Postgres
/// may not have installed its own answer yet. After half a minute the server is told to quit at once.
const SUPERVISOR: &str = r#"
log=$1
shift
exec 3<&0 </dev/null
"$@" >"$log" 2>&1 3<&- &
server=$!
(
    while read -r _; do :; done
    tries=0
    while kill -INT "$server"; do
        tries=$((tries + 1))
        if [ "$tries" -gt 300 ]; then kill -QUIT "$server"; fi
        sleep 0.1
    done
) <&3 2>/dev/null &
watcher=$!
exec 3<&-
wait "$server"
status=$?
kill "$watcher" 2>/dev/null
exit "$status"
"#;

/// Where and how the server runs.
#[derive(Debug, Clone)]
pub struct Options {
    /// Directory of the server's own, created when it is missing. Reused with its data on the next start.
    pub dir: PathBuf,
    /// Whether commits survive a crash of the machine. Tests give that up for speed.
    pub durable: bool,
    /// Directory of `initdb` and `postgres`; when `None`, they are looked for.
    pub pg_bin: Option<PathBuf>,
}

/// A running server. Dropping it stops the server without waiting for its end; [`Server::stop`] waits.
#[derive(Debug)]
pub struct Server {
    socket_dir: PathBuf,
    /// `None` when another process started the server: that process also stops it.
    owned: Option<Owned>,
}

/// Dropped in this order: who sees the lock free knows that the server is about to end.
#[derive(Debug)]
struct Owned {
    lock: File,
    /// Holds the pipe whose closing stops the server.
    supervisor: Child,
}

impl Server {
    /// The URL of a database on this server, as its superuser. The database need not exist.
    pub fn url(&self, database: &str) -> String {
        let host = percent_encode(&self.socket_dir.to_string_lossy());
        format!("postgres:///{}?host={host}&port={PORT}&user=postgres", percent_encode(database))
    }

    /// Stops the server, ending its connections, and waits until it has ended. A server that another
    /// process started goes on. Fails only if the system cannot wait for a child.
    pub async fn stop(self) -> std::io::Result<()> {
        if let Some(Owned { lock, mut supervisor }) = self.owned {
            drop(lock);
            drop(supervisor.stdin.take());
            supervisor.wait().await?;
        }
        Ok(())
    }
}

/// Starts the server, or joins the one that another process runs on the same directory, and returns when it
/// accepts connections.
///
/// As root, the server runs as the directory's owner, `postgres` or `nobody`; a directory which that account
/// cannot reach is replaced by `/var/tmp/checkoutd-<hash of the path>`.
pub async fn start(options: Options) -> Result<Server, Error> {
    let place = Place::prepare(&options.dir).await?;
    let deadline = Instant::now() + START_LIMIT;
    let Some(lock) = take_lock(&place, deadline).await? else {
        return Ok(Server { socket_dir: place.socket_dir, owned: None });
    };
    end_orphan(&place).await?;
    let programs = programs::find(options.pg_bin.as_deref(), &place).await?;
    if place.data_version().is_none() {
        initialise(&place, &programs).await?;
    }
    let supervisor = launch(&place, &programs, options.durable, deadline).await?;
    Ok(Server { socket_dir: place.socket_dir, owned: Some(Owned { lock, supervisor }) })
}

/// The lock is held as long as the server is wanted. `None`: another process holds it and its server is ready.
async fn take_lock(place: &Place, deadline: Instant) -> Result<Option<File>, Error> {
    let path = place.root.join(LOCK);
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(Error::io("open", &path))?;
    let mut looks = 0;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(source)) => return Err(Error::io("lock", path)(source)),
        }
        looks += 1;
        if looks >= LOOKS_AT_LOCK
            && let State::Ready { .. } = place.state().await
        {
            return Ok(None);
        }
        wait_within(place, deadline).await?;
    }
}

/// Ends a server whose owner died. Usually its supervisor is about to do that; but that may be dead too. When
/// an old file names a process that has nothing to do with it, Postgres itself has to judge.
async fn end_orphan(place: &Place) -> Result<(), Error> {
    let deadline = Instant::now() + ORPHAN_LIMIT;
    loop {
        match place.state().await {
            State::Gone => return Ok(()),
            State::Ready { pid } => {
                signal("-INT", pid).await?;
            }
            State::Changing { pid } => {
                if Instant::now() > deadline || !signal("-0", pid).await? {
                    return Ok(());
                }
                sleep(POLL_INTERVAL).await;
                continue;
            }
        }
        wait_within(place, deadline).await?;
    }
}

async fn wait_within(place: &Place, deadline: Instant) -> Result<(), Error> {
    if Instant::now() > deadline {
        return Err(Error::InUse { dir: place.root.clone() });
    }
    sleep(POLL_INTERVAL).await;
    Ok(())
}

/// Sends a signal and says whether the process was there to take it.
async fn signal(signal: &str, pid: u32) -> Result<bool, Error> {
    let status = Command::new("sh")
        .args(["-c", r#"kill "$1" "$2" 2>/dev/null"#, "sh", signal, &pid.to_string()])
        .status()
        .await
        .map_err(Error::io("run", "sh"))?;
    Ok(status.success())
}

/// Creates the data directory. It appears under its name only when it is complete, and an attempt's own name
/// keeps it apart from an `initdb` that outlived a killed owner.
async fn initialise(place: &Place, programs: &Programs) -> Result<(), Error> {
    static ATTEMPT: AtomicU32 = AtomicU32::new(0);
    place.remove_unfinished();
    let attempt = ATTEMPT.fetch_add(1, Ordering::Relaxed);
    let unfinished = place.unfinished(&format!("{}-{attempt}", std::process::id()));
    let initdb = programs.bin.join("initdb");
    let output = place
        .command(&initdb)
        .args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale", LOCALE, "-N", "-D"])
        .arg(&unfinished)
        .stdin(Stdio::null())
        .output()
        .await
        .map_err(Error::io("run", &initdb))?;
    if !output.status.success() {
        return Err(Error::Initdb { output: String::from_utf8_lossy(&output.stderr).into_owned() });
    }
    fs::rename(&unfinished, &place.data).map_err(Error::io("move the new database to", &place.data))
}

/// Runs Postgres under its supervisor and returns when it is ready. Its own process group keeps a Ctrl-C at
/// the terminal from stopping it before the service has finished with it.
async fn launch(
    place: &Place,
    programs: &Programs,
    durable: bool,
    deadline: Instant,
) -> Result<Child, Error> {
    let log = place.root.join("server.log");
    let mut command = place.command(Path::new("sh"));
    command.args(["-c", SUPERVISOR, "sh"]).arg(&log).arg(programs.bin.join("postgres"));
    command.arg("-D").arg(&place.data).arg("-k").arg(&place.socket_dir).args(["-p", PORT]);
    // These go before what `alter system` says.
    let mut settings = vec!["listen_addresses=", "max_connections=200", "log_min_messages=error"];
    if !durable {
        settings.extend(["fsync=off", "synchronous_commit=off", "full_page_writes=off"]);
    }
    for setting in settings {
        command.args(["-c", setting]);
    }
    let mut supervisor = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(Error::io("run", "sh"))?;
    loop {
        let ended = supervisor.try_wait().map_err(Error::io("wait for", "sh"))?.is_some();
        if ended || Instant::now() > deadline {
            return Err(Error::NotReady { tail: tail(&log), log });
        }
        if let State::Ready { .. } = place.state().await {
            return Ok(supervisor);
        }
        sleep(POLL_INTERVAL).await;
    }
}

fn tail(log: &Path) -> String {
    let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

/// Encodes all but what every URL parser leaves alone; a slash may stand in a query.
fn percent_encode(text: &str) -> String {
    use std::fmt::Write;
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}
