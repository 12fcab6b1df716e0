//! A Postgres of the run's own, the service on it, what the service talks to, and merchants.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use checkoutd::{checkout::SessionId, db::embedded, tenancy::EnvironmentId, webhooks::EventId};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor, PgPool, types::Uuid};
use tokio::time::sleep;

use super::{
    doubles::Received,
    floor::{self, Floor},
    growth,
    http::{Connection, request},
    processes::{Double, Service, run_service},
    usage::{self, Cpu},
};

const DATABASE: &str = "bench";
/// The service's default, and the bare server's.
pub const POOL_SIZE: u32 = 16;
/// Customers of each merchant, in turn: no two requests that are under way are about the same one.
pub const CUSTOMERS: usize = 64;
pub const PLAN: &str = "plan_pro_monthly";
pub const AMOUNT_MINOR: i64 = 49_900;
pub const WEBHOOK_SECRET: &str = "whsec_of_the_bench";
/// Until deliveries that are due must be done.
const DRAIN_LIMIT: Duration = Duration::from_mins(5);
/// Until sessions whose deadline has passed must have ended.
const EXPIRY_LIMIT: Duration = Duration::from_mins(2);

/// A merchant's test environment.
#[derive(Clone, Debug)]
pub struct Merchant {
    pub environment: Uuid,
    /// Where Razorpay posts.
    pub inbound_path: String,
    pub authorization: String,
    pub endpoints: usize,
}

/// All of it.
pub struct World {
    postgres: embedded::Server,
    postmaster: u32,
    /// Of the harness, on the service's database.
    pub pool: PgPool,
    pub dir: PathBuf,
    environment: Vec<(String, String)>,
    pub service: Option<Service>,
    razorpay: Double,
    receiver: Double,
    /// Others that count as doubles.
    pub bare: Option<Double>,
    /// Without endpoints, with one, and with three.
    pub merchants: Vec<Merchant>,
}

impl World {
    /// Starts everything but the service and makes an empty database. `settings` are for the service, beside the bench's
    /// own; without `shared_buffers` Postgres has what it has by default.
    pub async fn start(
        settings: Vec<(String, String)>,
        shared_buffers: Option<&str>,
    ) -> anyhow::Result<Self> {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench");
        let pg_bin = checkoutd::config::Config::from_env()?.pg_bin;
        let options = embedded::Options { dir: dir.clone(), durable: true, pg_bin };
        let postgres = embedded::start(options.clone()).await?;
        let admin = PgPool::connect(&postgres.url("postgres")).await?;
        admin.execute("alter system set track_commit_timestamp = on").await?;
        let buffers = match shared_buffers {
            Some(size) => format!("alter system set shared_buffers = '{size}'"),
            None => "alter system reset shared_buffers".to_owned(),
        };
        admin.execute(sqlx::raw_sql(AssertSqlSafe(buffers))).await?;
        admin.close().await;
        postgres.stop().await?;
        let postgres = embedded::start(options).await?;
        let admin = PgPool::connect(&postgres.url("postgres")).await?;
        for name in [DATABASE, floor::DATABASE, growth::DATABASE] {
            drop_database(&admin, name).await?;
        }
        admin.execute("create database bench").await?;
        let url = postgres.url(DATABASE);
        let pool = PgPool::connect_lazy(&url)?;
        let backend: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&pool).await?;
        let postmaster = usage::parent(u32::try_from(backend)?).context("Postgres's first process")?;
        let (razorpay, receiver) = (Double::start(&["razorpay"]).await?, Double::start(&["receiver"]).await?);
        let mut environment = vec![
            ("DATABASE_URL".to_owned(), url),
            (
                "CHECKOUTD_ENCRYPTION_KEY".to_owned(),
                "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=".to_owned(),
            ),
            ("RAZORPAY_BASE_URL".to_owned(), format!("http://{}", razorpay.address)),
            ("CHECKOUTD_ALLOW_PRIVATE_WEBHOOK_TARGETS".to_owned(), "true".to_owned()),
            ("CHECKOUTD_RATE_LIMIT_PER_SECOND".to_owned(), "0".to_owned()),
            ("CHECKOUTD_DATABASE_POOL_SIZE".to_owned(), POOL_SIZE.to_string()),
            // Nothing comes to its deadline while it is measured.
            ("CHECKOUTD_SESSION_TTL_SECONDS".to_owned(), "86400".to_owned()),
            ("CHECKOUTD_LOG".to_owned(), "warn".to_owned()),
        ];
        environment.extend(settings);
        let (service, bare, merchants) = (None, None, Vec::new());
        let dir = dir.parent().map(Path::to_owned).unwrap_or(dir);
        Ok(Self {
            postgres,
            postmaster,
            pool,
            dir,
            environment,
            service,
            razorpay,
            receiver,
            bare,
            merchants,
        })
    }

    pub fn database_url(&self) -> String {
        self.postgres.url(DATABASE)
    }

    /// The floor, on a copy of the database as it is now; the service must not run.
    pub async fn floor(&mut self) -> anyhow::Result<Floor> {
        self.copy_to(floor::DATABASE).await?;
        Floor::new(self.postmaster, &self.dir, self.postgres.url(floor::DATABASE))
    }

    /// Copies the service's database as it is now; the service must not run.
    pub async fn copy_to(&mut self, name: &str) -> anyhow::Result<()> {
        self.pool.close().await;
        let admin = PgPool::connect(&self.postgres.url("postgres")).await?;
        let copy = format!("create database {name} template {DATABASE}");
        admin.execute(sqlx::raw_sql(AssertSqlSafe(copy))).await?;
        self.pool = PgPool::connect_lazy(&self.database_url())?;
        Ok(())
    }

    /// Goes on with the service's own database, or a copy of it; the service must not run.
    pub async fn turn_to(&mut self, copy: Option<&str>) -> anyhow::Result<()> {
        self.pool.close().await;
        let url = self.postgres.url(copy.unwrap_or(DATABASE));
        self.pool = PgPool::connect_lazy(&url)?;
        self.set("DATABASE_URL", &url);
        Ok(())
    }

    /// A setting of the service, from its next start on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.environment.retain(|(other, _)| other != name);
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Gives its gigabytes back; the service must not run.
    pub async fn drop_copy(&mut self, name: &str) -> anyhow::Result<()> {
        self.turn_to(None).await?;
        drop_database(&PgPool::connect(&self.postgres.url("postgres")).await?, name).await
    }

    /// Brings the schema up and makes the merchants, by the service's own commands and API.
    pub async fn furnish(&mut self) -> anyhow::Result<()> {
        run_service(&self.environment, &["migrate"]).await?;
        self.start_service().await?;
        for endpoints in [0, 1, 3] {
            let merchant = self.open_shop(endpoints).await.context("make a merchant")?;
            self.merchants.push(merchant);
        }
        Ok(())
    }

    async fn open_shop(&self, endpoints: usize) -> anyhow::Result<Merchant> {
        let name = format!("With {endpoints} endpoints");
        let line = run_service(&self.environment, &["tenant", "create", "--name", &name, "--json"]).await?;
        let tenant: Value = serde_json::from_str(&line)?;
        let test = &tenant["environments"][0];
        ensure!(test["mode"] == "test", "the first environment is no test environment: {test}");
        let text = |value: &Value| value.as_str().map(str::to_owned).context("text");
        let (tenant_id, environment_id) = (text(&tenant["tenant_id"])?, text(&test["id"])?);
        let merchant = Merchant {
            environment: environment_id.parse::<EnvironmentId>()?.into(),
            inbound_path: format!("/v1/webhooks/razorpay/{tenant_id}/{environment_id}"),
            authorization: format!("x-api-key: {}\r\n", text(&test["api_key"])?),
            endpoints,
        };
        let account = json!({"key_id": "rzp_test_0000000000001", "secret_key": "secret", "webhook_secret": WEBHOOK_SECRET});
        let connection =
            json!({"name": "Bench", "provider_type": "razorpay", "encrypted_secret_data": account});
        self.post(&merchant, "/v1/connections", &connection).await?;
        let plan = self.post(&merchant, "/v1/plans", &json!({"name": "Pro", "lookup_key": PLAN})).await?;
        let price = json!({
            "entity_type": "PLAN", "entity_id": plan["id"], "type": "FIXED", "billing_model": "FLAT_FEE",
            "billing_period": "MONTHLY", "billing_period_count": 1, "currency": "INR", "amount": "499.00",
            "invoice_cadence": "ADVANCE", "price_unit_type": "FIAT",
        });
        self.post(&merchant, "/v1/prices", &price).await?;
        for number in 0..CUSTOMERS {
            let customer = json!({
                "external_id": format!("user_{number}"), "name": "Jane Smith", "email": "jane@example.com", "currency": "INR",
            });
            self.post(&merchant, "/v1/customers", &customer).await?;
        }
        for number in 0..endpoints {
            let url = format!("http://{}/{number}", self.receiver.address);
            self.post(&merchant, "/v1/webhook_endpoints", &json!({"url": url})).await?;
        }
        Ok(merchant)
    }

    async fn post(&self, merchant: &Merchant, path: &str, body: &Value) -> anyhow::Result<Value> {
        let mut connection = Connection::open(self.running()?.address).await?;
        let request = request("POST", path, &merchant.authorization, body.to_string().as_bytes());
        let answer = connection.call(&request).await?;
        ensure!(answer.status() == 201, "{path} answered {}: {}", answer.status(), answer.text());
        Ok(serde_json::from_slice(answer.body)?)
    }

    pub async fn start_service(&mut self) -> anyhow::Result<()> {
        if self.service.is_none() {
            self.service = Some(Service::start(&self.environment).await?);
        }
        Ok(())
    }

    pub async fn stop_service(&mut self) -> anyhow::Result<()> {
        match self.service.take() {
            Some(service) => service.stop().await,
            None => Ok(()),
        }
    }

    pub fn running(&self) -> anyhow::Result<&Service> {
        self.service.as_ref().context("the service does not run")
    }

    /// Ends everything in order.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.stop_service().await?;
        self.pool.close().await;
        self.postgres.stop().await?;
        Ok(())
    }

    /// Processor time of everything so far.
    pub fn cpu(&self) -> Cpu {
        let doubles = [Some(&self.razorpay), Some(&self.receiver), self.bare.as_ref()];
        let generator = std::process::id();
        Cpu {
            service: self.service.as_ref().map(|service| usage::own(service.pid())).unwrap_or_default(),
            postgres: usage::family(self.postmaster),
            doubles: doubles.into_iter().flatten().map(|double| usage::own(double.pid())).sum(),
            generator: usage::own(generator),
            pgbench: usage::ended_children(generator),
            machine: usage::machine(),
        }
    }

    /// Sessions of a merchant in a status, the oldest first.
    pub async fn sessions(
        &self,
        merchant: &Merchant,
        status: &str,
        most: usize,
    ) -> anyhow::Result<Vec<SessionId>> {
        let ids: Vec<Uuid> = sqlx::query_scalar(
            "select id from checkout_sessions where environment_id = $1 and checkout_status = $2 order by id limit $3",
        )
        .bind(merchant.environment)
        .bind(status)
        .bind(i64::try_from(most)?)
        .fetch_all(&self.pool)
        .await?;
        Ok(ids.into_iter().map(SessionId::from).collect())
    }

    /// What the endpoints received since they were told to forget it.
    pub async fn received(&self, path: &str) -> anyhow::Result<Received> {
        let mut connection = Connection::open(self.receiver.address).await?;
        let answer = connection.call(&request("GET", path, "", b"")).await?;
        Ok(serde_json::from_slice(answer.body)?)
    }

    /// From the commit of each event to its receipt, of what was received since the endpoints were told to forget it.
    pub async fn commit_to_receipt(&self) -> anyhow::Result<Vec<Duration>> {
        let mut latencies = Vec::new();
        for (event, received_us) in self.received("/receipts").await?.receipts {
            let event: EventId = event.parse()?;
            let committed_us: i64 = sqlx::query_scalar(
                "select (extract(epoch from pg_xact_commit_timestamp(xmin)) * 1000000)::bigint from events where id = $1",
            )
            .bind(Uuid::from(event))
            .fetch_one(&self.pool)
            .await?;
            latencies.push(Duration::from_micros(u64::try_from(received_us - committed_us)?));
        }
        Ok(latencies)
    }

    pub async fn forget_received(&self) -> anyhow::Result<()> {
        let mut connection = Connection::open(self.receiver.address).await?;
        connection.call(&request("DELETE", "/", "", b"")).await?;
        Ok(())
    }

    /// Waits until no delivery is due any more.
    pub async fn drain(&self) -> anyhow::Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < DRAIN_LIMIT {
            let left = "select exists (select 1 from deliveries where delivery_status = 'pending')";
            if !sqlx::query_scalar::<_, bool>(left).fetch_one(&self.pool).await? {
                return Ok(());
            }
            sleep(Duration::from_millis(20)).await;
        }
        bail!("deliveries do not come to an end")
    }

    /// Gives up what is not delivered yet.
    pub async fn cancel_deliveries(&self) -> anyhow::Result<()> {
        let cancel = "update deliveries set delivery_status = 'cancelled', next_attempt_at = null, lease_token = null, lease_expires_at = null
            where delivery_status = 'pending'";
        self.pool.execute(cancel).await?;
        Ok(())
    }

    /// Puts off looks at Razorpay that are due soon, and has Postgres count its rows: a measurement is of one thing.
    pub async fn quiet(&self) -> anyhow::Result<()> {
        let put_off = "update checkout_sessions set check_at = now() + interval '1 day' where check_at < now() + interval '12 hours'";
        self.pool.execute(put_off).await?;
        self.pool.execute("analyze").await?;
        Ok(())
    }

    /// Makes every open session due for a look; how many there are.
    pub async fn unquiet(&self) -> anyhow::Result<u64> {
        let due = "update checkout_sessions set check_at = now() where checkout_status = 'pending'";
        Ok(self.pool.execute(due).await?.rows_affected())
    }

    /// Bytes that Postgres has written to its log so far.
    pub async fn log_bytes(&self) -> anyhow::Result<i64> {
        Ok(sqlx::query_scalar("select (pg_current_wal_lsn() - '0/0')::bigint").fetch_one(&self.pool).await?)
    }

    /// Lets the deadline of these sessions pass now.
    pub async fn pass_deadlines(&self, merchant: &Merchant, sessions: &[Uuid]) -> anyhow::Result<()> {
        let pass = "update checkout_sessions set expires_at = now(), check_at = now() where environment_id = $1 and id = any($2)";
        sqlx::query(pass).bind(merchant.environment).bind(sessions).execute(&self.pool).await?;
        Ok(())
    }

    /// How long it takes from now until none of these sessions is pending any more.
    pub async fn until_ended(&self, merchant: &Merchant, sessions: &[Uuid]) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        let left = "select exists (select 1 from checkout_sessions where environment_id = $1 and id = any($2) and checkout_status = 'pending')";
        while sqlx::query_scalar(left).bind(merchant.environment).bind(sessions).fetch_one(&self.pool).await?
        {
            ensure!(begun.elapsed() < EXPIRY_LIMIT, "sessions do not expire");
            sleep(Duration::from_millis(20)).await;
        }
        Ok(begun.elapsed())
    }

    /// Of each table that is changed much, the share of updates so far that left its indexes alone.
    pub async fn updates_in_place(&self) -> anyhow::Result<String> {
        let shares =
            "select string_agg(relname || ' ' || round(100.0 * n_tup_hot_upd / n_tup_upd) || ' %', ', '
                order by n_tup_hot_upd::float / n_tup_upd desc, relname)
            from pg_stat_user_tables where n_tup_upd >= 1000";
        Ok(sqlx::query_scalar::<_, Option<String>>(shares).fetch_one(&self.pool).await?.unwrap_or_default())
    }

    /// How many transactions have written so far.
    pub async fn writes(&self) -> anyhow::Result<i64> {
        let count = "select pg_snapshot_xmax(pg_current_snapshot())::text::bigint";
        Ok(sqlx::query_scalar(count).fetch_one(&self.pool).await?)
    }
}

async fn drop_database(admin: &PgPool, name: &str) -> anyhow::Result<()> {
    let drop = format!("drop database if exists {name} with (force)");
    admin.execute(sqlx::raw_sql(AssertSqlSafe(drop))).await?;
    Ok(())
}
