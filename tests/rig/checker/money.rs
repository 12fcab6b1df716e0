//! Money: every captured payment is applied to exactly one session or given back in full exactly once.

use std::collections::HashMap;

use super::{Case, Found, Payment, RefundState, grouped, is_terminal};

pub(super) fn check(case: &mut Case<'_>) {
    applied_payments_are_right(case);
    captured_payments_have_one_fate(case);
    links_are_ours_and_closed(case);
}

/// What completed sessions say they were paid with: right, real, and each with one of its own.
fn applied_payments_are_right(case: &mut Case<'_>) {
    let rule = "a completed session has one payment of its own";
    let payments: HashMap<&str, &Payment> =
        case.evidence.payments.iter().map(|payment| (payment.id.as_str(), payment)).collect();
    let mut users: HashMap<&str, &str> = HashMap::new();
    for session in &case.evidence.sessions {
        let Some(found) = session.found.as_ref().filter(|found| found.status == "completed") else {
            continue;
        };
        let Some(applied) = &found.applied else {
            case.broken(rule, &session.id, "it names no payment");
            continue;
        };
        let Some(payment) = payments.get(applied.as_str()) else {
            case.broken(rule, &session.id, format!("{applied} took no money"));
            continue;
        };
        if let Some(other) = users.insert(applied, &session.id) {
            case.broken(rule, &session.id, format!("{applied} completed {other} as well"));
        }
        let reference = case.links.get(payment.link.as_str()).map(|link| link.reference.as_str());
        if reference != Some(session.id.as_str()) {
            case.broken(rule, &session.id, format!("{applied} was made on a link of {reference:?}"));
        }
        if (payment.amount, &payment.currency) != (found.amount, &found.currency) {
            let text = format!(
                "{applied} is {} {}, not {} {}",
                payment.amount, payment.currency, found.amount, found.currency
            );
            case.broken(rule, &session.id, text);
        }
    }
}

fn captured_payments_have_one_fate(case: &mut Case<'_>) {
    for payment in &case.evidence.payments {
        let Some(link) = case.links.get(payment.link.as_str()) else {
            case.broken("a captured payment has one fate", &payment.id, "its link is in no book");
            continue;
        };
        let reference = link.reference.clone();
        let session = case.sessions.get(reference.as_str()).and_then(|session| session.found.as_ref());
        let applied = session.is_some_and(|session| is_applied(session, payment));
        let open = session.is_none_or(|session| !is_terminal(&session.status));
        fate(case, payment, &reference, applied, open);
    }
}

fn is_applied(session: &Found, payment: &Payment) -> bool {
    session.status == "completed" && session.applied.as_ref() == Some(&payment.id)
}

fn fate(case: &mut Case<'_>, payment: &Payment, session: &str, applied: bool, open: bool) {
    let rule = "a captured payment has one fate";
    let refunds = case.refunds.get(payment.id.as_str()).cloned().unwrap_or_default();
    let live: Vec<_> = refunds.iter().filter(|refund| refund.state != RefundState::Failed).collect();
    let given_back: i64 = live.iter().map(|refund| refund.amount).sum();
    let what = format!("{} {} for {session}", payment.amount, payment.currency);
    if applied && !live.is_empty() {
        case.broken(rule, &payment.id, format!("{what}: applied and given back"));
    } else if live.len() > 1 || given_back > payment.amount {
        case.broken(
            rule,
            &payment.id,
            format!("{what}: given back {} times, {given_back} in all", live.len()),
        );
    } else if applied {
    } else if live.is_empty() {
        let why = if open { "its session is still open" } else { "not given back" };
        case.unfinished(rule, &payment.id, format!("{what}: not applied, {why}"));
    } else if given_back != payment.amount {
        case.broken(rule, &payment.id, format!("{what}: only {given_back} given back"));
    } else if live.iter().any(|refund| refund.state == RefundState::Pending) {
        case.unfinished(rule, &payment.id, format!("{what}: its refund is pending"));
    }
}

fn links_are_ours_and_closed(case: &mut Case<'_>) {
    for (reference, links) in grouped(&case.evidence.links, |link| link.reference.as_str()) {
        if links.len() > 1 {
            let ids: Vec<_> = links.iter().map(|link| link.id.as_str()).collect();
            case.broken("one link per session", reference, ids.join(", "));
        }
        let Some(session) = case.sessions.get(reference).and_then(|session| session.found.as_ref()) else {
            case.broken("a link belongs to a session", &links[0].id, format!("reference_id {reference:?}"));
            continue;
        };
        if is_terminal(&session.status) && links.iter().any(|link| link.payable) {
            let text = format!("{reference} is {}", session.status);
            case.unfinished("no payable link outlives its session", &links[0].id, text);
        }
    }
}
