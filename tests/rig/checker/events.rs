//! Events: one for each change, in order, and each delivered to everyone who wanted it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::{Case, Event, grouped, is_terminal};

pub(super) fn check(case: &mut Case<'_>) {
    sequences_have_no_gap(case);
    events_tell_each_sessions_story(case);
    receipts_are_genuine(case);
    events_arrive(case);
}

fn sequences_have_no_gap(case: &mut Case<'_>) {
    for (subject, story) in grouped(&case.evidence.events, |event| event.subject.as_str()) {
        let mut numbers: Vec<i64> = story.iter().map(|event| event.sequence).collect();
        numbers.sort_unstable();
        if numbers.iter().zip(1..).any(|(number, place)| *number != place) {
            case.broken("sequences have no gap and no repeat", subject, format!("{numbers:?}"));
        }
    }
}

fn events_tell_each_sessions_story(case: &mut Case<'_>) {
    let of_sessions = |event: &&Event| event.kind.starts_with("checkout.session.");
    let mut stories: BTreeMap<&str, Vec<&Event>> = BTreeMap::new();
    for event in case.evidence.events.iter().filter(of_sessions) {
        stories.entry(&event.subject).or_default().push(event);
    }
    for session in &case.evidence.sessions {
        let Some(found) = &session.found else { continue };
        let story = stories.remove(session.id.as_str()).unwrap_or_default();
        if let Some(stray) = story.iter().find(|event| event.merchant != session.merchant) {
            case.broken("events stay with their merchant", &session.id, stray.id.as_str());
        }
        let ends: Vec<_> = story.iter().filter(|event| end_of(event).is_some()).collect();
        if !is_terminal(&found.status) {
            // It may have ended between the two looks.
            continue;
        }
        if ends.len() != 1 {
            let kinds: Vec<_> = story.iter().map(|event| event.kind.as_str()).collect();
            case.broken("one event tells the end", &session.id, format!("{}, told {kinds:?}", found.status));
        }
        for end in ends {
            let told = (end_of(end), end.status.as_deref());
            if told != (Some(found.status.as_str()), Some(found.status.as_str())) {
                let text = format!("it is {}, {} says {:?}", found.status, end.kind, end.status);
                case.broken("the last event shows the final state", &session.id, text);
            }
        }
    }
    for (session, story) in stories {
        case.broken("events are about sessions that exist", session, format!("{} events", story.len()));
    }
}

/// The status that an event's name stands for, when it is an end.
fn end_of(event: &Event) -> Option<&str> {
    event.kind.strip_prefix("checkout.session.").filter(|status| is_terminal(status))
}

fn receipts_are_genuine(case: &mut Case<'_>) {
    let known: HashMap<&str, &Event> =
        case.evidence.events.iter().map(|event| (event.id.as_str(), event)).collect();
    let mut told: HashSet<(&str, &str)> = HashSet::new();
    let mut once = |rule, id| told.insert((rule, id));
    for receipt in &case.evidence.receipts {
        let id = receipt.event.as_str();
        if !receipt.verified && once("signature", id) {
            case.broken("a delivery is signed", id, format!("at endpoint {}", receipt.endpoint));
        }
        let Some(event) = known.get(id) else {
            if once("known", id) {
                case.broken("what is delivered has happened", id, "the API knows no such event");
            }
            continue;
        };
        if event.body != receipt.body && once("body", id) {
            case.broken("one webhook-id, one body", id, format!("endpoint {} got another", receipt.endpoint));
        }
        let endpoint = &case.evidence.endpoints[receipt.endpoint];
        if endpoint.merchant != event.merchant && once("owner", id) {
            case.broken("events stay with their merchant", id, format!("endpoint {}", receipt.endpoint));
        }
    }
}

fn events_arrive(case: &mut Case<'_>) {
    let taken: BTreeSet<(usize, &str)> = case
        .evidence
        .receipts
        .iter()
        .filter(|receipt| receipt.answered.is_some_and(|status| (200..300).contains(&status)))
        .map(|receipt| (receipt.endpoint, receipt.event.as_str()))
        .collect();
    for (number, endpoint) in case.evidence.endpoints.iter().enumerate() {
        for event in case.evidence.events.iter().filter(|event| event.merchant == endpoint.merchant) {
            let wanted = endpoint.kinds.is_empty() || endpoint.kinds.contains(&event.kind);
            if wanted && !taken.contains(&(number, event.id.as_str())) {
                let text = format!("{} for endpoint {number}", event.kind);
                case.unfinished("an event arrives", &event.id, text);
            }
        }
    }
}
