//! The rig's own Postgres, which can be stopped as if the power had failed.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use anyhow::{Context, bail};
use checkoutd::db::{self, embedded};
use sqlx::{Connection, Executor, PgConnection};
use tokio::sync::Mutex;

use crate::processes::signal;

const DATABASE: &str = "rig";

pub struct Postgres {
    options: embedded::Options,
    server: Mutex<Option<embedded::Server>>,
    url: String,
    data: PathBuf,
    socket: PathBuf,
    /// Held as long as the directory is in use.
    _slot: File,
    down: AtomicBool,
    /// Counts every change between up and down: two equal readings mean that nothing happened in between.
    changes: AtomicU64,
}

impl Postgres {
    /// Starts a server in the first directory under `parent` that no other rig uses, with an empty database.
    pub async fn start(parent: &Path) -> anyhow::Result<Self> {
        let (slot, dir) = take_slot(parent)?;
        let pg_bin = checkoutd::config::Config::from_lookup(|name| {
            (name == "PG_BIN").then(|| std::env::var(name).ok()).flatten()
        });
        let pg_bin = pg_bin.context("PG_BIN")?.pg_bin;
        let options = embedded::Options { dir, durable: true, pg_bin };
        let server = embedded::start(options.clone()).await?;
        let mut admin = PgConnection::connect(&server.url("postgres")).await?;
        let (data, sockets): (String, String) = sqlx::query_as(
            "select current_setting('data_directory'), current_setting('unix_socket_directories')",
        )
        .fetch_one(&mut admin)
        .await?;
        admin.execute(sqlx::raw_sql("drop database if exists rig with (force)")).await?;
        admin.execute(sqlx::raw_sql("create database rig")).await?;
        admin.close().await?;
        let url = server.url(DATABASE);
        db::migrate(&url.clone().into()).await?;
        Ok(Self {
            options,
            url,
            server: Mutex::new(Some(server)),
            data: data.into(),
            socket: Path::new(&sockets).join(".s.PGSQL.5432"),
            _slot: slot,
            down: AtomicBool::new(false),
            changes: AtomicU64::new(0),
        })
    }

    /// The server's Unix socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The database, through a proxy on `port`.
    pub fn url_by(port: u16) -> String {
        format!("postgres://postgres@127.0.0.1:{port}/{DATABASE}?sslmode=disable")
    }

    pub fn is_down(&self) -> bool {
        self.down.load(Ordering::SeqCst)
    }

    /// See `changes`.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::SeqCst)
    }

    fn mark(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
        self.changes.fetch_add(1, Ordering::SeqCst);
    }

    /// Stops the server without a shutdown checkpoint, as a crash would, and starts it again.
    pub async fn crash_and_restart(&self) -> anyhow::Result<()> {
        let mut server = self.server.lock().await;
        let Some(running) = server.take() else { bail!("Postgres does not run") };
        self.mark(true);
        let pid = fs::read_to_string(self.data.join("postmaster.pid")).context("postmaster.pid")?;
        let pid = pid.lines().next().and_then(|line| line.trim().parse().ok()).context("postmaster.pid")?;
        signal("QUIT", pid).await;
        running.stop().await?;
        *server = Some(self.start_again().await?);
        self.mark(false);
        Ok(())
    }

    /// A machine under load may need more than one try.
    async fn start_again(&self) -> anyhow::Result<embedded::Server> {
        for _ in 0..3 {
            if let Ok(server) = embedded::start(self.options.clone()).await {
                return Ok(server);
            }
        }
        Ok(embedded::start(self.options.clone()).await?)
    }

    /// Ends `count` sessions of the service, as an administrator would.
    pub async fn terminate(&self, count: i64) -> anyhow::Result<i64> {
        let mut admin = PgConnection::connect(&self.url).await?;
        let ended = sqlx::query_scalar(
            "select count(pg_terminate_backend(pid)) from (
                select pid from pg_stat_activity where application_name = 'checkoutd' order by random() limit $1
             ) picked",
        )
        .bind(count)
        .fetch_one(&mut admin)
        .await?;
        admin.close().await?;
        Ok(ended)
    }

    pub async fn stop(&self) -> anyhow::Result<()> {
        if let Some(server) = self.server.lock().await.take() {
            server.stop().await?;
        }
        Ok(())
    }
}

fn take_slot(parent: &Path) -> anyhow::Result<(File, PathBuf)> {
    fs::create_dir_all(parent)?;
    for number in 0..16 {
        let file = File::create(parent.join(format!("rig-{number}.lock")))?;
        if file.try_lock().is_ok() {
            return Ok((file, parent.join(format!("rig-{number}"))));
        }
    }
    bail!("sixteen rigs are running already")
}
