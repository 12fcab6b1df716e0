//! The processes of a run: each ends with this one, whatever becomes of it.

use std::{
    net::{SocketAddr, TcpListener},
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStdin, Command},
    time::{sleep, timeout},
};

use super::http::{Connection, request};

/// Until a process must be ready, or must have ended.
const LIMIT: Duration = Duration::from_secs(30);
/// Between two looks whether the service is ready.
const POLL: Duration = Duration::from_micros(500);

/// Another process of the bench itself; see [`super::doubles`].
pub struct Double {
    child: Child,
    /// Ends the process when it closes.
    _until: Option<ChildStdin>,
    pub address: SocketAddr,
}

impl Double {
    pub async fn start(arguments: &[&str]) -> anyhow::Result<Self> {
        let program = std::env::current_exe()?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn()?;
        let stdout = child.stdout.take().context("a pipe")?;
        let line = timeout(LIMIT, BufReader::new(stdout).lines().next_line()).await??;
        let address = line.with_context(|| format!("{arguments:?} did not start"))?.parse()?;
        Ok(Self { _until: child.stdin.take(), child, address })
    }

    pub fn pid(&self) -> u32 {
        self.child.id().unwrap_or_default()
    }
}

/// `checkoutd serve`.
pub struct Service {
    child: Child,
    /// Kills it if this process dies without a word.
    watcher: Child,
    pub address: SocketAddr,
    /// From its start until `/readyz` was 200.
    pub ready_after: Duration,
}

impl Service {
    /// Starts it and waits until it is ready.
    pub async fn start(environment: &[(String, String)]) -> anyhow::Result<Self> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut command = service(environment);
        command.arg("serve").env("CHECKOUTD_BIND", address.to_string());
        let begun = Instant::now();
        let child = command.spawn().context("checkoutd serve")?;
        let pid = child.id().context("it has ended")?;
        let ready = timeout(LIMIT, async {
            while !is_ready(address).await {
                sleep(POLL).await;
            }
        });
        ready.await.context("checkoutd serve did not become ready")?;
        let ready_after = begun.elapsed();
        let mut watcher = Command::new("sh");
        watcher.args(["-c", r#"cat >/dev/null; kill -9 "$1""#, "sh", &pid.to_string()]);
        let watcher = watcher.stdin(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true).spawn()?;
        Ok(Self { child, watcher, address, ready_after })
    }

    pub fn pid(&self) -> u32 {
        self.child.id().unwrap_or_default()
    }

    /// Asks it to stop and waits until it has.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.watcher.kill().await?;
        let pid = self.pid().to_string();
        Command::new("sh").args(["-c", r#"kill -TERM "$1""#, "sh", &pid]).status().await?;
        let status = timeout(LIMIT, self.child.wait()).await.context("checkoutd serve does not stop")??;
        ensure!(status.success(), "checkoutd serve ended with {status}");
        Ok(())
    }
}

async fn is_ready(address: SocketAddr) -> bool {
    let Ok(mut connection) = Connection::open(address).await else { return false };
    let answer = connection.call(&request("GET", "/readyz", "", b"")).await;
    answer.is_ok_and(|answer| answer.status() == 200)
}

fn service(environment: &[(String, String)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_checkoutd"));
    command.env_clear().stdin(Stdio::null()).kill_on_drop(true);
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    command
}

/// Runs another command of the service to its end; what it printed.
pub async fn run_service(environment: &[(String, String)], arguments: &[&str]) -> anyhow::Result<String> {
    let mut command = service(environment);
    let output = timeout(LIMIT, command.args(arguments).output()).await??;
    if !output.status.success() {
        bail!("checkoutd {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Starts a program in `dir`.
pub fn start(program: &Path, arguments: &[String], dir: &Path) -> anyhow::Result<Child> {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(dir).env("PGOPTIONS", "-c jit=off").kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn().with_context(|| format!("run {}", program.display()))
}

/// Waits for its end.
pub async fn finish(program: &Path, child: Child, limit: Duration) -> anyhow::Result<()> {
    let output = timeout(limit, child.wait_with_output()).await;
    let output = output.with_context(|| format!("{} hangs", program.display()))??;
    if !output.status.success() {
        bail!("{}: {}", program.display(), String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
