//! One Postgres for the whole run, and per test a database cloned from a migrated template.

use std::{
    path::{Path, PathBuf},
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use checkoutd::{
    config::Config,
    db::{self, embedded},
};
use sqlx::{Connection, Executor, PgConnection};
use tokio::sync::OnceCell;

use super::tcpfault::Upstream;

static SERVER: OnceCell<embedded::Server> = OnceCell::const_new();
/// The tablespace of the tests' databases, where there is one in memory.
static PLACE: OnceLock<&str> = OnceLock::new();
static NEXT: AtomicU32 = AtomicU32::new(0);
/// Cloning holds a lock on the template; clones would only wait for each other inside Postgres.
static CLONING: Mutex<()> = Mutex::new(());

/// A fresh, migrated database; its URL and name.
pub async fn create() -> (String, String) {
    let server = SERVER.get_or_init(start).await;
    let name = format!("test_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let place = PLACE.get().map(|place| format!("tablespace {place}")).unwrap_or_default();
    let statement = format!("create database {name} template {} strategy file_copy {place}", template());
    run_locked(&server.url("postgres"), statement).await;
    (server.url(&name), name)
}

/// Where the server listens, for a proxy in front of it.
pub fn upstream() -> Upstream {
    let url: url::Url = SERVER.get().expect("a database was made").url("postgres").parse().unwrap();
    let value = |wanted: &str| url.query_pairs().find(|(key, _)| key == wanted).unwrap().1.into_owned();
    Upstream::Unix(PathBuf::from(value("host")).join(format!(".s.PGSQL.{}", value("port"))))
}

/// Names of the database's tables, in order.
pub async fn tables(executor: impl sqlx::PgExecutor<'_>) -> Vec<String> {
    sqlx::query_scalar("select tablename::text from pg_tables where schemaname = 'public' order by 1")
        .fetch_all(executor)
        .await
        .unwrap()
}

pub async fn drop_database(name: &str) {
    let server = SERVER.get().unwrap();
    run(&mut admin(&server.url("postgres")).await, format!("drop database if exists {name} with (force)"))
        .await;
}

#[expect(clippy::await_holding_lock, reason = "each test has a runtime and a thread of its own")]
async fn run_locked(url: &str, statement: String) {
    let _one_at_a_time = CLONING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    run(&mut admin(url).await, statement).await;
}

async fn run(connection: &mut PgConnection, statement: String) {
    connection.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(statement))).await.unwrap();
}

async fn admin(url: &str) -> PgConnection {
    PgConnection::connect(url).await.unwrap()
}

/// Named after the migrations, so that an edited one is never run against an old template.
fn template() -> String {
    let checksums = db::MIGRATOR.iter().map(|migration| hex::encode(&migration.checksum[..2]));
    format!("template_{}", checksums.collect::<Vec<_>>().join("_"))
}

/// Started on a thread of its own that lives as long as the process: the server's pipe must outlive the
/// runtime of the test that came first.
async fn start() -> embedded::Server {
    let (send, receive) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let pg_bin = Config::from_env().unwrap().pg_bin;
            let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("postgres");
            let server = embedded::start(embedded::Options { dir, durable: false, pg_bin }).await;
            let server = server.unwrap_or_else(|error| panic!("{error}"));
            prepare(&server.url("postgres"), &server).await;
            assert!(send.send(server).is_ok());
            std::future::pending::<()>().await;
        });
    });
    receive.await.unwrap()
}

/// Drops what runs before this one left behind, and migrates the template.
async fn prepare(url: &str, server: &embedded::Server) {
    let mut postgres = admin(url).await;
    postgres.execute("select pg_advisory_lock(20261123)").await.unwrap();
    let names: Vec<String> = sqlx::query_scalar(
        "select datname from pg_database where datname like 'test\\_%' or datname like 'template\\_%'",
    )
    .fetch_all(&mut postgres)
    .await
    .unwrap();
    let template = template();
    for name in names.iter().filter(|name| **name != template && !is_of_living_process(name)) {
        run(&mut postgres, format!("drop database if exists {name} with (force)")).await;
    }
    let making = format!("making_{template}");
    if !names.contains(&template) {
        // Renamed when complete: a run that dies in between leaves no half template.
        run(&mut postgres, format!("drop database if exists {making} with (force)")).await;
        run(&mut postgres, format!("create database {making}")).await;
        db::migrate(&server.url(&making).into()).await.unwrap();
        run(&mut postgres, format!("alter database {making} rename to {template}")).await;
    }
    if let Some(name) = place_in_memory(&mut postgres).await {
        let _ = PLACE.set(name);
    }
    postgres.close().await.unwrap();
}

/// A tablespace in memory, where the system has room for one. Each test makes and drops hundreds of files, and ext4
/// searches ever longer for places that were not freed a moment ago: a third of the suite's time.
async fn place_in_memory(postgres: &mut PgConnection) -> Option<&'static str> {
    const NAME: &str = "memory";
    let free = std::process::Command::new("df").args(["-Pk", "/dev/shm"]).output().ok()?.stdout;
    let free =
        String::from_utf8_lossy(&free).lines().nth(1)?.split_whitespace().nth(3)?.parse::<u64>().ok()?;
    if free < 1024 * 1024 {
        return None;
    }
    let known: Option<String> =
        sqlx::query_scalar("select pg_tablespace_location(oid) from pg_tablespace where spcname = $1")
            .bind(NAME)
            .fetch_optional(&mut *postgres)
            .await
            .unwrap();
    match known {
        Some(dir) if Path::new(&dir).is_dir() => return Some(NAME),
        // What is in memory ends with the machine.
        Some(_) => run(postgres, format!("drop tablespace {NAME}")).await,
        None => {}
    }
    let server: i64 = sqlx::query_scalar("select system_identifier from pg_control_system()")
        .fetch_one(&mut *postgres)
        .await
        .unwrap();
    let dir = format!("/dev/shm/checkoutd-test-{server}");
    // By the server, as it may run as another user, who has to own it.
    let make = format!("copy (select) to program 'mkdir -p -m 700 {dir}'");
    postgres.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(make))).await.ok()?;
    run(postgres, format!("create tablespace {NAME} location '{dir}'")).await;
    Some(NAME)
}

fn is_of_living_process(database: &str) -> bool {
    let process = database.strip_prefix("test_").and_then(|rest| rest.split('_').next()).unwrap_or_default();
    let mut probe = std::process::Command::new("kill");
    probe.args(["-0", process]).stderr(std::process::Stdio::null());
    process.parse::<u32>().is_ok() && probe.status().is_ok_and(|status| status.success())
}
