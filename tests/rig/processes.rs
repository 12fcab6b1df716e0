//! Processes that must not outlive the rig, however it ends.

use std::{
    fs::File,
    io::{self, Write},
    process::{Child, Command, Stdio},
    sync::{Mutex, PoisonError},
};

/// Remembers the children and kills what is left of them when its standard input closes: when the rig ends, be
/// it by a panic or by SIGKILL.
const REAPER: &str = r#"
pids=
while read -r op pid; do
    kept=
    for known in $pids; do
        [ "$known" = "$pid" ] || kept="$kept $known"
    done
    pids=$kept
    [ "$op" = + ] && pids="$pids $pid"
done
for pid in $pids; do kill -KILL "$pid"; done 2>/dev/null
"#;

/// Ends the children that are still running when the rig ends.
pub struct Reaper {
    shell: Mutex<Child>,
}

impl Reaper {
    /// In a process group of its own: Ctrl-C at the terminal must not end it first.
    pub fn start() -> io::Result<Self> {
        use std::os::unix::process::CommandExt;
        let shell = Command::new("sh")
            .args(["-c", REAPER])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        Ok(Self { shell: Mutex::new(shell) })
    }

    pub fn watch(&self, pid: u32) {
        self.tell("+", pid);
    }

    pub fn forget(&self, pid: u32) {
        self.tell("-", pid);
    }

    fn tell(&self, op: &str, pid: u32) {
        let mut shell = self.shell.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stdin) = &mut shell.stdin {
            let _ = writeln!(stdin, "{op} {pid}");
        }
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        let mut shell = self.shell.lock().unwrap_or_else(PoisonError::into_inner);
        drop(shell.stdin.take());
        let _ = shell.wait();
    }
}

/// Sends a signal and says whether the process was there.
pub async fn signal(name: &str, pid: u32) -> bool {
    let mut kill = tokio::process::Command::new("kill");
    kill.arg(format!("-{name}")).arg(pid.to_string()).stderr(Stdio::null());
    kill.status().await.is_ok_and(|status| status.success())
}

/// Opens a log for a child to append to.
pub fn append(path: &std::path::Path) -> io::Result<File> {
    File::options().create(true).append(true).open(path)
}
