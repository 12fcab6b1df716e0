//! The handler that events are forwarded to: where it may be, and what becomes of an event there.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use futures::future::BoxFuture;
use secrecy::SecretString;
use url::{Host, Url};

use super::say;
use crate::{
    cli::{client::printable, feed::Event},
    kit::clock::Clock,
    tenancy::Mode,
    webhooks::{self, Answer, Egress, Lookup, Rejection, Rules, SendError},
};

/// Before each further try of an event. A handler that is being restarted is back by then; what fails because of a
/// mistake does not hold up the rest for long.
const PAUSES: [Duration; 3] = [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2)];
/// Of what a handler answered to an event that it did not take.
const SHOWN_CHARACTERS: usize = 120;

const LOCAL_RULE: &str =
    "must be on this machine or in its private network (loopback, 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16)";

/// Where a handler may be, as far as its URL tells.
pub fn vet_url(text: &str) -> Result<String, String> {
    let url = development().vet_url(text).map_err(|rejection| match rejection {
        Rejection::Malformed => "must be an absolute http or https URL".to_owned(),
        Rejection::Address => LOCAL_RULE.to_owned(),
        other => other.to_string(),
    })?;
    match literal(&url) {
        Some(address) if !is_local(address) => Err(LOCAL_RULE.to_owned()),
        _ => Ok(text.to_owned()),
    }
}

fn development() -> Rules {
    Rules::new(Mode::Test, true)
}

fn literal(url: &Url) -> Option<IpAddr> {
    match url.host()? {
        Host::Ipv4(address) => Some(address.into()),
        Host::Ipv6(address) => Some(address.into()),
        Host::Domain(_) => None,
    }
}

/// What development may reach besides the public internet.
fn is_local(address: IpAddr) -> bool {
    development().admits(address) && !Rules::new(Mode::Test, false).admits(address)
}

/// Finds a name's addresses, none of which may be elsewhere.
struct LocalLookup;

impl Lookup for LocalLookup {
    fn lookup(&self, host: String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move {
            let found: Vec<_> = tokio::net::lookup_host((host, 0)).await?.collect();
            let all_local = found.iter().all(|address| is_local(address.ip()));
            if all_local { Ok(found) } else { Err(io::Error::other(LOCAL_RULE)) }
        })
    }
}

/// A developer's own receiver.
pub struct Handler {
    url: String,
    secrets: [SecretString; 1],
    egress: Egress,
    clock: Clock,
}

impl Handler {
    /// `url` has been through [`vet_url`].
    pub fn new(url: String, secret: SecretString, clock: Clock) -> anyhow::Result<Self> {
        let egress = Egress::with_lookup(true, &(Arc::new(LocalLookup) as _))?;
        Ok(Self { url, secrets: [secret], egress, clock })
    }

    /// Where a handler may be, as far as its name tells; asked again at each connection.
    pub async fn vet_host(&self) -> anyhow::Result<()> {
        let url = Url::parse(&self.url)?;
        if let Some(Host::Domain(name)) = url.host()
            && let Err(error) = LocalLookup.lookup(name.to_owned()).await
        {
            let name = printable(name, 253);
            if error.to_string() == LOCAL_RULE {
                bail!("--forward-to {LOCAL_RULE}; {name} is not");
            }
            return Err(error).with_context(|| format!("--forward-to: {name} was not found"));
        }
        Ok(())
    }

    /// Posts an event until it is taken, or until all tries are used up; whether it was taken. A line per try.
    pub async fn deliver(&self, event: &Event) -> anyhow::Result<bool> {
        for pause in PAUSES.map(Some).into_iter().chain([None]) {
            let from = Instant::now();
            let answer = self.post(event).await?;
            let line = self.line(event, &answer, from.elapsed());
            if answer.is_ok_and(|answer| answer.status.is_success()) {
                say(&line)?;
                return Ok(true);
            }
            let Some(pause) = pause else {
                say(&format!("{line}; given up after {} tries", PAUSES.len() + 1))?;
                break;
            };
            say(&format!("{line}; again in {} s", pause.as_secs_f32()))?;
            tokio::time::sleep(pause).await;
        }
        Ok(false)
    }

    async fn post(&self, event: &Event) -> anyhow::Result<Result<Answer, SendError>> {
        let body = event.body.get().as_bytes();
        let headers = webhooks::signed_headers(&self.secrets, event.id, self.clock.now().timestamp(), body)?;
        Ok(self.egress.post(development(), &self.url, headers, body.to_vec()).await)
    }

    fn line(&self, event: &Event, answer: &Result<Answer, SendError>, took: Duration) -> String {
        let (status, remark) = match answer {
            Ok(answer) if answer.status.is_success() => (answer.status.as_u16().to_string(), String::new()),
            Ok(answer) => (answer.status.as_u16().to_string(), printable(&answer.body, SHOWN_CHARACTERS)),
            Err(error) => ("---".to_owned(), printable(&error.to_string(), SHOWN_CHARACTERS)),
        };
        let (event_type, about) = (printable(&event.event_type, 64), printable(&event.about, 64));
        let gap = if remark.is_empty() { "" } else { "  " };
        format!(
            "{}  {status}  {event_type:26}  {}  {about}  {} ms{gap}{remark}",
            self.clock.now().format("%H:%M:%S"),
            event.id,
            took.as_millis(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_stay_in_the_private_network() {
        for url in [
            "http://localhost:3000/webhooks",
            "http://127.0.0.1:3000/",
            "https://127.0.0.1/",
            "http://[::1]:3000/",
            "http://192.168.1.10:3000/?a=b",
            "http://10.1.2.3/",
            "http://172.17.0.2/",
            "http://host.docker.internal:3000/",
        ] {
            assert!(vet_url(url).is_ok(), "{url}");
        }
        for url in [
            "http://8.8.8.8/",
            "https://1.1.1.1/",
            "https://[2606:4700::1111]/",
            "http://169.254.169.254/",
            "http://0.0.0.0/",
            "http://[::ffff:8.8.8.8]/",
            "http://0x08080808/",
        ] {
            assert_eq!(vet_url(url), Err(LOCAL_RULE.to_owned()), "{url}");
        }
        for url in [
            "",
            "localhost:3000",
            "/webhooks",
            "ftp://127.0.0.1/",
            "http://u:p@127.0.0.1/",
            "http://127.0.0.1/#x",
        ] {
            assert!(vet_url(url).is_err_and(|rule| rule.starts_with("must")), "{url}");
        }
    }
}
