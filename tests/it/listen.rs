//! `checkoutd listen`: the real binary against a running service, over HTTP and nothing else.

use std::path::Path;

use checkoutd::webhooks::{EventType, FrozenEvent};
use chrono::TimeDelta;
use serde_json::json;

use crate::support::{
    Binary, Command, Merchant, Receiver, Settings, TestApp,
    events::{emit, emit_completed, emit_in, event},
    verifies,
};

/// Anywhere, as long as no `dev` was started there.
fn nowhere() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// On the system's time, less a minute, because `--since` goes by that.
async fn start() -> (TestApp, Merchant, Receiver) {
    let settings = Settings { behind: Some(TimeDelta::seconds(60)), ..Settings::default() };
    let app = TestApp::start_with(settings).await;
    let merchant = app.merchant().await;
    (app, merchant, Receiver::start().await)
}

/// Starts `listen`, and waits until it is ready; its secret.
async fn listen(api_url: &str, merchant: &Merchant, url: &str, flags: &[&str]) -> (Command, String) {
    let arguments = [&["listen", "--forward-to", url, "--api-url", api_url], flags].concat();
    let mut command = Command::start(nowhere(), &arguments, &[("CHECKOUTD_API_KEY", &merchant.api_key)]);
    let secret = command.line("Signing secret").await.split(' ').next_back().unwrap().to_owned();
    command.line("Ready").await;
    (command, secret)
}

/// What arrived is these events, in this order, byte for byte, each signed.
fn assert_received(receiver: &Receiver, secret: &str, events: &[&FrozenEvent]) {
    let received = receiver.received();
    let ids: Vec<_> = received.iter().map(|request| request.header("webhook-id").to_owned()).collect();
    assert_eq!(ids, events.iter().map(|event| event.id.to_string()).collect::<Vec<_>>());
    for (request, event) in received.iter().zip(events) {
        assert_eq!(request.body, event.body);
        assert_eq!(request.header("content-type"), "application/json");
        assert!(verifies(request, &json!(secret)));
    }
}

/// Lines that tell of a delivery: time, status, type, event, subject, duration.
async fn delivered(command: &mut Command, event: &FrozenEvent) {
    let line = command.line(&event.id.to_string()).await;
    let words: Vec<_> = line.split_whitespace().collect();
    assert_eq!(words[1..3], ["200", event.event_type.as_str()], "{line}");
    assert!(words[0].len() == 8 && line.ends_with(" ms"), "{line}");
}

#[tokio::test]
async fn what_happened_since_and_what_happens_then_arrives_in_order_signed_and_unchanged() {
    let (app, merchant, receiver) = start().await;
    let too_old = emit_completed(&app, &merchant).await;
    app.clock().advance(TimeDelta::seconds(50));
    let mut events = Vec::new();
    // More than a page.
    for _ in 0..60 {
        events.push(emit(&app, &merchant, EventType::CheckoutSessionInitiated).await);
    }
    let (mut command, secret) = listen(&app.base_url, &merchant, receiver.url(), &["--since", "40s"]).await;
    for event in &events {
        delivered(&mut command, event).await;
    }
    for _ in 0..2 {
        let event = emit_completed(&app, &merchant).await;
        delivered(&mut command, &event).await;
        events.push(event);
    }
    command.interrupt();
    let ended = command.until_end().await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(ended.lines.last().unwrap(), "stopped: 62 delivered, 0 given up");
    let told = ended.lines.iter().filter(|line| line.contains("whsec_")).count();
    assert_eq!(told, 1, "the secret is shown once");
    assert!(!ended.lines.iter().any(|line| line.contains(&too_old.id.to_string())));
    assert_received(&receiver, &secret, &events.iter().collect::<Vec<_>>());
    app.finish().await;
}

#[tokio::test]
async fn without_since_only_what_is_committed_from_then_on_arrives_and_of_the_wanted_types() {
    let (app, merchant, receiver) = start().await;
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let flags = ["--events", "checkout.session.completed,payment.late", "--secret", secret];
    // Of an environment in which nothing happened yet, too.
    let fresh = app.merchant().await;
    let fresh_receiver = Receiver::start().await;
    let (mut first, _) = listen(&app.base_url, &fresh, fresh_receiver.url(), &[]).await;
    delivered(&mut first, &emit_completed(&app, &fresh).await).await;
    // One more than is looked back at.
    for _ in 0..21 {
        emit_completed(&app, &merchant).await;
    }
    // Begun before the newest event and committed after the start: it stands before that event in the log.
    let late = event(&app, EventType::CheckoutSessionCompleted);
    let mut running = app.state().pool.begin().await.unwrap();
    emit_in(&app, &mut running, &merchant, &late).await;
    emit_completed(&app, &merchant).await;
    let (mut command, given) = listen(&app.base_url, &merchant, receiver.url(), &flags).await;
    running.commit().await.unwrap();
    assert_eq!(given, secret);
    delivered(&mut command, &late).await;
    emit(&app, &merchant, EventType::CheckoutSessionInitiated).await;
    let wanted = emit(&app, &merchant, EventType::PaymentLate).await;
    delivered(&mut command, &wanted).await;
    assert_received(&receiver, secret, &[&late, &wanted]);
    assert_eq!(fresh_receiver.received().len(), 1, "nobody gets another environment's events");
    app.finish().await;
}

#[tokio::test]
async fn a_handler_that_refuses_is_tried_four_times_and_then_the_next_event_has_its_turn() {
    let (app, merchant, receiver) = start().await;
    for _ in 0..4 {
        receiver.answer_next_with(500, &[], "no\u{1b}[31m database");
    }
    let (mut command, _) = listen(&app.base_url, &merchant, receiver.url(), &[]).await;
    let refused = emit_completed(&app, &merchant).await;
    let taken = emit_completed(&app, &merchant).await;
    for pause in ["again in 0.5 s", "again in 1 s", "again in 2 s", "given up after 4 tries"] {
        let line = command.line(&refused.id.to_string()).await;
        assert!(
            line.contains("  500  ") && line.contains("no [31m database") && line.ends_with(pause),
            "{line}"
        );
    }
    delivered(&mut command, &taken).await;
    command.interrupt();
    let ended = command.until_end().await;
    assert_eq!(ended.lines.last().unwrap(), "stopped: 1 delivered, 1 given up");
    assert_eq!(receiver.received().len(), 5);
    app.finish().await;
}

#[tokio::test]
async fn a_handler_that_is_not_there_yet_gets_its_events_once_it_is() {
    let (app, merchant, _) = start().await;
    let reserved = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = reserved.local_addr().unwrap().to_string();
    drop(reserved);
    let url = format!("http://localhost:{}/hook", address.split(':').next_back().unwrap());
    let (mut command, secret) = listen(&app.base_url, &merchant, &url, &[]).await;
    let event = emit_completed(&app, &merchant).await;
    let line = command.line(&event.id.to_string()).await;
    assert!(line.contains("  ---  ") && line.contains("could not connect"), "{line}");
    let receiver = Receiver::start_at(&address).await;
    delivered(&mut command, &event).await;
    assert_received(&receiver, &secret, &[&event]);
    app.finish().await;
}

#[tokio::test]
async fn a_service_that_restarts_costs_no_event_and_repeats_none() {
    let (app, merchant, receiver) = start().await;
    let mut service = Binary::start(&app, None).await;
    let address = service.base_url.trim_start_matches("http://").to_owned();
    let (mut command, secret) = listen(&service.base_url, &merchant, receiver.url(), &[]).await;
    let before = emit_completed(&app, &merchant).await;
    delivered(&mut command, &before).await;
    service.kill().await;
    command.line("The service is away").await;
    let meanwhile = emit_completed(&app, &merchant).await;
    service = Binary::start_with(&app, [("CHECKOUTD_BIND", &*address)]).await;
    command.line("The service is back").await;
    delivered(&mut command, &meanwhile).await;
    let after = emit_completed(&app, &merchant).await;
    delivered(&mut command, &after).await;
    assert_received(&receiver, &secret, &[&before, &meanwhile, &after]);
    service.kill().await;
    app.finish().await;
}

#[tokio::test]
async fn live_keys_are_refused_and_every_wrong_flag_is_named_with_its_rule() {
    let app = TestApp::start().await;
    let (test, live) = app.merchant_pair().await;
    let api_url = &*app.base_url;
    let local = "http://127.0.0.1:3000/";
    let key = &*test.api_key;
    let known = "known are checkout.session.initiated";
    let cases: &[(&[&str], &str, [&str; 2])] = &[
        (&[], key, ["--forward-to", "required"]),
        (&["--forward-to", "localhost:3000"], key, ["--forward-to", "must be an absolute http or https URL"]),
        (
            &["--forward-to", "https://1.1.1.1/"],
            key,
            ["--forward-to", "must be on this machine or in its private network"],
        ),
        (&["--forward-to", "http://169.254.169.254/"], key, ["--forward-to", "must be on this machine"]),
        (&["--forward-to", "http://me@127.0.0.1/"], key, ["--forward-to", "must not contain a user name"]),
        (&["--forward-to", "http://nowhere.invalid/"], key, ["--forward-to", "was not found"]),
        (&["--forward-to", local, "--since", "10"], key, ["--since", "a whole number with s, m, h or d"]),
        (&["--forward-to", local, "--events", "checkout.session.paid"], key, ["--events", known]),
        (&["--forward-to", local, "--events", ""], key, ["--events", known]),
        (&["--forward-to", local, "--secret", "abc"], key, ["--secret", "whsec_ and 24 to 64 bytes"]),
        (
            &["--forward-to", local, "--api-url", "http://pay.example.com"],
            key,
            ["--api-url", "must be an absolute https URL"],
        ),
        (&["--forward-to", local], "sk_live_abc", ["live environment", "sk_test_"]),
        (&["--forward-to", local], &live.api_key, ["live environment", "sk_test_"]),
        (&["--forward-to", local], "abc", ["--api-key", "test environment"]),
        (&["--forward-to", local], "", ["--api-key", "must be given"]),
        (&["--forward-to", local], "sk_test_abc", ["v1/events", "401"]),
        (
            &["--forward-to", local, "--api-url", "http://127.0.0.1:1"],
            key,
            ["does not answer", "checkoutd dev"],
        ),
    ];
    for (flags, key, told) in cases {
        let variables = [("CHECKOUTD_API_KEY", *key), ("CHECKOUTD_API_URL", api_url)];
        let arguments = [&["listen"], *flags].concat();
        let ended = Command::start(nowhere(), &arguments, &variables).until_end().await;
        assert!(ended.code.is_some_and(|code| code != 0), "{arguments:?}: {ended:?}");
        assert!(told.iter().all(|text| ended.stderr.contains(text)), "{arguments:?} {key}: {ended:?}");
        assert!(ended.lines.is_empty() && !ended.stderr.contains("sk_live_abc"), "{ended:?}");
    }
    let ended = Command::start(nowhere(), &["listen", "--forward-to", local], &[]).until_end().await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("no `checkoutd dev` was started in this directory"), "{ended:?}");
    app.finish().await;
}
