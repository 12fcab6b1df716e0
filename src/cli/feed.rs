//! The events of an environment, one after another, as the log of a running service has them.

use std::collections::HashSet;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::client::{Api, CallError};
use crate::webhooks::EventId;

const PATH: &str = "v1/events";
/// Events that are looked through for those that were committed before the start: one that began earlier may still
/// be committed, and then stands before the newest.
const LOOK_BACK: &str = "20";

/// A place in the log, from which on events are read. Kept here: the service may come and go.
pub struct Feed {
    after: Option<EventId>,
    since: Option<DateTime<Utc>>,
    seen: HashSet<EventId>,
}

/// One event.
pub struct Event {
    /// Its id.
    pub id: EventId,
    /// A name that this program may not know: the service can be newer.
    pub event_type: String,
    /// The id of what it is about.
    pub about: String,
    /// The session that has to do with it, where it is about something else.
    pub session: Option<String>,
    /// The very bytes that endpoints get.
    pub body: Box<RawValue>,
}

/// What one look brought.
pub struct News {
    /// In the order of the log.
    pub events: Vec<Event>,
    /// Whether there is more already.
    pub has_more: bool,
}

#[derive(Deserialize)]
struct Page {
    items: Vec<Box<RawValue>>,
    pagination: Pagination,
}

#[derive(Deserialize)]
struct Pagination {
    has_more: bool,
}

#[derive(Deserialize)]
struct Head {
    id: EventId,
    event_type: String,
    data: Subject,
}

#[derive(Deserialize)]
struct Subject {
    id: Option<String>,
    checkout_session_id: Option<String>,
}

impl Feed {
    /// What is committed from now on.
    pub async fn from_now(api: &Api) -> Result<Self, CallError> {
        let newest: Page = api.get(PATH, &[("limit", LOOK_BACK)]).await?.json()?;
        let seen = newest.items.iter().map(|body| Ok(head(body)?.id));
        let seen: Vec<_> =
            seen.collect::<Result<_, serde_json::Error>>().map_err(|error| malformed(api, &error))?;
        let after = seen.last().copied().filter(|_| newest.pagination.has_more);
        // With no event before them, all others are new: no clock has to be asked.
        let since = after.is_none().then_some(DateTime::UNIX_EPOCH);
        Ok(Self { after, since, seen: seen.into_iter().collect() })
    }

    /// What happened at `time` or later.
    pub fn since(time: DateTime<Utc>) -> Self {
        Self { after: None, since: Some(time), seen: HashSet::new() }
    }

    /// Reads on. An error leaves the place as it was.
    pub async fn read(&mut self, api: &Api) -> Result<News, CallError> {
        let after = self.after.map(|id| id.to_string());
        let since = self.since.map(|time| time.to_rfc3339_opts(SecondsFormat::Micros, true));
        let query = [("after", &after), ("since", &since)];
        let query: Vec<_> =
            query.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?))).collect();
        let page: Page = api.get(PATH, &query).await?.json()?;
        let events = page.items.into_iter().map(event).collect::<Result<Vec<_>, _>>();
        let mut events = events.map_err(|error| malformed(api, &error))?;
        if let Some(last) = events.last() {
            self.after = Some(last.id);
        }
        events.retain(|event| !self.seen.contains(&event.id));
        Ok(News { events, has_more: page.pagination.has_more })
    }
}

fn head(body: &RawValue) -> serde_json::Result<Head> {
    serde_json::from_str(body.get())
}

fn event(body: Box<RawValue>) -> serde_json::Result<Event> {
    let Head { id, event_type, data } = head(&body)?;
    let about = data.id.unwrap_or_default();
    Ok(Event { id, event_type, about, session: data.checkout_session_id, body })
}

fn malformed(api: &Api, error: &serde_json::Error) -> CallError {
    api.malformed(PATH, error)
}
