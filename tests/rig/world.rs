//! Everything that runs: Postgres behind a proxy, Razorpay's double, the replicas behind a proxy, receivers,
//! and merchants who are ready to sell.

use std::{
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use checkoutd::sandbox::{Account, Sandbox, SandboxConfig};
use chrono::Utc;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::RwLock;

use crate::{
    args::{Args, Fault},
    checker::Endpoint,
    client::{Client, Merchant},
    postgres::Postgres,
    processes::Reaper,
    receivers::Receivers,
    replica::{Order, Replica, Service},
    tally::Tally,
    tcpfault::{TcpFault, Upstream},
};

/// How long customers have to pay. Short, so that a run sees many deadlines.
pub const SESSION_TTL: Duration = Duration::from_secs(12);
const KEY_SECRET: &str = "the-rig-key-secret";
const WEBHOOK_SECRET: &str = "the-rig-webhook-secret";

pub struct World {
    pub args: Args,
    pub tally: Arc<Tally>,
    pub postgres: Arc<Postgres>,
    /// Between the service and Postgres.
    pub database_proxy: TcpFault,
    /// Between clients and the service: one address for all replicas.
    pub front: TcpFault,
    pub sandbox: Sandbox,
    pub receivers: Receivers,
    pub replicas: Vec<Replica>,
    pub client: Client,
    pub merchants: Vec<Merchant>,
    pub endpoints: Vec<Endpoint>,
    /// Whether Razorpay's webhooks are switched on. Who needs one to be sent holds the read lock.
    pub webhooks_on: RwLock<bool>,
    pub logs: PathBuf,
}

impl World {
    pub async fn start(args: &Args) -> anyhow::Result<Self> {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("rig");
        let logs = folder.join(format!("logs-{}-{}", args.seed, Utc::now().format("%H%M%S")));
        std::fs::create_dir_all(&logs)?;
        println!("logs: {}", logs.display());
        let tally = Arc::new(Tally::default());
        let postgres = Arc::new(Postgres::start(&folder).await.context("Postgres")?);
        let database_proxy = TcpFault::start(Upstream::Unix(postgres.socket().to_owned())).await?;
        let mut settings = SandboxConfig::new(Arc::new(Utc::now));
        settings.seed = args.seed;
        // Razorpay goes on for a day, and a run is shorter: what an event tells late must not be what nobody tells.
        settings.retry_ladder.extend([Duration::from_secs(60); 60]);
        let sandbox = Sandbox::start(settings).await?;
        let receivers =
            Receivers::start(args.seed, args.has(Fault::Receivers), &logs.join("receivers.log")).await?;
        let addrs = free_addrs(args.replicas)?;
        let front = TcpFault::start(Upstream::Tcp(addrs.clone())).await?;
        let service = Arc::new(Service {
            binary: args.binary.clone(),
            logs: logs.clone(),
            variables: variables(args, &database_proxy, &front, &sandbox),
            reaper: Reaper::start()?,
            tally: Arc::clone(&tally),
            postgres: Arc::clone(&postgres),
            probe: reqwest::Client::builder().no_proxy().build()?,
            database_fails: [Fault::Postgres, Fault::Terminate, Fault::Proxy].iter().any(|f| args.has(*f)),
        });
        let start =
            |(number, addr): (usize, &SocketAddr)| Replica::start(Arc::clone(&service), number, *addr);
        let replicas = addrs.iter().enumerate().map(start).collect();
        let client = Client::new(format!("http://{}", front.addr()), Arc::clone(&tally))?;
        let mut world = Self {
            args: args.clone(),
            tally,
            postgres,
            database_proxy,
            front,
            sandbox,
            receivers,
            replicas,
            client,
            merchants: Vec::new(),
            endpoints: Vec::new(),
            webhooks_on: RwLock::new(true),
            logs,
        };
        world.open_shops(&service).await?;
        Ok(world)
    }

    /// Two merchants with test environments, and the live half of the first.
    async fn open_shops(&mut self, service: &Service) -> anyhow::Result<()> {
        let prices = [("INR", "499.00", 49_900), ("USD", "12.34", 1_234), ("JPY", "1500", 1_500)];
        for number in 0..2 {
            let tenant = create_tenant(service, number).await?;
            for environment in tenant["environments"].as_array().context("environments")? {
                let live = environment["mode"] == "live";
                if live && number > 0 {
                    continue;
                }
                let (currency, amount, price) = prices[self.merchants.len() % prices.len()];
                let merchant = Merchant {
                    number: self.merchants.len(),
                    api_key: environment["api_key"].as_str().context("api_key")?.to_owned(),
                    plan: "plan_rig".to_owned(),
                    currency,
                    price,
                    key_id: format!("rzp_{}_{number:014}", if live { "live" } else { "test" }),
                };
                let url = environment["webhook_url"].as_str().context("webhook_url")?;
                let account = Account::new(&merchant.key_id, KEY_SECRET).with_webhook(url, WEBHOOK_SECRET);
                self.sandbox.put_account(account)?;
                self.stock(&merchant, amount).await?;
                // A live environment takes https endpoints only; its events are read from the API.
                if !live {
                    self.register(&merchant).await?;
                }
                self.merchants.push(merchant);
            }
        }
        Ok(())
    }

    async fn stock(&self, merchant: &Merchant, amount: &str) -> anyhow::Result<()> {
        let secrets = json!({
            "key_id": merchant.key_id, "secret_key": KEY_SECRET, "webhook_secret": WEBHOOK_SECRET,
        });
        let connection =
            json!({"name": "Rig", "provider_type": "razorpay", "encrypted_secret_data": secrets});
        self.post(merchant, "/v1/connections", connection).await?;
        let plan =
            self.post(merchant, "/v1/plans", json!({"name": "Rig", "lookup_key": merchant.plan})).await?;
        let price = json!({
            "entity_type": "PLAN", "entity_id": plan["id"], "type": "FIXED", "billing_model": "FLAT_FEE",
            "billing_period": "MONTHLY", "billing_period_count": 1, "currency": merchant.currency,
            "amount": amount, "invoice_cadence": "ADVANCE", "price_unit_type": "FIAT",
        });
        self.post(merchant, "/v1/prices", price).await?;
        self.post(merchant, "/v1/customers", json!({"external_id": "regular", "name": "A Regular"})).await?;
        Ok(())
    }

    /// One endpoint for everything and one for ends only.
    async fn register(&mut self, merchant: &Merchant) -> anyhow::Result<()> {
        let ends = ["completed", "failed", "expired"].map(|end| format!("checkout.session.{end}"));
        for kinds in [Vec::new(), ends.to_vec()] {
            let mut request = json!({"url": self.receivers.url(self.endpoints.len())});
            if !kinds.is_empty() {
                request["event_types"] = json!(kinds);
            }
            let endpoint = self.post(merchant, "/v1/webhook_endpoints", request).await?;
            self.receivers.add_secret(endpoint["secret"].as_str().context("secret")?);
            self.endpoints.push(Endpoint { merchant: merchant.number, kinds });
        }
        Ok(())
    }

    async fn post(&self, merchant: &Merchant, path: &str, body: Value) -> anyhow::Result<Value> {
        for _ in 0..100 {
            let limit = Duration::from_secs(10);
            let reply = self.client.send(merchant, Method::POST, path, Some(&body), &[201], limit).await;
            match reply {
                Some(reply) if reply.status == 201 => return Ok(reply.json),
                Some(reply) if reply.status != 503 => bail!("{path}: {} {}", reply.status, reply.json),
                // The replicas are starting.
                _ => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
        bail!("{path}: no answer")
    }

    pub fn order(&self, replica: usize, order: Order) {
        self.replicas[replica].order(order);
    }

    /// Everything works again.
    pub async fn calm(&self) {
        self.database_proxy.calm();
        self.front.calm();
        self.receivers.calm();
        let mut on = self.webhooks_on.write().await;
        self.sandbox.set_faults(checkoutd::sandbox::Faults::default());
        *on = true;
    }

    /// Stops everything in order.
    pub async fn stop(self) -> anyhow::Result<()> {
        for replica in self.replicas {
            replica.stop().await;
        }
        self.sandbox.shutdown().await;
        self.postgres.stop().await
    }
}

fn variables(
    args: &Args,
    database: &TcpFault,
    front: &TcpFault,
    sandbox: &Sandbox,
) -> Vec<(&'static str, String)> {
    vec![
        ("DATABASE_URL", Postgres::url_by(database.addr().port())),
        ("CHECKOUTD_PUBLIC_URL", format!("http://{}/", front.addr())),
        ("CHECKOUTD_ENCRYPTION_KEY", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".to_owned()),
        ("RAZORPAY_BASE_URL", sandbox.base_url()),
        ("CHECKOUTD_SESSION_TTL_SECONDS", SESSION_TTL.as_secs().to_string()),
        ("CHECKOUTD_ALLOW_PRIVATE_WEBHOOK_TARGETS", "true".to_owned()),
        ("CHECKOUTD_RATE_LIMIT_PER_SECOND", "0".to_owned()),
        ("CHECKOUTD_LOG", args.log.clone()),
    ]
}

async fn create_tenant(service: &Service, number: usize) -> anyhow::Result<Value> {
    let mut command = service.command("tenant.log")?;
    command.args(["tenant", "create", "--name", &format!("Rig {number}"), "--json"]);
    let output = command.output().await?;
    ensure!(output.status.success(), "tenant create: {}", output.status);
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Ports below the range from which the system takes its own: a replica that starts again must find its port
/// free.
fn free_addrs(count: usize) -> anyhow::Result<Vec<SocketAddr>> {
    let start = 20_000 + u16::try_from(std::process::id() % 8_000)?;
    let addrs = (start..32_000).map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    let free: Vec<_> = addrs.filter(|addr| TcpListener::bind(addr).is_ok()).take(count).collect();
    ensure!(free.len() == count, "no free ports");
    Ok(free)
}
