//! A command of the real binary that talks to people: its lines as they come, and how it ends.

use std::{path::Path, process::Stdio, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines},
    process::{Child, ChildStdout},
};

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(40);

/// A running command; killed when dropped.
pub struct Command {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    seen: Vec<String>,
}

/// What a command that ended leaves.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    /// Everything it printed.
    pub lines: Vec<String>,
    pub stderr: String,
}

impl Command {
    /// Starts it in `folder`, with none of the environment's own settings.
    pub fn start(folder: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_checkoutd"));
        let mut child = command
            .args(arguments)
            .current_dir(folder)
            .env_clear()
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines, seen: Vec::new() }
    }

    /// The next line that contains `text`.
    pub async fn line(&mut self, text: &str) -> String {
        let from = self.seen.len();
        let wait = async {
            while let Some(line) = self.lines.next_line().await.unwrap() {
                self.seen.push(line);
                if self.seen[self.seen.len() - 1].contains(text) {
                    return Some(self.seen[self.seen.len() - 1].clone());
                }
            }
            None
        };
        if let Some(found) = within(wait).await {
            return found;
        }
        let mut stderr = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut stderr).await.unwrap();
        panic!("it ended without saying {text:?}:\n{}\n{stderr}", self.seen[from..].join("\n"));
    }

    /// Ctrl-C.
    pub fn interrupt(&self) {
        let pid = self.child.id().unwrap().to_string();
        assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    }

    /// Waits for its end.
    pub async fn until_end(mut self) -> Ended {
        let wait = async {
            while let Some(line) = self.lines.next_line().await.unwrap() {
                self.seen.push(line);
            }
            let mut stderr = String::new();
            self.child.stderr.take().unwrap().read_to_string(&mut stderr).await.unwrap();
            (self.child.wait().await.unwrap().code(), stderr)
        };
        let (code, stderr) = within(wait).await;
        Ended { code, lines: self.seen, stderr }
    }
}

#[expect(clippy::disallowed_methods, reason = "waits for another process, which may have stopped for ever")]
async fn within<T>(wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, wait).await.expect("the command neither ended nor went on")
}
