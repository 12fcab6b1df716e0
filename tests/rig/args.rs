//! The command line.

use std::{path::PathBuf, time::Duration};

use clap::{Parser, ValueEnum};

/// Runs the real binary under load while it is killed and everything around it fails, then checks from the
/// outside that every captured payment has one fate.
#[derive(Clone, Debug, Parser)]
#[command(name = "rig")]
pub struct Args {
    /// Decides the load and the faults.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Checkout sessions to run.
    #[arg(long, default_value_t = 500)]
    pub sessions: usize,
    /// Processes of the service.
    #[arg(long, default_value_t = 2)]
    pub replicas: usize,
    /// Customers at the same time.
    #[arg(long, default_value_t = 200)]
    pub concurrency: usize,
    /// Most sessions started in a second.
    #[arg(long, default_value_t = 35)]
    pub rate: u32,
    /// No new session after this many seconds.
    #[arg(long)]
    pub load_limit: Option<u64>,
    /// What may go wrong; `none` for nothing.
    #[arg(long, value_delimiter = ',', default_values_t = Fault::ALL)]
    pub faults: Vec<Fault>,
    /// What CI runs: at most three minutes in all.
    #[arg(long)]
    pub short: bool,
    /// After this many seconds everything is stopped, whatever it does.
    #[arg(long, default_value_t = 1500)]
    pub time_limit: u64,
    /// How many seconds the service has to come to rest, after the last fault.
    #[arg(long, default_value_t = 240)]
    pub rest_limit: u64,
    /// The binary to run instead of the one that was built with the rig.
    /// `RIG_BINARY` does the same.
    #[arg(long, default_value_os_t = built_binary())]
    pub binary: PathBuf,
    /// Late and second payments come although Razorpay's webhooks are off: then only the service's own looks after
    /// the end find them, the first five minutes later. Needs a longer `--rest-limit`.
    #[arg(long)]
    pub untold: bool,
    /// Log filter of the service.
    #[arg(long, default_value = "warn,checkoutd::checkout=info")]
    pub log: String,
    /// Keeps the database for a look afterwards.
    #[arg(long)]
    pub keep: bool,
}

fn built_binary() -> PathBuf {
    std::env::var_os("RIG_BINARY").map_or_else(|| env!("CARGO_BIN_EXE_checkoutd").into(), PathBuf::from)
}

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Fault {
    /// SIGKILL of a replica.
    Kill,
    /// SIGTERM of a replica.
    Term,
    /// Postgres stopped in immediate mode.
    Postgres,
    /// Postgres's sessions terminated one by one.
    Terminate,
    /// The network between service and Postgres.
    Proxy,
    /// The network between clients and service.
    Front,
    /// Razorpay's API.
    Sandbox,
    /// Razorpay's webhooks.
    Webhooks,
    /// The merchants' receivers.
    Receivers,
    /// Nothing.
    None,
}

impl Fault {
    const ALL: [Self; 9] = [
        Self::Kill,
        Self::Term,
        Self::Postgres,
        Self::Terminate,
        Self::Proxy,
        Self::Front,
        Self::Sandbox,
        Self::Webhooks,
        Self::Receivers,
    ];
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("none", |value| value.get_name()))
    }
}

impl Args {
    /// The arguments with what `--short` means.
    pub fn settled(mut self) -> Self {
        if self.short {
            self.load_limit = self.load_limit.or(Some(45));
            self.time_limit = self.time_limit.min(178);
            self.rest_limit = self.rest_limit.min(100);
        }
        self
    }

    pub fn has(&self, fault: Fault) -> bool {
        self.faults.contains(&fault)
    }

    pub fn time_limit(&self) -> Duration {
        Duration::from_secs(self.time_limit)
    }

    /// The command that decides the same again.
    pub fn replay(&self) -> String {
        let mut command = format!(
            "cargo test --release --test rig -- --seed {} --sessions {} --replicas {}",
            self.seed, self.sessions, self.replicas
        );
        if self.faults != Fault::ALL {
            let names: Vec<_> = self.faults.iter().map(ToString::to_string).collect();
            command.push_str(" --faults ");
            command.push_str(&names.join(","));
        }
        for (given, flag) in [(self.untold, " --untold"), (self.short, " --short")] {
            if given {
                command.push_str(flag);
            }
        }
        command
    }
}
