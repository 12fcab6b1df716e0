//! What the service talks to, each a process of its own: Razorpay, the merchants' endpoints; and a bare server to
//! compare reads with. Each says its address on standard output and ends when its standard input does.

use std::{
    collections::HashSet,
    io::Read,
    sync::{Arc, Mutex},
    time::Instant,
};

use anyhow::Context;
use axum::{Json, Router, extract::Path, http::StatusCode, routing::get};
use checkoutd::db;
use chrono::Utc;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Row, types::Uuid};
use tokio::net::TcpListener;

use super::{
    http::{Message, serve},
    world::{AMOUNT_MINOR, POOL_SIZE},
};

/// Which of them a process is.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Double {
    /// Razorpay: links at once.
    Razorpay,
    /// Endpoints: 204 at once.
    Receiver,
    /// One query of a session, by axum and sqlx and nothing else.
    Bare {
        #[arg(long)]
        database_url: String,
        #[arg(long)]
        statement: String,
    },
}

impl Double {
    pub async fn run(self) -> anyhow::Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?);
        std::thread::spawn(|| {
            let _ = std::io::stdin().read(&mut [0]);
            std::process::exit(0);
        });
        self.serve(listener).await
    }

    async fn serve(self, listener: TcpListener) -> anyhow::Result<()> {
        match self {
            Self::Razorpay => serve(listener, |request| Some(razorpay(request))).await?,
            Self::Receiver => {
                let tally = Mutex::default();
                serve(listener, move |request| receive(&tally, request)).await?;
            }
            Self::Bare { database_url, statement } => bare(listener, database_url, statement).await?,
        }
        Ok(())
    }
}

/// The part of a link's body that comes back in the answer.
#[derive(Deserialize)]
struct NewLink<'a> {
    reference_id: &'a str,
    amount: i64,
}

/// Remembers nothing: a link's id is its session's, and no link is ever paid as far as this one knows.
fn razorpay(request: &Message<'_>) -> String {
    let (method, target) = request.target();
    let path = target.strip_prefix("/v1/payment_links").unwrap_or("elsewhere");
    match (method, path) {
        ("POST", "") => match serde_json::from_slice::<NewLink<'_>>(request.body) {
            Ok(new) => link(new.reference_id, new.amount, "created"),
            Err(error) => json!({"error": {"description": error.to_string()}}).to_string(),
        },
        (_, "elsewhere") => json!({"entity": "collection", "count": 0, "items": []}).to_string(),
        _ => match path.strip_prefix("?reference_id=") {
            Some(reference) => {
                format!(r#"{{"payment_links":[{}]}}"#, link(reference, AMOUNT_MINOR, "created"))
            }
            None => {
                let status = if path.ends_with("/cancel") { "cancelled" } else { "created" };
                let id = path.trim_start_matches('/').trim_end_matches("/cancel");
                link(&id.replace("plink_", "chk_"), AMOUNT_MINOR, status)
            }
        },
    }
}

/// The id of a session's link.
pub fn link_id(session: &str) -> String {
    session.replace("chk_", "plink_")
}

fn link(reference: &str, amount: i64, status: &str) -> String {
    let id = link_id(reference);
    format!(
        r#"{{"id":"{id}","reference_id":"{reference}","amount":{amount},"amount_paid":0,"currency":"INR","status":"{status}","accept_partial":false,"short_url":"https://rzp.io/i/{id}","created_at":1795000000,"expire_by":0,"order_id":null,"payments":null,"notes":[],"user_id":"","customer":{{}}}}"#
    )
}

/// What endpoints received since the last look.
#[derive(Default)]
struct Tally {
    seen: HashSet<(String, String)>,
    all: usize,
    first: Option<Instant>,
    last: Option<Instant>,
    receipts: Vec<(String, i64)>,
}

/// What the receiver tells of it.
#[derive(Default, Deserialize, Serialize)]
pub struct Received {
    /// Requests.
    pub all: usize,
    /// Of them, different events at different endpoints.
    pub distinct: usize,
    /// From the first request to the last.
    pub lasted_us: u64,
    /// `webhook-id` of each request, and when it was read, in microseconds of Unix time; only when asked for.
    pub receipts: Vec<(String, i64)>,
}

fn receive(tally: &Mutex<Tally>, request: &Message<'_>) -> Option<String> {
    let mut tally = tally.lock().expect("nothing panics with it");
    match request.target() {
        ("GET", path) => {
            let Tally { all, ref seen, first, last, ref receipts } = *tally;
            let lasted = first.zip(last).map(|(first, last)| last - first).unwrap_or_default();
            let mut received =
                Received { all, distinct: seen.len(), lasted_us: micros(lasted), receipts: Vec::new() };
            if path == "/receipts" {
                received.receipts.clone_from(receipts);
            }
            serde_json::to_string(&received).ok()
        }
        ("DELETE", _) => {
            *tally = Tally::default();
            Some("{}".into())
        }
        (_, endpoint) => {
            let now = Utc::now();
            let id = request.header("webhook-id").unwrap_or_default();
            tally.seen.insert((endpoint.to_owned(), id.to_owned()));
            tally.all += 1;
            let instant = Instant::now();
            tally.first.get_or_insert(instant);
            tally.last = Some(instant);
            tally.receipts.push((id.to_owned(), now.timestamp_micros()));
            None
        }
    }
}

pub fn micros(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

async fn bare(listener: TcpListener, database_url: String, statement: String) -> anyhow::Result<()> {
    let pool = db::connect(&database_url.into(), POOL_SIZE)?;
    let statement: Arc<str> = statement.into();
    let read = async move |Path((environment, session)): Path<(Uuid, Uuid)>| {
        let query = sqlx::query(AssertSqlSafe(statement)).bind(environment).bind(session);
        let row = query.fetch_optional(&pool).await.ok().flatten().ok_or(StatusCode::NOT_FOUND)?;
        let status: String = row.try_get("checkout_status").map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
        Ok::<Json<Value>, StatusCode>(Json(json!({"id": session, "checkout_status": status})))
    };
    let router = Router::new().route("/{environment}/{session}", get(read));
    axum::serve(listener, router).await.context("the bare server")
}
