//! Each rule on evidence that breaks it, and all of them on evidence that breaks none.

use super::*;

/// One session that was paid and completed, one whose money came too late, one that nobody paid; all told to
/// an endpoint.
fn clean() -> Evidence {
    let mut evidence = Evidence {
        endpoints: vec![
            Endpoint { merchant: 0, kinds: vec![] },
            Endpoint { merchant: 0, kinds: vec!["checkout.session.completed".into()] },
        ],
        ..Evidence::default()
    };
    for (id, status) in [("chk_paid", "completed"), ("chk_late", "expired"), ("chk_never", "failed")] {
        add_session(&mut evidence, id, status);
    }
    add_payment(&mut evidence, "pay_1", "chk_paid");
    add_payment(&mut evidence, "pay_2", "chk_late");
    add_refund(&mut evidence, "pay_2", RefundState::Processed);
    // A refund that failed has given nothing back.
    add_refund(&mut evidence, "pay_2", RefundState::Failed);
    add_event(&mut evidence, "refund_1", 1, "refund.succeeded", "");
    evidence.events.last_mut().expect("it was just added").payment = Some("pay_2".into());
    found(&mut evidence, "chk_paid").applied = Some("pay_1".into());
    evidence
}

fn add_session(evidence: &mut Evidence, id: &str, status: &str) {
    let completed = status == "completed";
    let word = |yes: &str, no: &str| if completed { yes.to_owned() } else { no.to_owned() };
    let session = Found {
        status: status.into(),
        amount: 49_900,
        currency: "INR".into(),
        subscription_status: word("active", "draft"),
        invoice_status: word("FINALIZED", "DRAFT"),
        invoice_payment_status: word("SUCCEEDED", "INITIATED"),
        invoice_paid: if completed { 49_900 } else { 0 },
        payment_status: word("SUCCEEDED", "INITIATED"),
        applied: None,
    };
    evidence.sessions.push(Session { id: id.into(), merchant: 0, found: Some(session) });
    evidence.named.push(Named { session: id.into(), merchant: 0, status: 201 });
    evidence.links.push(Link { id: format!("plink_{id}"), reference: id.into(), payable: false });
    for (at, status) in [(1, "initiated"), (2, "pending"), (3, status), (4, status)] {
        evidence.observations.push(Observation {
            session: id.into(),
            sent_ns: at * 10,
            received_ns: at * 10 + 5,
            status: status.into(),
            digest: Some([u8::from(at > 2); 8]),
        });
    }
    add_event(evidence, id, 1, "checkout.session.initiated", "pending");
    add_event(evidence, id, 2, &format!("checkout.session.{status}"), status);
}

fn add_event(evidence: &mut Evidence, subject: &str, sequence: i64, kind: &str, status: &str) {
    let event = Event {
        id: format!("evt_{subject}_{sequence}"),
        merchant: 0,
        kind: kind.into(),
        subject: subject.into(),
        sequence,
        status: Some(status.into()),
        payment: None,
        body: [u8::try_from(sequence).unwrap_or_default(); 8],
    };
    for (endpoint, wants) in evidence.endpoints.clone().iter().enumerate() {
        if wants.kinds.is_empty() || wants.kinds.contains(&event.kind) {
            evidence.receipts.push(Receipt {
                endpoint,
                event: event.id.clone(),
                body: event.body,
                verified: true,
                answered: Some(200),
            });
        }
    }
    evidence.events.push(event);
}

fn add_payment(evidence: &mut Evidence, id: &str, session: &str) {
    let link = format!("plink_{session}");
    evidence.payments.push(Payment { id: id.into(), link, amount: 49_900, currency: "INR".into() });
}

fn add_refund(evidence: &mut Evidence, payment: &str, state: RefundState) {
    evidence.refunds.push(Refund { payment: payment.into(), amount: 49_900, state });
}

fn found<'e>(evidence: &'e mut Evidence, id: &str) -> &'e mut Found {
    let session = evidence.sessions.iter_mut().find(|session| session.id == id);
    session.and_then(|session| session.found.as_mut()).expect("a session of the clean evidence")
}

fn receipt<'e>(evidence: &'e mut Evidence, event: &str) -> &'e mut Receipt {
    let receipt = evidence.receipts.iter_mut().find(|receipt| receipt.event == event);
    receipt.expect("a receipt of the clean evidence")
}

/// What the checker says of the clean evidence after `spoil`: rules and whether they heal.
fn after(spoil: impl FnOnce(&mut Evidence)) -> Vec<(&'static str, bool)> {
    let mut evidence = clean();
    spoil(&mut evidence);
    violations(&evidence).into_iter().map(|violation| (violation.rule, violation.heals)).collect()
}

#[track_caller]
fn breaks(rule: &'static str, spoil: impl FnOnce(&mut Evidence)) {
    let found = after(spoil);
    assert!(found.contains(&(rule, false)), "{rule} was not seen: {found:?}");
}

#[track_caller]
fn leaves_unfinished(rule: &'static str, spoil: impl FnOnce(&mut Evidence)) {
    assert_eq!(after(spoil), [(rule, true)]);
}

#[test]
fn clean_evidence_breaks_nothing() {
    assert_eq!(after(|_| {}), []);
}

#[test]
fn a_lost_acknowledgement_is_seen() {
    breaks("an acknowledged session exists", |evidence| {
        evidence.named.push(Named { session: "chk_lost".into(), merchant: 0, status: 201 });
    });
    breaks("an acknowledged session exists", |evidence| {
        evidence.sessions.iter_mut().find(|session| session.id == "chk_never").expect("clean").found = None;
    });
}

#[test]
fn a_stuck_session_is_seen() {
    for status in ["initiated", "pending"] {
        leaves_unfinished("a session ends", |evidence| {
            add_session(evidence, "chk_stuck", status);
            // It has no end yet, neither told nor seen.
            evidence.events.pop();
            evidence.receipts.pop();
            evidence.observations.retain(|seen| seen.session != "chk_stuck");
        });
    }
}

#[test]
fn a_half_completed_session_is_seen() {
    let rule = "completed: active, finalized, paid, succeeded";
    breaks(rule, |evidence| found(evidence, "chk_paid").subscription_status = "draft".into());
    breaks(rule, |evidence| found(evidence, "chk_paid").invoice_status = "DRAFT".into());
    breaks(rule, |evidence| found(evidence, "chk_paid").invoice_payment_status = "PENDING".into());
    breaks(rule, |evidence| found(evidence, "chk_paid").payment_status = "PENDING".into());
    breaks(rule, |evidence| found(evidence, "chk_paid").invoice_paid = 49_899);
}

#[test]
fn something_for_nothing_is_seen() {
    let rule = "not completed: nothing active, finalized, paid";
    breaks(rule, |evidence| found(evidence, "chk_never").subscription_status = "active".into());
    breaks(rule, |evidence| found(evidence, "chk_never").invoice_status = "FINALIZED".into());
    breaks(rule, |evidence| found(evidence, "chk_late").payment_status = "SUCCEEDED".into());
    breaks(rule, |evidence| found(evidence, "chk_late").invoice_payment_status = "SUCCEEDED".into());
    breaks(rule, |evidence| found(evidence, "chk_late").invoice_paid = 1);
}

#[test]
fn an_answer_that_was_taken_back_is_seen() {
    let rule = "an answer is never taken back";
    breaks(rule, |evidence| evidence.observations[3].status = "expired".into());
    breaks(rule, |evidence| evidence.observations[3].status = "pending".into());
    breaks(rule, |evidence| {
        evidence.observations[0].status = "pending".into();
        evidence.observations[1].status = "initiated".into();
    });
    breaks(rule, |evidence| evidence.observations[3].digest = Some([9; 8]));
    breaks(rule, |evidence| {
        for seen in &mut evidence.observations[2..4] {
            seen.status = "failed".into();
        }
    });
    // An older question may be answered later with what was true then.
    let overtaken = after(|evidence| {
        let late = &mut evidence.observations[1];
        (late.sent_ns, late.received_ns) = (20, 90);
    });
    assert_eq!(overtaken, []);
}

#[test]
fn two_open_sessions_under_one_key_are_seen() {
    breaks("one open session per idempotency key", |evidence| evidence.overlaps.push("a, b".into()));
}

#[test]
fn money_without_a_fate_is_seen() {
    let rule = "a captured payment has one fate";
    leaves_unfinished(rule, |evidence| add_payment(evidence, "pay_3", "chk_never"));
    for state in [RefundState::Pending, RefundState::Failed] {
        leaves_unfinished(rule, |evidence| {
            evidence.refunds[0].state = state;
            evidence.events.retain(|event| event.subject != "refund_1");
            evidence.receipts.retain(|receipt| receipt.event != "evt_refund_1_1");
        });
    }
    // Twice paid: the second has to go back.
    leaves_unfinished(rule, |evidence| add_payment(evidence, "pay_3", "chk_paid"));
    breaks(rule, |evidence| {
        evidence.payments[1].link = "plink_nobody".into();
    });
}

#[test]
fn money_with_two_fates_is_seen() {
    let rule = "a captured payment has one fate";
    for state in [RefundState::Processed, RefundState::Pending] {
        breaks(rule, |evidence| add_refund(evidence, "pay_1", state));
        breaks(rule, |evidence| add_refund(evidence, "pay_2", state));
    }
    breaks(rule, |evidence| evidence.refunds[0].amount = 49_899);
    breaks(rule, |evidence| evidence.refunds[0].amount = 49_901);
}

#[test]
fn a_session_completed_by_the_wrong_money_is_seen() {
    let rule = "a completed session has one payment of its own";
    breaks(rule, |evidence| evidence.payments[0].amount = 49_899);
    breaks(rule, |evidence| evidence.payments[0].currency = "USD".into());
    breaks(rule, |evidence| found(evidence, "chk_paid").applied = None);
    breaks(rule, |evidence| found(evidence, "chk_paid").applied = Some("pay_none".into()));
    breaks(rule, |evidence| found(evidence, "chk_paid").applied = Some("pay_2".into()));
    breaks(rule, |evidence| {
        add_session(evidence, "chk_free", "completed");
        found(evidence, "chk_free").applied = Some("pay_1".into());
    });
}

#[test]
fn links_that_should_not_be_are_seen() {
    breaks("a link belongs to a session", |evidence| {
        let link = Link { id: "plink_x".into(), reference: "chk_unknown".into(), payable: true };
        evidence.links.push(link);
    });
    breaks("one link per session", |evidence| {
        let link = Link { id: "plink_x".into(), reference: "chk_paid".into(), payable: false };
        evidence.links.push(link);
    });
    leaves_unfinished("no payable link outlives its session", |evidence| evidence.links[1].payable = true);
}

#[test]
fn a_story_told_wrong_is_seen() {
    breaks("sequences have no gap and no repeat", |evidence| evidence.events[1].sequence = 3);
    breaks("sequences have no gap and no repeat", |evidence| evidence.events[1].sequence = 1);
    breaks("one event tells the end", |evidence| {
        evidence.events.retain(|event| event.id != "evt_chk_late_2");
    });
    breaks("one event tells the end", |evidence| {
        add_event(evidence, "chk_late", 3, "checkout.session.completed", "completed");
    });
    breaks("the last event shows the final state", |evidence| {
        evidence.events[1].status = Some("pending".into());
    });
    breaks("the last event shows the final state", |evidence| {
        evidence.events[1].kind = "checkout.session.failed".into();
    });
    breaks("events are about sessions that exist", |evidence| {
        add_event(evidence, "chk_nobody", 1, "checkout.session.initiated", "pending");
    });
    breaks("events stay with their merchant", |evidence| evidence.events[1].merchant = 1);
}

#[test]
fn a_refund_told_wrong_is_seen() {
    leaves_unfinished("a refund is told", |evidence| {
        evidence.events.retain(|event| event.subject != "refund_1");
        evidence.receipts.retain(|receipt| receipt.event != "evt_refund_1_1");
    });
    breaks("a refund is told", |evidence| {
        add_event(evidence, "refund_1", 2, "refund.succeeded", "");
        evidence.events.last_mut().expect("it was just added").payment = Some("pay_2".into());
    });
    breaks("a refund that is told has happened", |evidence| evidence.refunds[0].state = RefundState::Pending);
}

#[test]
fn a_bad_delivery_is_seen() {
    breaks("a delivery is signed", |evidence| receipt(evidence, "evt_chk_late_2").verified = false);
    breaks("one webhook-id, one body", |evidence| receipt(evidence, "evt_chk_late_2").body = [7; 8]);
    breaks("what is delivered has happened", |evidence| {
        receipt(evidence, "evt_chk_late_2").event = "evt_rolled_back".into();
    });
    breaks("events stay with their merchant", |evidence| evidence.endpoints[0].merchant = 1);
    leaves_unfinished("an event arrives", |evidence| {
        receipt(evidence, "evt_chk_late_2").answered = Some(500);
    });
    leaves_unfinished("an event arrives", |evidence| {
        receipt(evidence, "evt_chk_late_2").answered = None;
    });
    leaves_unfinished("an event arrives", |evidence| {
        evidence
            .receipts
            .retain(|receipt| (receipt.endpoint, receipt.event.as_str()) != (1, "evt_chk_paid_2"));
    });
}
