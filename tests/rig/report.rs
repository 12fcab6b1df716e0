//! What is printed at the end.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use checkoutd::sandbox::Delivery;

use crate::{
    args::Args,
    checker::{Evidence, Violation},
    tally::{Tally, percentile},
};

/// Most violations of one rule that are shown.
const SHOWN: usize = 8;

pub fn print(
    args: &Args,
    tally: &Tally,
    evidence: &Evidence,
    violations: &[Violation],
    webhooks: &[Delivery],
    took: Duration,
) {
    println!("\n==== rig: seed {}, {} replicas, {:.0} s ====", args.seed, args.replicas, took.as_secs_f64());
    ends(evidence);
    money(evidence);
    println!("\nwhat was done");
    done(tally);
    let (ready, disturbed) = tally.ready_times();
    println!("\ntimes");
    times("start to ready, database up", ready);
    times("start to ready, database disturbed", disturbed);
    times("Postgres back to ready", tally.recovery_times());
    times("SIGTERM to exit", tally.stop_times());
    let problems = tally.problems();
    for problem in &problems {
        println!("PROBLEM {problem}");
    }
    let mut by_rule: BTreeMap<&str, Vec<&Violation>> = BTreeMap::new();
    for violation in violations {
        by_rule.entry(violation.rule).or_default().push(violation);
    }
    println!("\nviolations: {}, problems: {}", violations.len(), tally.counted("problems"));
    for (rule, broken) in by_rule {
        println!("  {:>6}  {rule}", broken.len());
        for violation in broken.iter().take(SHOWN) {
            println!("          {}: {}", violation.subject, violation.text);
            webhooks_about(&violation.subject, webhooks);
        }
    }
}

/// What Razorpay told of it, and how often it had to try.
fn webhooks_about(subject: &str, webhooks: &[Delivery]) {
    for webhook in webhooks.iter().filter(|webhook| webhook.body.contains(subject)) {
        let at = chrono::DateTime::from_timestamp_millis(webhook.created_at_ms).unwrap_or_default();
        let last = webhook.attempts.last().map(|attempt| (attempt.status, attempt.error.as_deref()));
        println!(
            "            {} at {}: {:?} after {} attempts, the last {last:?}",
            webhook.event,
            at.format("%H:%M:%S%.3f"),
            webhook.status,
            webhook.attempts.len(),
        );
    }
}

/// Kinds of one thing share a line.
fn done(tally: &Tally) {
    let mut kinds: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (what, times) in tally.counts() {
        match what.split_once(": ") {
            Some((thing, kind)) => {
                kinds.entry(thing.to_owned()).or_default().push(format!("{kind} {times}"));
            }
            None => println!("  {times:>8}  {what}"),
        }
    }
    for (thing, kinds) in kinds {
        println!("  {thing}: {}", kinds.join(", "));
    }
}

fn ends(evidence: &Evidence) {
    let mut by_status: BTreeMap<&str, usize> = BTreeMap::new();
    for session in &evidence.sessions {
        let status = session.found.as_ref().map_or("not found", |found| &found.status);
        *by_status.entry(status).or_default() += 1;
    }
    println!("sessions: {}", evidence.sessions.len());
    for (status, count) in by_status {
        println!("  {count:>8}  {status}");
    }
    let named: BTreeSet<&str> = evidence.named.iter().map(|named| named.session.as_str()).collect();
    println!("  {:>8}  acknowledged ids, {} answers kept", named.len(), evidence.observations.len());
}

fn money(evidence: &Evidence) {
    println!(
        "links {}, captured payments {}, refunds {}",
        evidence.links.len(),
        evidence.payments.len(),
        evidence.refunds.len()
    );
    let taken = evidence.receipts.iter().filter(|receipt| receipt.answered == Some(200));
    let mut count = 0_u32;
    let distinct: BTreeSet<(usize, &str)> =
        taken.inspect(|_| count += 1).map(|receipt| (receipt.endpoint, receipt.event.as_str())).collect();
    let distinct = u32::try_from(distinct.len()).unwrap_or(u32::MAX);
    let more = f64::from(count - distinct) * 100.0 / f64::from(distinct.max(1));
    println!("events {}, deliveries taken {count}, of which repeated {more:.2} %", evidence.events.len());
}

fn times(what: &str, values: Vec<Duration>) {
    let (p50, p99) = (percentile(values.clone(), 50), percentile(values.clone(), 99));
    let max = values.iter().max().copied().unwrap_or_default();
    println!("  {what}: n {}, p50 {p50:.0?}, p99 {p99:.0?}, max {max:.0?}", values.len());
}
