//! The service's worker on a Postgres of its own, and what it is given to do.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use checkoutd::{
    app::{App, Given, Pools},
    config::Config,
    db::{self, embedded},
    http,
    kit::{
        clock::{Clock, SystemTime},
        ids::Ids,
    },
    metrics::Metrics,
    tenancy,
    webhooks::{self, Deliver, EventType},
    worker::{self, Work},
};
use serde_json::json;
use sqlx::{Executor, types::Uuid};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::receiver::Receiver;

const DATABASE: &str = "webhook_load";
pub const PER_ENVIRONMENT: usize = 50;

pub struct World {
    app: App,
    turn: AtomicUsize,
    _postgres: embedded::Server,
}

/// The worker, until it is stopped.
pub struct Working {
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

impl Working {
    pub async fn stop(self) {
        self.shutdown.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl World {
    pub async fn start() -> anyhow::Result<Self> {
        let mut config = Config::from_env()?;
        config.allow_private_webhook_targets = true;
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(DATABASE);
        let options = embedded::Options { dir, durable: false, pg_bin: config.pg_bin.clone() };
        let postgres = embedded::start(options).await?;
        let admin = db::connect(&postgres.url("postgres").into(), 2)?;
        for statement in ["drop database if exists webhook_load with (force)", "create database webhook_load"]
        {
            admin.execute(sqlx::raw_sql(statement)).await?;
        }
        let url = postgres.url(DATABASE).into();
        db::migrate(&url).await?;
        let clock = Clock::from_source(Arc::new(SystemTime));
        let ids = Ids::seeded(1, clock.clone());
        let app = App::new(Given {
            pools: Pools { api: db::connect(&url, 12)?, ..Pools::shared(db::connect(&url, 2)?) },
            clock,
            ids,
            encryption_key: "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=".into(),
            metrics: Metrics::detached().0,
            config,
        })?;
        Ok(Self { app, turn: AtomicUsize::new(0), _postgres: postgres })
    }

    pub async fn stop(&self) {
        self.app.pools.close().await;
    }

    /// Makes endpoints, by the API; the environments that they belong to.
    pub async fn endpoints(&self, receiver: &Receiver, count: usize) -> anyhow::Result<Vec<tenancy::Scope>> {
        let bound = http::bind(([127, 0, 0, 1], 0).into()).await?;
        let api = format!("http://{}/v1/webhook_endpoints", bound.addr);
        let (router, stop) = (http::router(self.app.clone()), CancellationToken::new());
        let stopped = stop.clone();
        let server = tokio::spawn(async move { http::serve(bound, router, stopped.cancelled_owned()).await });
        let client = reqwest::Client::builder().no_proxy().build()?;
        let mut scopes = Vec::new();
        for first in (0..count).step_by(PER_ENVIRONMENT) {
            let tenant = tenancy::create_tenant(&self.app, "Load").await?;
            let environment = tenant.environments.first().context("a test environment")?;
            for number in first..first + PER_ENVIRONMENT {
                let request = client.post(&api).header("x-api-key", &environment.api_key);
                let body = json!({"url": format!("{}/{number}", receiver.url)});
                request.json(&body).send().await?.error_for_status()?;
            }
            scopes.push(tenancy::Scope { tenant: tenant.tenant_id, environment: environment.id });
        }
        stop.cancel();
        drop(client);
        server.await?;
        Ok(scopes)
    }

    /// Starts the worker.
    pub fn work(&self) -> Working {
        let (tasks, shutdown) = (TaskTracker::new(), CancellationToken::new());
        tasks.spawn(worker::drive(self.app.clone(), Deliver, shutdown.clone()));
        Working { tasks, shutdown }
    }

    /// Emits events at a steady rate, one environment after the other.
    pub async fn emit_steadily(
        &self,
        scopes: &[tenancy::Scope],
        per_second: u32,
        lasting: Duration,
    ) -> anyhow::Result<()> {
        let mut tick = tokio::time::interval(Duration::from_secs(1) / per_second);
        let count = u64::from(per_second) * lasting.as_secs();
        for _ in 0..count {
            tick.tick().await;
            let turn = self.turn.fetch_add(1, Ordering::Relaxed);
            self.emit(scopes[turn % scopes.len()]).await?;
        }
        Ok(())
    }

    /// Until nothing has come for a moment.
    pub async fn settle(&self, receiver: &Receiver) {
        let mut before = usize::MAX;
        while before != receiver.counts().1 {
            before = receiver.counts().1;
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }

    async fn emit(&self, scope: tenancy::Scope) -> anyhow::Result<()> {
        let app = &self.app;
        let (id, now, subject) = (app.ids.next(), app.clock.now(), app.ids.uuid());
        let object =
            json!({"id": "chk_1", "customer_id": "cust_1", "amount": "499.00", "note": "x".repeat(600)});
        let event_type = EventType::CheckoutSessionCompleted;
        let event = webhooks::freeze(id, event_type, subject, 1, now, "checkout_session", &object)?;
        let ids = webhooks::delivery_ids(&app.ids);
        db::transact(&app.pool, "emit", move |tx| {
            let (event, ids) = (event.clone(), ids.clone());
            Box::pin(async move { webhooks::emit_in(tx, scope, &event, &ids).await })
        })
        .await?;
        app.wake.notify(Work::Deliveries);
        Ok(())
    }

    /// Makes deliveries due, as many to each of the first `endpoints` of each environment.
    pub async fn add_backlog(
        &self,
        scopes: &[tenancy::Scope],
        endpoints: usize,
        count: usize,
    ) -> anyhow::Result<()> {
        let environments: Vec<Uuid> = scopes.iter().map(|scope| scope.environment.into()).collect();
        let each = count / (scopes.len() * endpoints);
        let mut connection = self.app.pool.acquire().await?;
        connection.execute("set statement_timeout = 0").await?;
        let events = "insert into events (environment_id, id, event_type, subject_id, sequence, body, created_at)
            select v, ('018f0000-' || left(md5(v::text || n), 4) || '-7' || right(md5(v::text || n), 3) || '-8000-'
                    || lpad(to_hex(n), 12, '0'))::uuid,
                'checkout.session.completed', md5(v::text || n)::uuid, 1,
                convert_to('{\"id\":\"evt\",\"note\":\"' || repeat('x', 700) || '\"}', 'utf8'), $3
            from unnest($1::uuid[]) v, generate_series(1, $2) n";
        let now = self.app.clock.now();
        sqlx::query(events)
            .bind(&environments)
            .bind(i32::try_from(each)?)
            .bind(now)
            .execute(&mut *connection)
            .await?;
        // Or the planner takes the next statement's tables for small.
        connection.execute("analyze").await?;
        let deliveries = "insert into deliveries (environment_id, id, event_id, subject_id, sequence, endpoint_id,
                delivery_status, attempt_count, next_attempt_at, created_at, updated_at)
            select e.environment_id, md5(e.id::text || w.id::text)::uuid, e.id, e.subject_id, 1, w.id, 'pending', 0, $1, $1, $1
            from events e
            join (select environment_id, id, row_number() over (partition by environment_id order by id) as number
                from webhook_endpoints) w on w.environment_id = e.environment_id and w.number <= $2
            where e.created_at = $1";
        sqlx::query(deliveries).bind(now).bind(i64::try_from(endpoints)?).execute(&mut *connection).await?;
        connection.execute("analyze").await?;
        connection.execute("set statement_timeout = '5s'").await?;
        Ok(())
    }

    pub async fn is_pending(&self, scopes: &[tenancy::Scope]) -> anyhow::Result<bool> {
        let environments: Vec<Uuid> = scopes.iter().map(|scope| scope.environment.into()).collect();
        let left = "select exists (select 1 from deliveries where delivery_status = 'pending' and environment_id = any ($1))";
        let left: bool = sqlx::query_scalar(left).bind(&environments).fetch_one(&self.app.pool).await?;
        Ok(left)
    }

    pub async fn deliveries(&self) -> anyhow::Result<usize> {
        let count: i64 =
            sqlx::query_scalar("select count(*) from deliveries").fetch_one(&self.app.pool).await?;
        Ok(usize::try_from(count)?)
    }

    /// Removes every event and what belongs to it.
    pub async fn clear(&self) -> anyhow::Result<()> {
        self.app.pool.execute("truncate delivery_attempts, deliveries, events, endpoint_health").await?;
        Ok(())
    }
}

/// Memory of this process, which is the worker's and the receiver's.
pub fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    let kib: u64 = line.split_whitespace().nth(1).and_then(|text| text.parse().ok()).unwrap_or_default();
    kib / 1024
}
