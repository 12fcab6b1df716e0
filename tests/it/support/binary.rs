//! The real binary as a child process, on the database and the sandbox of a test.

use std::{process::Stdio, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
};

use super::{Merchant, TestApp, app::ENCRYPTION_KEY};

/// Far more than anything here takes; a process that outlives it fails the test.
const PATIENCE: Duration = Duration::from_secs(40);

/// A running `checkoutd serve`; killed when dropped.
pub struct Binary {
    child: Child,
    log: UnboundedReceiver<String>,
    pub base_url: String,
}

impl Binary {
    /// Starts it, and waits until it listens. `checkpoint`: where it is to die, and `*` how many times
    /// it gets there.
    pub async fn start(app: &TestApp, checkpoint: Option<&str>) -> Self {
        let variables = checkpoint.map(|checkpoint| ("CHECKOUTD_CHECKPOINT", checkpoint));
        Self::start_with(app, variables).await
    }

    /// Starts it with these variables besides, and waits until it listens.
    pub async fn start_with(app: &TestApp, variables: impl IntoIterator<Item = (&str, &str)>) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_checkoutd"));
        command
            .arg("serve")
            .env("DATABASE_URL", &app.database_url)
            .env("CHECKOUTD_BIND", "127.0.0.1:0")
            .env("CHECKOUTD_PUBLIC_URL", &app.base_url)
            .env("CHECKOUTD_ENCRYPTION_KEY", ENCRYPTION_KEY)
            .env("CHECKOUTD_DATABASE_POOL_SIZE", "6")
            .env("CHECKOUTD_ALLOW_PRIVATE_WEBHOOK_TARGETS", "true")
            .env("CHECKOUTD_RATE_LIMIT_PER_SECOND", "0")
            .env("CHECKOUTD_LOG", "info")
            .env("CHECKOUTD_LOG_FORMAT", "json")
            .env("RAZORPAY_BASE_URL", app.sandbox.base_url())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .envs(variables)
            .kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (send, log) = unbounded_channel();
        // Read all the time: a process whose log nobody reads stops when the pipe is full.
        #[expect(clippy::disallowed_methods, reason = "ends with the child")]
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let _ = send.send(line);
            }
        });
        let mut binary = Self { child, log, base_url: String::new() };
        let listening = binary.until_line("listening").await;
        let address = listening["fields"]["address"].as_str().unwrap();
        binary.base_url = format!("http://{address}");
        binary
    }

    /// The next line of its log with this message.
    pub async fn until_line(&mut self, message: &str) -> serde_json::Value {
        let mut seen = Vec::new();
        let wait = async {
            while let Some(line) = self.log.recv().await {
                let json = serde_json::from_str(&line).unwrap_or(serde_json::Value::Null);
                if json["fields"]["message"] == message {
                    return json;
                }
                seen.push(line);
            }
            panic!("it ended without saying {message:?}:\n{}", seen.join("\n"));
        };
        within(wait).await
    }

    /// Waits until it has died at its checkpoint.
    #[cfg(debug_assertions)]
    pub async fn until_death_at(mut self, checkpoint: &str) {
        let mut last = Vec::new();
        let wait = async {
            while let Some(line) = self.log.recv().await {
                last.push(line);
            }
            self.child.wait().await.unwrap()
        };
        let status = within(wait).await;
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(6), "{}", last.join("\n"));
        let name = checkpoint.split('*').next().unwrap();
        assert!(last.contains(&format!("checkpoint {name}")), "{}", last.join("\n"));
    }

    /// SIGKILL.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        let pid = self.child.id().unwrap().to_string();
        assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    }

    /// Waits for its end; its exit code.
    pub async fn until_end(mut self) -> Option<i32> {
        let wait = async {
            while self.log.recv().await.is_some() {}
            self.child.wait().await.unwrap()
        };
        within(wait).await.code()
    }

    /// The merchant, as a client of this process.
    pub fn client(&self, merchant: &Merchant) -> Merchant {
        Merchant { base_url: self.base_url.clone(), ..merchant.clone() }
    }
}

#[expect(clippy::disallowed_methods, reason = "waits for another process, which may have stopped for ever")]
async fn within<T>(wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, wait).await.expect("the process neither ended nor went on")
}
