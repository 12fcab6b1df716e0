//! More processes on a test's database: a second router, and the built program's commands.

use std::process::{Command, Output};

use checkoutd::{
    app::{App, Given, Pools},
    db, http,
    kit::{clock::Clock, ids::Ids},
    metrics::Metrics,
};
use tokio_util::sync::CancellationToken;

use super::{Merchant, TestApp, app::ENCRYPTION_KEY};

impl TestApp {
    /// A second service's parts on the same database, with its own pool and ids.
    pub fn second(&self) -> App {
        self.second_by(self.state().clock.clone())
    }

    /// As [`TestApp::second`], going by another clock.
    pub fn second_by(&self, clock: Clock) -> App {
        let first = self.state();
        let ids = Ids::seeded(8, clock.clone());
        let pool = db::connect(&self.database_url.as_str().into(), 8).unwrap();
        let given = Given {
            pools: Pools::shared(pool),
            clock,
            ids,
            encryption_key: ENCRYPTION_KEY.into(),
            metrics: Metrics::detached().0,
            config: first.config.clone(),
        };
        App::new(given).unwrap()
    }

    /// A second service on a port of its own; the merchant as its client.
    pub async fn replica(&self, merchant: &Merchant) -> Merchant {
        self.replica_by(merchant, self.state().clock.clone()).await.1
    }

    /// As [`TestApp::replica`], going by another clock; and its parts.
    pub async fn replica_by(&self, merchant: &Merchant, clock: Clock) -> (App, Merchant) {
        let app = self.second_by(clock);
        let bound = http::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let base_url = format!("http://{}", bound.addr);
        let router = http::router(app.clone());
        #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
        tokio::spawn(async move {
            http::serve(bound, router, CancellationToken::new().cancelled_owned()).await;
        });
        (app, Merchant { base_url, ..merchant.clone() })
    }

    /// Runs `checkoutd` with these arguments against the test's database.
    pub async fn command(&self, arguments: &[&str]) -> Output {
        self.command_with(arguments, &[]).await
    }

    /// As [`TestApp::command`], with other variables.
    pub async fn command_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_checkoutd"));
        command
            .args(arguments)
            .env_clear()
            .env("DATABASE_URL", &self.database_url)
            .env("CHECKOUTD_ENCRYPTION_KEY", ENCRYPTION_KEY)
            .envs(variables.iter().copied());
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }
}
