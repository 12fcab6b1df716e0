//! `checkoutd trigger`: makes an event happen at the sandbox, as customers and Razorpay would make it happen.

use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use clap::Args;
use url::Url;

use super::{
    client::{Api, printable},
    dev::{CUSTOMER, PLAN},
    feed::Feed,
    service::{self, Service},
    stop_signal,
};
use crate::{config, webhooks::EventType};

mod path;
mod sandbox;

use path::Path;
use sandbox::Sandbox;

/// How long an event is waited for. The longest way is that of late money: what says so on Razorpay's side is
/// believed only once the link was asked, seconds later.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(200);

/// Arguments of `trigger`.
#[derive(Debug, Args)]
pub struct Options {
    /// What is to happen.
    #[arg(value_name = "EVENT_TYPE", value_parser = parse_path, long_help = long_help())]
    event: Path,
    /// Lookup key or id of the plan that is bought.
    #[arg(long, default_value = PLAN)]
    plan: String,
    /// Your own id of the customer who buys it.
    #[arg(long, default_value = CUSTOMER)]
    customer: String,
    /// The Razorpay sandbox that the service is connected to, on this machine. Without it, that of the `checkoutd dev` of this
    /// directory.
    #[arg(long, value_name = "URL", value_parser = sandbox_url)]
    sandbox_url: Option<Url>,
    #[command(flatten)]
    service: service::ServiceOptions,
}

fn long_help() -> String {
    format!("What is to happen: {}.", Path::known())
}

fn parse_path(text: &str) -> Result<Path, String> {
    let event: EventType = text.parse().map_err(|_| format!("must be one of {}", Path::known()))?;
    Path::to(event)
        .ok_or_else(|| format!("cannot be triggered at the sandbox; must be one of {}", Path::known()))
}

fn sandbox_url(text: &str) -> Result<Url, &'static str> {
    let url = config::keyed_url(text).filter(config::is_loopback);
    url.ok_or("must be an absolute URL on this machine, such as http://127.0.0.1:8090")
}

/// Makes it happen, and waits for the event.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let service = Service::find(&options.service)?;
    let Some(sandbox_url) = options.sandbox_url.or(service.sandbox_url) else {
        bail!("--sandbox-url must be given: sessions are paid at the Razorpay sandbox and nowhere else");
    };
    let api = Api::new(service.api_url, Some(service.api_key))?;
    let sandbox = Sandbox::of(&api, sandbox_url).await?;
    let mut feed = Feed::from_now(&api).await?;
    let order = path::Order { plan: &options.plan, customer: &options.customer };
    let path = options.event;
    let undo = path.prepare(&sandbox).await?;
    let stopped = stop_signal()?;
    let ended = tokio::select! {
        () = stopped => Err(anyhow!("stopped before the event came")),
        ended = walk(path, &api, &sandbox, &mut feed, &order) => ended,
    };
    if let Some(undo) = undo {
        undo.run(&sandbox)
            .await
            .context("the sandbox's refunds still fail: DELETE /_sandbox/faults ends it")?;
    }
    ended
}

async fn walk(
    path: Path,
    api: &Api,
    sandbox: &Sandbox,
    feed: &mut Feed,
    order: &path::Order<'_>,
) -> anyhow::Result<()> {
    let session = path.walk(api, sandbox, order).await?;
    println!("waiting  for {}", path.event());
    let from = Instant::now();
    while from.elapsed() < PATIENCE {
        let news = feed.read(api).await?;
        let wanted = news.events.into_iter().find(|event| {
            event.event_type == path.event().as_str()
                && (event.about == session || event.session.as_ref() == Some(&session))
        });
        if let Some(event) = wanted {
            let (about, took) = (printable(&event.about, 64), from.elapsed());
            println!("event    {}  {}  {about}  after {:.1} s", path.event(), event.id, took.as_secs_f32());
            return Ok(());
        }
        if !news.has_more {
            tokio::time::sleep(POLL).await;
        }
    }
    bail!("{session}: no {} within {} seconds; is a worker running?", path.event(), PATIENCE.as_secs())
}
