//! Sessions: acknowledged ones exist, all end, nothing is half done, nothing is taken back.

use super::{Case, Found, Observation, grouped, is_terminal};

pub(super) fn check(case: &mut Case<'_>) {
    acknowledged_sessions_exist(case);
    sessions_end_whole(case);
    answers_are_never_taken_back(case);
    one_open_session_per_key(case);
}

fn acknowledged_sessions_exist(case: &mut Case<'_>) {
    for named in &case.evidence.named {
        let exists = case.sessions.get(named.session.as_str()).is_some_and(|session| session.found.is_some());
        if !exists {
            let text = format!("merchant {} got its id with a {}", named.merchant, named.status);
            case.broken("an acknowledged session exists", &named.session, text);
        }
    }
}

fn sessions_end_whole(case: &mut Case<'_>) {
    for session in &case.evidence.sessions {
        let Some(found) = &session.found else { continue };
        match found.status.as_str() {
            "completed" => completed_means_all_of_it(case, &session.id, found),
            status if is_terminal(status) => ended_means_none_of_it(case, &session.id, found),
            status => case.unfinished("a session ends", &session.id, format!("still {status}")),
        }
    }
}

fn completed_means_all_of_it(case: &mut Case<'_>, id: &str, found: &Found) {
    let rule = "completed: active, finalized, paid, succeeded";
    let wanted = [
        ("subscription", found.subscription_status.as_str(), "active"),
        ("invoice", &found.invoice_status, "FINALIZED"),
        ("invoice's payment", &found.invoice_payment_status, "SUCCEEDED"),
        ("payment", &found.payment_status, "SUCCEEDED"),
    ];
    for (what, is, should_be) in wanted {
        if is != should_be {
            case.broken(rule, id, format!("the {what} is {is}"));
        }
    }
    if found.invoice_paid != found.amount {
        case.broken(rule, id, format!("the invoice is paid {} of {}", found.invoice_paid, found.amount));
    }
}

fn ended_means_none_of_it(case: &mut Case<'_>, id: &str, found: &Found) {
    let rule = "not completed: nothing active, finalized, paid";
    let unwanted = [
        ("subscription", found.subscription_status.as_str(), "active"),
        ("invoice", &found.invoice_status, "FINALIZED"),
        ("invoice's payment", &found.invoice_payment_status, "SUCCEEDED"),
        ("payment", &found.payment_status, "SUCCEEDED"),
    ];
    for (what, is, should_not_be) in unwanted {
        if is == should_not_be {
            case.broken(rule, id, format!("the session is {}, its {what} is {is}", found.status));
        }
    }
    if found.invoice_paid != 0 {
        case.broken(rule, id, format!("the session is {}, its invoice is paid", found.status));
    }
}

/// How far a session has come.
fn rank(status: &str) -> u8 {
    match status {
        "initiated" => 0,
        "pending" => 1,
        _ => 2,
    }
}

fn answers_are_never_taken_back(case: &mut Case<'_>) {
    let rule = "an answer is never taken back";
    for (id, mut seen) in grouped(&case.evidence.observations, |seen| seen.session.as_str()) {
        seen.sort_by_key(|seen| seen.sent_ns);
        let last = case.sessions.get(id).and_then(|session| session.found.as_ref());
        let ends: Vec<&Observation> = seen.iter().copied().filter(|seen| is_terminal(&seen.status)).collect();
        if let Some(end) = ends.iter().find(|end| last.is_some_and(|last| last.status != end.status)) {
            let now = last.map_or("?", |last| last.status.as_str());
            case.broken(rule, id, format!("a reader saw it {}, now it is {now}", end.status));
        }
        if let Some(other) = ends.iter().find(|end| end.status != ends[0].status) {
            case.broken(rule, id, format!("readers saw it {} and {}", ends[0].status, other.status));
        }
        let shown: Vec<_> = ends.iter().filter_map(|end| end.digest).collect();
        if shown.windows(2).any(|pair| pair[0] != pair[1]) {
            case.broken(rule, id, "its answers differ although it had ended");
        }
        if let Some((before, after)) = went_back(&seen) {
            case.broken(rule, id, format!("{} after {} had been answered", after.status, before.status));
        }
    }
}

/// An answer to a question that was asked after a later state had been answered.
fn went_back<'e>(in_order_of_asking: &[&'e Observation]) -> Option<(&'e Observation, &'e Observation)> {
    in_order_of_asking.iter().find_map(|after| {
        let before = in_order_of_asking.iter().find(|before| {
            before.received_ns < after.sent_ns && rank(&before.status) > rank(&after.status)
        })?;
        Some((*before, *after))
    })
}

fn one_open_session_per_key(case: &mut Case<'_>) {
    for overlap in &case.evidence.overlaps {
        case.broken("one open session per idempotency key", overlap, "open at the same time");
    }
}
