//! What processes use of the machine, and what the machine is: from `/proc`, so on Linux only.

use std::{
    fs,
    io::Write,
    path::Path,
    time::{Duration, Instant},
};

use super::load::Latencies;

/// What `/proc` counts processor time in: hundredths of a second, on every architecture.
const TICK: Duration = Duration::from_millis(10);

/// Processor time, of each kind of process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu {
    pub service: Duration,
    /// Every process of the server, also those that have ended meanwhile.
    pub postgres: Duration,
    /// Razorpay, the receiver and the bare server.
    pub doubles: Duration,
    /// This process: the requests come from here.
    pub generator: Duration,
    /// Children that have ended: pgbench.
    pub pgbench: Duration,
    /// Of all processes of the machine, and of others on the same hardware as far as they took it away.
    pub machine: Duration,
}

impl Cpu {
    pub fn since(self, before: Self) -> Self {
        Self {
            service: self.service.saturating_sub(before.service),
            postgres: self.postgres.saturating_sub(before.postgres),
            doubles: self.doubles.saturating_sub(before.doubles),
            generator: self.generator.saturating_sub(before.generator),
            pgbench: self.pgbench.saturating_sub(before.pgbench),
            machine: self.machine.saturating_sub(before.machine),
        }
    }

    /// What nobody here used.
    pub fn others(self) -> Duration {
        let ours = self.service + self.postgres + self.doubles + self.generator + self.pgbench;
        self.machine.saturating_sub(ours)
    }
}

/// Fields of `/proc/PID/stat` from the third on.
fn stat(pid: u32) -> Vec<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The second is a name in parentheses, which may hold anything.
    let (_, rest) = text.rsplit_once(')').unwrap_or_default();
    rest.split_whitespace().map(|field| field.parse().unwrap_or_default()).collect()
}

fn ticks(fields: &[u64], from: usize) -> Duration {
    let ticks = fields.iter().skip(from - 3).take(2).sum::<u64>();
    TICK * u32::try_from(ticks).unwrap_or(u32::MAX)
}

/// User and system time of a process.
pub fn own(pid: u32) -> Duration {
    ticks(&stat(pid), 14)
}

/// The same of those of its children that have ended and were waited for.
pub fn ended_children(pid: u32) -> Duration {
    ticks(&stat(pid), 16)
}

pub fn parent(pid: u32) -> Option<u32> {
    u32::try_from(*stat(pid).get(1)?).ok()
}

/// A process, its children, and those of its children that have ended.
pub fn family(pid: u32) -> Duration {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let children = pids.filter(|&child| parent(child) == Some(pid));
    own(pid) + ended_children(pid) + children.map(own).sum::<Duration>()
}

/// All processes of the machine, and what its hypervisor gave to other machines.
pub fn machine() -> Duration {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields = text.lines().next().unwrap_or_default().split_whitespace().skip(1);
    // user, nice, system, then idle and waiting, then both kinds of interrupts, and stolen.
    let busy = fields.take(8).enumerate().filter(|(place, _)| !matches!(place, 3 | 4));
    let ticks: u64 = busy.filter_map(|(_, field)| field.parse::<u64>().ok()).sum();
    TICK * u32::try_from(ticks).unwrap_or(u32::MAX)
}

/// Resident memory in MiB.
pub fn resident_mib(pid: u32) -> Option<f64> {
    let kib: u32 = value_in(&format!("/proc/{pid}/status"), "VmRSS")?.split(' ').next()?.parse().ok()?;
    Some(f64::from(kib) / 1024.0)
}

fn value_in(file: &str, field: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(field))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Processors, memory and kernel.
pub fn describe_machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let model = value_in("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown processor".into());
    let memory = value_in("/proc/meminfo", "MemTotal").unwrap_or_default();
    let kib: f64 = memory.split(' ').next().and_then(|text| text.parse().ok()).unwrap_or_default();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let gib = kib / 1024.0 / 1024.0;
    format!("{cores} cores ({model}), {gib:.0} GiB of memory, Linux {}", kernel.trim())
}

/// How long the disk takes to keep 8 KiB, a page of Postgres's log, each written over the last.
pub fn sync_latencies(dir: &Path) -> std::io::Result<Latencies> {
    use std::os::unix::fs::FileExt;
    let path = dir.join("sync-latency");
    let mut file = fs::File::create(&path)?;
    let page = [7; 8192];
    file.write_all(&page)?;
    file.sync_all()?;
    let mut latencies = Vec::new();
    for _ in 0..300 {
        let begun = Instant::now();
        file.write_all_at(&page, 0)?;
        file.sync_data()?;
        latencies.push(begun.elapsed());
    }
    fs::remove_file(path)?;
    Ok(Latencies(latencies))
}
