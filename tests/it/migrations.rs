//! Migrations beside a service that serves: they wait for it, and it does not wait for them.

use checkoutd::db;
use sqlx::{Connection, Executor, PgConnection};

use crate::support::TestApp;

/// The newest migration of the version before.
const BEFORE: i64 = 12;

/// A database as the version before left it.
struct Old {
    url: String,
    name: String,
}

impl Old {
    async fn create(app: &TestApp) -> Self {
        let mut url: url::Url = app.database_url.parse().unwrap();
        let name = format!("{}_old", url.path().trim_start_matches('/'));
        db::create_database(&app.database_url.as_str().into(), &name).await.unwrap();
        url.set_path(&name);
        let old = Self { url: url.to_string(), name };
        db::MIGRATOR.run_to(BEFORE, &mut old.connect().await).await.unwrap();
        old
    }

    async fn connect(&self) -> PgConnection {
        PgConnection::connect(&self.url).await.unwrap()
    }

    async fn migrate(&self) {
        db::migrate(&self.url.as_str().into()).await.unwrap();
    }

    /// Until somebody waits for a lock of `mode`.
    async fn until_waiting(&self, mode: &str) {
        let mut connection = self.connect().await;
        let waits = "select exists (select 1 from pg_locks l join pg_stat_activity a using (pid)
            where not l.granted and l.mode = $1 and a.datname = current_database())";
        while !sqlx::query_scalar::<_, bool>(waits).bind(mode).fetch_one(&mut connection).await.unwrap() {
            connection.execute("select pg_sleep(0.02)").await.unwrap();
        }
    }

    async fn invalid_indexes(&self) -> i64 {
        let invalid = "select count(*) from pg_index where not indisvalid";
        sqlx::query_scalar(invalid).fetch_one(&mut self.connect().await).await.unwrap()
    }

    async fn drop(self, app: TestApp) {
        let drop = format!("drop database {} with (force)", self.name);
        app.state().pool.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(drop))).await.unwrap();
        app.finish().await;
    }
}

#[tokio::test]
async fn a_migration_meets_a_settlement_without_a_deadlock() {
    let app = TestApp::start().await;
    let old = Old::create(&app).await;
    let mut settlement = old.connect().await;
    settlement.execute("begin; lock table checkout_sessions in row exclusive mode").await.unwrap();
    let goes_on = async {
        // The index of sessions waits for the settlement to end.
        old.until_waiting("ShareLock").await;
        for table in ["subscriptions", "invoices", "api_keys", "environments"] {
            let sql = format!("set lock_timeout = '4s'; lock table {table} in row exclusive mode");
            let locked = settlement.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(sql))).await;
            locked.unwrap_or_else(|error| panic!("{table}: {error}"));
        }
        settlement.execute("commit").await.unwrap();
    };
    tokio::join!(old.migrate(), goes_on);
    assert_eq!(old.invalid_indexes().await, 0);
    old.drop(app).await;
}

#[tokio::test]
async fn requests_do_not_queue_behind_a_migration_that_waits() {
    let app = TestApp::start().await;
    let old = Old::create(&app).await;
    let mut report = old.connect().await;
    report.execute("begin; select count(*) from subscriptions").await.unwrap();
    let goes_on = async {
        old.until_waiting("AccessExclusiveLock").await;
        let mut request = old.connect().await;
        request.execute("set lock_timeout = '10s'; select count(*) from subscriptions").await.unwrap();
        report.execute("commit").await.unwrap();
    };
    tokio::join!(old.migrate(), goes_on);
    old.drop(app).await;
}

#[tokio::test]
async fn an_index_that_was_left_half_built_is_built_again() {
    let app = TestApp::start().await;
    let old = Old::create(&app).await;
    let name = "checkout_sessions_by_subscription";
    let mut connection = old.connect().await;
    let half = format!(
        "create index {name} on checkout_sessions (environment_id, subscription_id);
         update pg_index set indisvalid = false where indexrelid = '{name}'::regclass"
    );
    connection.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(half))).await.unwrap();
    assert_eq!(old.invalid_indexes().await, 1);
    tokio::join!(old.migrate(), old.migrate(), old.migrate());
    assert_eq!(old.invalid_indexes().await, 0);
    let built: i64 = sqlx::query_scalar("select count(*) from pg_class where relname = $1")
        .bind(name)
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(built, 1);
    assert!(db::is_ready(&db::connect(&old.url.as_str().into(), 1).unwrap()).await.unwrap());
    old.drop(app).await;
}
