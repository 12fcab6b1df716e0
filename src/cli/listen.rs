//! `checkoutd listen`: the events of a test environment, forwarded to a handler on this machine.
//!
//! It reads the log of events over HTTP and signs as deliveries are signed, with a secret of its own. No endpoint is
//! registered, so nothing is left behind, and nothing that others receive changes.

use std::{convert::Infallible, fmt, io::Write, time::Duration};

use anyhow::{Context, bail};
use chrono::{DateTime, Utc};
use clap::Args;
use secrecy::{ExposeSecret, SecretString};

use super::{
    client::{Answer, Api, CallError},
    feed::Feed,
    service::{self, Service},
    stop_signal,
};
use crate::{
    kit::{backoff, clock::Clock, ids::Ids},
    webhooks::{self, EventType},
};

mod handler;

use handler::Handler;

/// Between two looks at a log that had nothing more.
const POLL: Duration = Duration::from_millis(500);
/// Between two tries to reach a service that is away: doubled from the one to the other.
const AWAY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));

/// Arguments of `listen`.
#[derive(Debug, Args)]
pub struct Options {
    /// Your handler: an http or https URL on this machine or in its private network.
    #[arg(long, value_name = "URL", value_parser = handler::vet_url)]
    forward_to: String,
    /// First what happened in the time before: 30s, 10m, 2h, 1d. Without it, only what comes from now on.
    #[arg(long, value_name = "TIME", value_parser = parse_time_span)]
    since: Option<Duration>,
    /// Only these event types, separated by commas. Without it, all.
    #[arg(long, value_name = "TYPES", value_delimiter = ',')]
    events: Vec<EventType>,
    /// Sign with this secret (whsec_…) rather than with a new one.
    #[arg(long, value_parser = service::secret)]
    secret: Option<SecretString>,
    #[command(flatten)]
    service: service::ServiceOptions,
}

const LONGEST_SPAN: Duration = Duration::from_secs(366 * 86_400);

fn parse_time_span(text: &str) -> Result<Duration, &'static str> {
    let seconds_of = |unit| match unit {
        's' => Some(1),
        'm' => Some(60),
        'h' => Some(3_600),
        'd' => Some(86_400),
        _ => None,
    };
    let parse = || {
        let unit = text.chars().next_back()?;
        let number =
            text.strip_suffix(unit).filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()))?;
        let span = Duration::from_secs(number.parse::<u64>().ok()?.checked_mul(seconds_of(unit)?)?);
        (Duration::from_secs(1)..=LONGEST_SPAN).contains(&span).then_some(span)
    };
    parse().ok_or("must be a whole number with s, m, h or d, such as 30s, 10m, 2h or 1d, and at most 366d")
}

/// What was done so far.
#[derive(Default)]
struct Tally {
    delivered: u64,
    given_up: u64,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stopped: {} delivered, {} given up", self.delivered, self.given_up)
    }
}

/// Forwards until Ctrl-C.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let service = Service::find(&options.service)?;
    let clock = Clock::system();
    let secret = match &options.secret {
        None => webhooks::generate_secret(&Ids::random(clock.clone())),
        Some(secret) => webhooks::parse_secret(secret.expose_secret())
            .ok()
            .context("--secret must be whsec_ and 24 to 64 bytes in base64")?,
    };
    let handler = Handler::new(options.forward_to.clone(), secret.clone(), clock)?;
    let api = Api::new(service.api_url, Some(service.api_key))?;
    let mut tally = Tally::default();
    let stopped = stop_signal()?;
    tokio::select! {
        () = stopped => {}
        ended = forward(&api, &options, &handler, &secret, &mut tally) => match ended? {},
    }
    say(&tally)
}

/// Prints a line. Fails when nobody reads any more.
fn say(line: &impl fmt::Display) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stdout(), "{line}")?)
}

async fn forward(
    api: &Api,
    options: &Options,
    handler: &Handler,
    secret: &SecretString,
    tally: &mut Tally,
) -> anyhow::Result<Infallible> {
    handler.vet_host().await?;
    let mut feed = start(api, options.since).await?;
    say(&format!("Signing secret: {}", secret.expose_secret()))?;
    say(&format!("Ready: events of {} go to {}. Ctrl-C ends.", api.address(), options.forward_to))?;
    let mut failures = 0;
    loop {
        let news = match feed.read(api).await {
            Ok(news) => news,
            Err(error) if error.is_passing() => {
                if failures == 0 {
                    say(&format!("The service is away: {error}. Trying again until it is back."))?;
                }
                tokio::time::sleep(backoff::exponential(AWAY.0, failures, AWAY.1)).await;
                failures = failures.saturating_add(1);
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        if std::mem::take(&mut failures) > 0 {
            say(&"The service is back.")?;
        }
        for event in news.events {
            if options.events.is_empty()
                || options.events.iter().any(|wanted| wanted.as_str() == event.event_type)
            {
                let delivered = handler.deliver(&event).await?;
                *(if delivered { &mut tally.delivered } else { &mut tally.given_up }) += 1;
            }
        }
        if !news.has_more {
            tokio::time::sleep(POLL).await;
        }
    }
}

/// The place to start at. Fails when the service cannot be used: at the start that is a mistake rather than an outage.
async fn start(api: &Api, since: Option<Duration>) -> anyhow::Result<Feed> {
    let found = match since {
        None => Feed::from_now(api).await,
        Some(since) => api.get("v1/events", &[("limit", "1")]).await.map(|answer| before(&answer, since)),
    };
    match found {
        Err(CallError::Unreachable { base, cause }) => {
            bail!(
                "{base} does not answer: {cause}. Is `checkoutd dev` (or the service of --api-url) running?"
            )
        }
        found => Ok(found?),
    }
}

/// By the service's own clock: events have its time, and this machine's may be another.
fn before(answer: &Answer, since: Duration) -> Feed {
    let now: DateTime<Utc> = answer.server_time.unwrap_or_else(|| Clock::system().now());
    Feed::since(now - since)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_spans_have_a_unit() {
        for (text, seconds) in
            [("30s", 30), ("10m", 600), ("2h", 7_200), ("1d", 86_400), ("366d", 31_622_400)]
        {
            assert_eq!(parse_time_span(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in [
            "",
            "s",
            "10",
            "0s",
            "-1m",
            "+1m",
            "1.5h",
            "10 m",
            "1w",
            "10M",
            "367d",
            "1\u{20b9}",
            "99999999999999999999d",
        ] {
            assert!(parse_time_span(text).is_err(), "{text}");
        }
    }
}
