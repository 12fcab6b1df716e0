//! The process dies while it has many deliveries under way and records them in batches; another goes on.
//!
//! Sixty events for three endpoints, due at once: one takes them, one hangs, one fails. Nothing is lost, in whatever
//! order the process got on, and nothing is sent again but what was under way when it died.

use std::collections::{BTreeMap, BTreeSet};

use checkoutd::webhooks::{EventType, FrozenEvent};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use sqlx::{Row, types::Uuid};

use crate::support::{
    Binary, Merchant, Receiver, Settings, TestApp,
    events::{emit_in, event_about},
};

const SESSIONS: usize = 20;
const EVENTS_EACH: i32 = 3;
const HUNG: usize = 4;
const FAILED: usize = 15;

macro_rules! crashes {
    ($($test:ident at $checkpoint:literal;)*) => {$(
        #[tokio::test]
        async fn $test() {
            crash($checkpoint).await;
        }
    )*};
}

// Each is reached so often only after the first results were recorded: until then the test holds them back.
crashes! {
    many_deliveries_when_claimed at "deliver.claimed*60";
    many_deliveries_before_their_answers_are_recorded at "deliver.answered*50";
    a_batch_before_it_is_written at "record.batched*2";
    a_batch_that_is_committed_before_anybody_knows at "record.committed*2";
    many_deliveries_when_recorded at "deliver.recorded*30";
}

struct Endpoints {
    well: Receiver,
    hanging: Receiver,
    failing: Receiver,
}

async fn crash(checkpoint: &str) {
    let settings = Settings { behind: Some(TimeDelta::zero()), ..Settings::default() };
    let app = TestApp::start_with(settings).await;
    let merchant = app.merchant().await;
    let (endpoints, receivers) = endpoints(&merchant).await;
    let binary = Binary::start(&app, Some(checkpoint)).await;
    let events = emit_while_results_wait(&app, &merchant, &endpoints).await;
    binary.until_death_at(checkpoint).await;
    until_backends_are_gone(&app).await;

    let under_way = ids(&app, "select id from deliveries where lease_token is not null").await;
    assert!((HUNG..=256).contains(&under_way.len()), "{}", under_way.len());
    let batches = "select count(*) from delivery_attempts group by xmin::text order by 1 desc";
    let batches: Vec<i64> = sqlx::query_scalar(batches).fetch_all(&app.state().pool).await.unwrap();
    for (_, receiver) in &receivers {
        assert_in_order(receiver, &events);
    }

    // The leases run out; what failed is due again by then.
    let expiry = "select max(lease_expires_at) from deliveries";
    let expiry: DateTime<Utc> = sqlx::query_scalar(expiry).fetch_one(&app.state().pool).await.unwrap();
    let now = app.state().clock.now();
    app.advance(expiry - now).await;
    let repeated = verify(&app, &receivers, &events, &under_way).await;
    match checkpoint.split_once('*').unwrap().0 {
        "record.batched" => assert!(repeated >= HUNG + 2, "{repeated} repeated: no batch was lost"),
        "record.committed" => assert!(batches[0] >= 2, "{batches:?}"),
        _ => assert!(repeated >= HUNG),
    }
    // An event waits for thirty seconds at most.
    if app.state().clock.now() - now_of(&events) < TimeDelta::seconds(30) {
        for (_, receiver) in &receivers {
            assert_in_order(receiver, &events);
        }
    }
    app.finish().await;
}

/// With their ids in the database.
async fn endpoints(merchant: &Merchant) -> (Endpoints, Vec<(Uuid, Receiver)>) {
    let (well, hanging, failing) =
        (Receiver::start().await, Receiver::start().await, Receiver::start().await);
    (0..HUNG).for_each(|_| hanging.hang_next());
    (0..FAILED).for_each(|_| failing.answer_next(500));
    let mut receivers = Vec::new();
    for (receiver, max_concurrency) in [(&well, 64), (&hanging, 8), (&failing, 64)] {
        let body = json!({"url": receiver.url(), "max_concurrency": max_concurrency});
        let endpoint = merchant.post("/v1/webhook_endpoints", body).await.expect(201);
        let id = checkoutd::kit::ids::decode("we", endpoint["id"].as_str().unwrap()).unwrap();
        receivers.push((id, receiver.clone()));
    }
    (Endpoints { well, hanging, failing }, receivers)
}

/// Emits all of it at once, and lets nothing be recorded until every session's first event was sent: by then many
/// results wait for each other.
async fn emit_while_results_wait(
    app: &TestApp,
    merchant: &Merchant,
    endpoints: &Endpoints,
) -> Vec<FrozenEvent> {
    let mut obstacle = app.state().pool.begin().await.unwrap();
    sqlx::raw_sql("lock table endpoint_health in share mode").execute(&mut *obstacle).await.unwrap();
    app.clock().catch_up();
    let mut tx = app.state().pool.begin().await.unwrap();
    let mut events = Vec::new();
    for _ in 0..SESSIONS {
        let session = app.state().ids.uuid();
        for sequence in 1..=EVENTS_EACH {
            let event = event_about(app, EventType::RefundCreated, session, sequence);
            emit_in(app, &mut tx, merchant, &event).await;
            events.push(event);
        }
    }
    tx.commit().await.unwrap();
    let Endpoints { well, hanging, failing } = endpoints;
    for (receiver, first) in [(well, SESSIONS), (hanging, 8), (failing, SESSIONS)] {
        while receiver.received().len() < first {
            tokio::task::yield_now().await;
        }
    }
    obstacle.rollback().await.unwrap();
    events
}

/// What the process sent to Postgres with its last breath is done or undone.
async fn until_backends_are_gone(app: &TestApp) {
    let pool = &app.state().pool;
    let query = "select count(*) from pg_stat_activity
        where datname = current_database() and backend_type = 'client backend'";
    while sqlx::query_scalar::<_, i64>(query).fetch_one(pool).await.unwrap() > i64::from(pool.size()) {
        tokio::task::yield_now().await;
    }
}

async fn ids(app: &TestApp, query: &'static str) -> BTreeSet<Uuid> {
    let ids: Vec<Uuid> = sqlx::query_scalar(query).fetch_all(&app.state().pool).await.unwrap();
    ids.into_iter().collect()
}

fn now_of(events: &[FrozenEvent]) -> DateTime<Utc> {
    events[0].created_at
}

/// Of each session at this endpoint, the first attempts came in the order of the events.
fn assert_in_order(receiver: &Receiver, events: &[FrozenEvent]) {
    let mut seen = BTreeSet::new();
    let mut last: BTreeMap<Uuid, i32> = BTreeMap::new();
    for request in receiver.received() {
        let id = request.header("webhook-id").to_owned();
        let event = events.iter().find(|event| event.id.to_string() == id).unwrap();
        if seen.insert(id) {
            let before = last.insert(event.subject, event.sequence).unwrap_or(0);
            assert_eq!(event.sequence, before + 1, "of {}", event.subject);
        }
    }
}

/// Everything arrived everywhere, unchanged; how often something was sent whose record was lost.
async fn verify(
    app: &TestApp,
    receivers: &[(Uuid, Receiver)],
    events: &[FrozenEvent],
    under_way: &BTreeSet<Uuid>,
) -> usize {
    let bodies: BTreeMap<String, &FrozenEvent> =
        events.iter().map(|event| (event.id.to_string(), event)).collect();
    let mut arrivals: BTreeMap<(Uuid, String), usize> = BTreeMap::new();
    for (endpoint, receiver) in receivers {
        for request in receiver.received() {
            let id = request.header("webhook-id").to_owned();
            assert_eq!(request.body, bodies[&id].body);
            *arrivals.entry((*endpoint, id)).or_default() += 1;
        }
    }
    let query = "select d.id, d.endpoint_id, d.event_id, d.delivery_status, d.attempt_count,
            (select count(*) from delivery_attempts a where a.delivery_id = d.id)
        from deliveries d";
    let rows = sqlx::query(query).fetch_all(&app.state().pool).await.unwrap();
    assert_eq!(rows.len(), receivers.len() * events.len());
    let mut repeated = 0;
    for row in rows {
        let (delivery, attempts): (Uuid, i32) = (row.get(0), row.get(4));
        assert_eq!((row.get::<&str, _>(3), row.get::<i64, _>(5)), ("delivered", attempts.into()));
        let id = checkoutd::kit::ids::encode("evt", row.get(2));
        let arrived = arrivals.get(&(row.get(1), id)).copied().unwrap_or_default();
        let unrecorded = arrived - usize::try_from(attempts).unwrap();
        assert!(
            unrecorded <= usize::from(under_way.contains(&delivery)),
            "{arrived} for {attempts} attempts"
        );
        repeated += unrecorded;
    }
    repeated
}
