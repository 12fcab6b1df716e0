//! `checkoutd inbox …`

use anyhow::bail;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use super::{App, build_for_command};
use crate::inbox::{self, InboxId, Replayed, StoredEvent};

/// Arguments of `inbox`.
#[derive(Debug, Args)]
pub struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show Razorpay's events that wait or were given up, the oldest first.
    List {
        /// Only those.
        #[arg(long)]
        status: Option<Status>,
        /// At most so many.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..=10_000))]
        limit: i64,
        /// Print one line of JSON instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Let the workers try parked events again, as if they had just come. Safe to repeat.
    Replay(Replay),
}

#[derive(Debug, Args)]
struct Replay {
    /// This event.
    #[arg(long, required_unless_present = "all_parked", conflicts_with = "all_parked")]
    id: Option<InboxId>,
    /// Every event that is parked now.
    #[arg(long)]
    all_parked: bool,
    /// Print one line of JSON instead of text.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Status {
    /// Given up.
    Parked,
    /// Tried again by the workers.
    Waiting,
}

/// Runs the subcommand.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let app = build_for_command().await?;
    match options.command {
        Command::List { status, limit, json } => list(&app, status, limit, json).await,
        Command::Replay(replay) => {
            let (ids, note) = match replay.id {
                Some(id) => replay_one(&app, id).await?,
                None => (inbox::replay_all(&app).await?, None),
            };
            if replay.json {
                println!("{}", json!({"replayed": ids}));
                return Ok(());
            }
            for id in &ids {
                println!("{id} waits again");
            }
            println!("{}", note.unwrap_or_else(|| format!("replayed {}", ids.len())));
            Ok(())
        }
    }
}

async fn list(app: &App, status: Option<Status>, limit: i64, json: bool) -> anyhow::Result<()> {
    let status = status.map(|status| match status {
        Status::Parked => "parked",
        Status::Waiting => "waiting",
    });
    let events = inbox::list(app, status, limit).await?;
    if json {
        println!("{}", json!({"items": events}));
    } else {
        events.iter().for_each(print);
        let more = if events.len() == usize::try_from(limit)? { " or more" } else { "" };
        println!("{}{more} event(s)", events.len());
    }
    Ok(())
}

fn print(event: &StoredEvent) {
    // Escaped: the type and parts of errors are text from outside.
    println!(
        "{} {} {} {} received={} attempts={} reason={} error={}",
        event.id,
        event.environment_id,
        event.status,
        event.event_type.escape_debug(),
        event.received_at.to_rfc3339(),
        event.attempt_count,
        event.reason.as_deref().unwrap_or("-"),
        event.last_error.as_deref().unwrap_or("-").escape_debug(),
    );
}

async fn replay_one(app: &App, id: InboxId) -> anyhow::Result<(Vec<InboxId>, Option<String>)> {
    match inbox::replay(app, id).await? {
        Replayed::Waiting => Ok((vec![id], None)),
        Replayed::NotParked(status) => Ok((Vec::new(), Some(format!("{id} is {status}: nothing to do")))),
        Replayed::Unknown => bail!("there is no event {id}"),
    }
}
