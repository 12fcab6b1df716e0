//! A whole service per test: database, router on a port, sandbox, mock clock, seeded ids. Workers are driven
//! by hand.

use std::sync::Arc;

use checkoutd::{
    app::{App, Given, Pools},
    config::Config,
    db, http,
    kit::{
        clock::{Clock, TimeSource},
        ids::Ids,
    },
    metrics::Metrics,
    sandbox::{Account, PaidInfo, PayRequest, Sandbox, SandboxConfig},
    tenancy, worker,
};
use chrono::TimeDelta;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{Merchant, actors, audit, clock::MockClock, tcpfault::TcpFault};

pub const KEY_SECRET: &str = "canary-razorpay-key-secret";
pub const WEBHOOK_SECRET: &str = "canary-razorpay-webhook-secret";

pub const ENCRYPTION_KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

pub struct TestApp {
    app: App,
    clock: MockClock,
    pub sandbox: Sandbox,
    pub base_url: String,
    /// Counts for this app once it is the thread's local recorder.
    pub recorder: Arc<metrics_exporter_prometheus::PrometheusRecorder>,
    pub database_url: String,
    proxy: Option<TcpFault>,
    database: String,
    canaries: std::sync::Mutex<Vec<String>>,
    shutdown: CancellationToken,
    accounts: std::sync::atomic::AtomicU32,
    finished: bool,
}

/// What a test may set before the service starts.
#[derive(Default)]
pub struct Settings {
    pub variables: Vec<(&'static str, &'static str)>,
    /// Starts the clock so much behind the system's, for tests that run the binary beside; else at a fixed time.
    pub behind: Option<TimeDelta>,
    /// Reaches Postgres through a proxy that can break, with a pool of this size.
    pub proxied_pool: Option<u32>,
}

impl TestApp {
    pub async fn start() -> Self {
        Self::start_with(Settings::default()).await
    }

    pub async fn start_with(settings: Settings) -> Self {
        let (url, database) = super::db::create().await;
        let clock = settings.behind.map_or_else(MockClock::new, MockClock::behind);
        let sandbox = start_sandbox(&clock).await;
        let bound = http::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let base_url = format!("http://{}", bound.addr);
        let sandbox_url = sandbox.base_url();
        let variable = |name: &str| match name {
            "CHECKOUTD_PUBLIC_URL" => Some(base_url.clone()),
            "RAZORPAY_BASE_URL" => Some(sandbox_url.clone()),
            _ => {
                let set = settings.variables.iter().find(|(key, _)| *key == name);
                let default = match name {
                    "CHECKOUTD_ALLOW_PRIVATE_WEBHOOK_TARGETS" => Some("true"),
                    // The clock stands still, and so would a budget.
                    "CHECKOUTD_RATE_LIMIT_PER_SECOND" | "CHECKOUTD_FAILED_AUTHENTICATIONS_PER_MINUTE" => {
                        Some("0")
                    }
                    _ => None,
                };
                set.map(|(_, value)| *value).or(default).map(str::to_owned)
            }
        };
        let config = Config::from_lookup(variable).unwrap();
        let app_clock = Clock::from_source(Arc::new(clock.clone()));
        let (metrics, recorder) = Metrics::detached();
        let ids = Ids::seeded(7, app_clock.clone());
        let proxy = match settings.proxied_pool {
            Some(_) => Some(TcpFault::start(super::db::upstream()).await.unwrap()),
            None => None,
        };
        let pool = match (&proxy, settings.proxied_pool) {
            (Some(proxy), Some(size)) => db::connect(&proxied(&url, proxy), size).unwrap(),
            _ => db::connect(&url.as_str().into(), 8).unwrap(),
        };
        let given = Given {
            pools: Pools::shared(pool),
            clock: app_clock,
            ids,
            encryption_key: ENCRYPTION_KEY.into(),
            metrics,
            config,
        };
        let app = App::new(given).unwrap();
        let shutdown = CancellationToken::new();
        let (router, stop) = (http::router(app.clone()), shutdown.clone());
        #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
        tokio::spawn(async move { http::serve(bound, router, stop.cancelled_owned()).await });
        let canaries = std::sync::Mutex::new(vec![KEY_SECRET.to_owned(), WEBHOOK_SECRET.to_owned()]);
        let accounts = std::sync::atomic::AtomicU32::new(0);
        let recorder = Arc::new(recorder);
        Self {
            app,
            clock,
            sandbox,
            base_url,
            recorder,
            database_url: url,
            proxy,
            database,
            canaries,
            shutdown,
            accounts,
            finished: false,
        }
    }

    /// The service's own parts, for scenarios that no API reaches.
    pub fn state(&self) -> &App {
        &self.app
    }

    /// What stands between the service and Postgres.
    pub fn proxy(&self) -> &TcpFault {
        self.proxy.as_ref().expect("the settings ask for no proxy")
    }

    pub fn clock(&self) -> &MockClock {
        &self.clock
    }

    /// A new tenant's test environment, connected to the sandbox, its webhook registered there.
    pub async fn merchant(&self) -> Merchant {
        let (test, _) = self.merchant_pair().await;
        self.connect(&test).await;
        test
    }

    /// Connects an environment to an account of its own at the sandbox, which posts webhooks to it.
    pub async fn connect(&self, test: &Merchant) {
        let number = self.accounts.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let key_id = format!("rzp_test_{number:014}");
        let url =
            format!("{}/v1/webhooks/razorpay/{}/{}", self.base_url, test.tenant_id, test.environment_id);
        self.sandbox
            .put_account(Account::new(&key_id, KEY_SECRET).with_webhook(&url, WEBHOOK_SECRET))
            .unwrap();
        test.post("/v1/connections", connection(&key_id)).await.expect(201);
    }

    /// A new tenant's test and live environments, without connections.
    pub async fn merchant_pair(&self) -> (Merchant, Merchant) {
        let tenant = tenancy::create_tenant(&self.app, "Test merchant").await.unwrap();
        let mut merchants = tenant.environments.iter().map(|environment| {
            self.add_canary(&environment.api_key);
            Merchant {
                http: reqwest::Client::builder()
                    .no_proxy()
                    .redirect(reqwest::redirect::Policy::none())
                    .build()
                    .unwrap(),
                base_url: self.base_url.clone(),
                api_key: environment.api_key.clone(),
                tenant_id: tenant.tenant_id.to_string(),
                environment_id: environment.id.to_string(),
            }
        });
        (merchants.next().unwrap(), merchants.next().unwrap())
    }

    /// A secret that must not turn up in any table.
    pub fn add_canary(&self, secret: &str) {
        self.canaries.lock().unwrap().push(secret.to_owned());
    }

    /// The customer pays the session's link; Razorpay's webhooks are queued, not yet sent.
    pub fn pay(&self, session: &Value) -> PaidInfo {
        self.sandbox.pay(session["id"].as_str().unwrap(), PayRequest::default()).unwrap()
    }

    /// The customer pays: Razorpay's `payment_link.paid`, not yet sent.
    pub fn pay_for_event(&self, session: &Value) -> checkoutd::sandbox::Delivery {
        self.pay(session);
        let queued = self.sandbox.ledger().deliveries;
        queued.into_iter().rfind(|event| event.event == "payment_link.paid").unwrap()
    }

    /// The customer pays, Razorpay's webhooks arrive, the merchant's are delivered.
    pub async fn pay_and_settle(&self, session: &Value) -> PaidInfo {
        let paid = self.pay(session);
        self.sandbox.flush_webhooks().await;
        self.drain().await;
        paid
    }

    /// Runs the workers until nothing is due.
    pub async fn drain(&self) {
        worker::drain_all(&self.app).await.unwrap();
    }

    /// Moves the clock, and runs the workers and Razorpay's webhooks until nothing is due.
    pub async fn advance(&self, by: TimeDelta) {
        self.clock.advance(by);
        self.drain().await;
        if self.sandbox.flush_webhooks().await > 0 {
            self.drain().await;
        }
    }

    /// Statements that wait for a lock.
    pub async fn waiting_for_locks(&self) -> i64 {
        let waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()";
        sqlx::query_scalar(waiting).fetch_one(&self.app.pool).await.unwrap()
    }

    /// Until so many statements wait for a lock.
    pub async fn until_waiting_for_locks(&self, number: i64) {
        while self.waiting_for_locks().await < number {
            tokio::task::yield_now().await;
        }
    }

    /// Rows of every table: what a refused request must not change.
    pub async fn row_counts(&self) -> Vec<(String, i64)> {
        let mut counts = Vec::new();
        for table in super::db::tables(&self.app.pool).await {
            let sql = sqlx::AssertSqlSafe(format!("select count(*) from \"{table}\""));
            let count = sqlx::query_scalar(sql).fetch_one(&self.app.pool).await.unwrap();
            counts.push((table, count));
        }
        counts
    }

    /// The end of every scenario: the invariants hold.
    pub async fn finish(mut self) {
        self.finished = true;
        let canaries = self.canaries.lock().unwrap().clone();
        let now = self.app.clock.now();
        let violations = audit::violations(&self.app.pool, &self.sandbox.ledger(), now, &canaries).await;
        assert!(violations.is_empty(), "invariants broken:\n{}", violations.join("\n"));
        self.shutdown.cancel();
        self.app.pool.close().await;
        super::db::drop_database(&self.database).await;
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        assert!(
            self.finished || std::thread::panicking(),
            "end the scenario with finish(): it audits the invariants"
        );
    }
}

async fn start_sandbox(clock: &MockClock) -> Sandbox {
    let clock = clock.clone();
    let mut config = SandboxConfig::new(Arc::new(move || clock.now()));
    config.auto_deliver = false;
    Sandbox::start(config).await.unwrap()
}

/// The same database through `proxy`.
fn proxied(url: &str, proxy: &TcpFault) -> secrecy::SecretString {
    let mut url: url::Url = url.parse().unwrap();
    let kept: Vec<_> =
        url.query_pairs().into_owned().filter(|(key, _)| key != "host" && key != "port").collect();
    url.query_pairs_mut()
        .clear()
        .extend_pairs(kept)
        .append_pair("host", "127.0.0.1")
        .append_pair("port", &proxy.addr().port().to_string())
        .append_pair("sslmode", "disable");
    url.to_string().into()
}

/// A request for a Razorpay connection.
pub fn connection(key_id: &str) -> Value {
    json!({
        "name": "Razorpay", "provider_type": "razorpay",
        "encrypted_secret_data": {"key_id": key_id, "secret_key": KEY_SECRET, "webhook_secret": WEBHOOK_SECRET},
    })
}

/// Without credentials.
pub async fn send(request: reqwest::RequestBuilder) -> actors::Reply {
    actors::send(request).await
}
