//! Transactions: the only place that begins one.

use std::time::Duration;

use futures::future::BoxFuture;
use sqlx::{Connection, IntoArguments, Postgres, pool::PoolConnection, postgres::PgRow, query::Map};

use super::{Error, Pool, Tx};
use crate::kit::backoff::exponential;

/// How often a transaction is run again after a deadlock or a serialisation failure.
const RERUNS: u32 = 3;
/// The longest wait before the first rerun; doubled for each next one. Those who met must not meet again.
const PAUSE: Duration = Duration::from_millis(20);

/// An error of a use case that can tell whether the database stands behind it.
pub trait TransactError: From<Error> {
    /// The driver's error, where there is one.
    fn database_error(&self) -> Option<&Error>;
}

impl TransactError for Error {
    fn database_error(&self) -> Option<&Error> {
        Some(self)
    }
}

const BEGIN: &str = "begin";
const BEGIN_UNFLUSHED: &str = "begin; set local synchronous_commit = off";

/// Runs `work` in one transaction: commits when it returns Ok, rolls back when it returns Err.
///
/// `work` is run again, at most three times, when Postgres picked it as the victim of a deadlock or a
/// serialisation conflict: it must have no effect outside the transaction. No network in here: the
/// transaction holds locks. `name` shows up in logs.
pub async fn transact<T, E: TransactError>(
    pool: &Pool,
    name: &'static str,
    work: impl for<'t> Fn(&'t mut Tx) -> BoxFuture<'t, Result<T, E>>,
) -> Result<T, E> {
    run(pool, BEGIN, name, work).await
}

/// As [`transact`], but does not wait until the commit is on the disk: everybody sees it at once, and a server that
/// crashes within the next half second may lose it. For leases only, which nobody misses then.
pub async fn transact_unflushed<T, E: TransactError>(
    pool: &Pool,
    name: &'static str,
    work: impl for<'t> Fn(&'t mut Tx) -> BoxFuture<'t, Result<T, E>>,
) -> Result<T, E> {
    run(pool, BEGIN_UNFLUSHED, name, work).await
}

async fn run<T, E: TransactError>(
    pool: &Pool,
    begin: &'static str,
    name: &'static str,
    work: impl for<'t> Fn(&'t mut Tx) -> BoxFuture<'t, Result<T, E>>,
) -> Result<T, E> {
    let mut rerun = 0;
    loop {
        match once(pool, begin, &work).await {
            Err(error) if rerun < RERUNS && error.database_error().is_some_and(is_conflict) => {
                rerun += 1;
                tracing::info!(transaction.name = name, rerun, "transaction conflicted, running it again");
                tokio::time::sleep(exponential(PAUSE, rerun - 1, PAUSE * 8).mul_f64(rand::random())).await;
            }
            done => return done,
        }
    }
}

async fn once<T, E: TransactError>(
    pool: &Pool,
    begin: &'static str,
    work: impl for<'t> Fn(&'t mut Tx) -> BoxFuture<'t, Result<T, E>>,
) -> Result<T, E> {
    let mut lent = Lent::from(pool).await?;
    let mut tx = lent.connection.begin_with(begin).await?;
    let done = match work(&mut tx).await {
        Ok(value) => tx.commit().await.map(|()| value).map_err(E::from),
        Err(error) => {
            // Rolls back.
            drop(tx);
            Err(error)
        }
    };
    lent.judge(&done);
    done
}

/// Runs a worker's claim, a statement that stands alone, on a connection that is closed when the server behind it is not
/// the one to talk to any more: whatever else runs on the worker's pool finds connections to the right server soon.
pub async fn fetch_claim<T: Send + Unpin, A: Send + IntoArguments<Postgres>>(
    pool: &Pool,
    claim: Map<'_, Postgres, impl FnMut(PgRow) -> Result<T, Error> + Send, A>,
) -> Result<Vec<T>, Error> {
    let mut lent = Lent::from(pool).await?;
    let done = claim.fetch_all(&mut *lent.connection).await;
    lent.judge(&done);
    done
}

/// A connection that returns to the pool only after its work has come to an end, and is closed otherwise: a `begin` that
/// was dropped half-way leaves it inside a transaction, and the next borrower's write would vanish with
/// that (docs/adr/0003).
struct Lent {
    connection: PoolConnection<Postgres>,
    is_usable: bool,
}

impl Lent {
    async fn from(pool: &Pool) -> Result<Self, Error> {
        Ok(Self { connection: pool.acquire().await?, is_usable: false })
    }

    fn judge<T, E: TransactError>(&mut self, done: &Result<T, E>) {
        self.is_usable =
            !done.as_ref().is_err_and(|error| error.database_error().is_some_and(is_server_gone));
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if !self.is_usable {
            self.connection.close_on_drop();
        }
    }
}

/// Begins a transaction that only reads, by `statement`; dropped, it ends. In a task of its own, so that it is never
/// left half-way: see [`Lent`].
#[expect(clippy::disallowed_methods, reason = "the task ends with Postgres's answer, or with the connection")]
pub async fn begin_read(
    pool: &Pool,
    statement: &'static str,
) -> Result<sqlx::Transaction<'static, Postgres>, Error> {
    let pool = pool.clone();
    tokio::spawn(async move { pool.begin_with(statement).await }).await.map_err(|_| Error::WorkerCrashed)?
}

/// Whether the server is not the one to talk to any more, though it may still answer: a primary that became a standby,
/// or one that stops. Its connections must not go back to the pool.
fn is_server_gone(error: &Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| code == "25006" || code.starts_with("57P"))
}

/// Whether Postgres picked the statement as the victim of a deadlock or a serialisation conflict.
pub fn is_conflict(error: &Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    matches!(code.as_deref(), Some("40001" | "40P01"))
}
