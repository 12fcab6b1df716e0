//! The sandbox's own port: its listener, its connections, and what its handlers share.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use super::books::Books;
use super::{api, control, page};

/// What every handler and task of one sandbox shares.
pub(super) struct Shared {
    books: Mutex<Books>,
    pub http: reqwest::Client,
    pub shutdown: CancellationToken,
    pub tasks: TaskTracker,
}

impl Shared {
    pub fn new(books: Books, http: reqwest::Client) -> Self {
        Self { books: Mutex::new(books), http, shutdown: CancellationToken::new(), tasks: TaskTracker::new() }
    }

    /// The state. Never held across an await.
    pub fn books(&self) -> MutexGuard<'_, Books> {
        // A panic under the lock fails its own request; tests should see that one, not a poisoned lock.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The connection that a request came on.
#[derive(Clone)]
pub(super) struct Connection {
    pub peer: SocketAddr,
    /// Cancelled by a handler that wants the connection closed without an answer.
    pub close: CancellationToken,
}

pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let router = Router::new()
        .merge(api::routes())
        .merge(page::routes())
        .merge(control::routes())
        .fallback(api::not_found)
        .method_not_allowed_fallback(api::not_found)
        .with_state(Arc::clone(&shared));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shared.shutdown.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                shared.tasks.spawn(serve_connection(stream, peer, router.clone(), shared.shutdown.clone()));
            }
            // Out of file descriptors, most likely: connections that end will free some.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// Serves one connection. Its requests are dropped, hanging ones included, when the client disconnects, when a
/// fault closes the connection, and when the sandbox shuts down.
async fn serve_connection(stream: TcpStream, peer: SocketAddr, router: Router, shutdown: CancellationToken) {
    let connection = Connection { peer, close: CancellationToken::new() };
    let close = connection.close.clone();
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(connection.clone());
        answer(router.clone(), request.map(Body::new))
    });
    let http = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // An error is the client's disconnect.
        _ = http => {}
        () = close.cancelled() => {}
        () = shutdown.cancelled() => {}
    }
}

async fn answer(router: Router, request: Request) -> Result<Response, Infallible> {
    router.oneshot(request).await
}
