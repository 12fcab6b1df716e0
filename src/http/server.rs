//! The listener: hyper with a header-read timeout, which plain `axum::serve` does not have.

use std::{future::Future, io, net::SocketAddr, pin::pin, time::Duration};

use axum::{
    Router,
    extract::{ConnectInfo, Request},
};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto::Builder, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::net::TcpListener;
use tower::ServiceExt;

/// A client that has not sent its headers by then is cut off (slow loris).
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Requests under way at shutdown get this long.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(12);

/// A listening socket and the address it really has.
pub struct Bound {
    /// The socket.
    pub listener: TcpListener,
    /// Its address, with the port the system chose for port 0.
    pub addr: SocketAddr,
}

/// Listens on `addr`.
pub async fn bind(addr: SocketAddr) -> io::Result<Bound> {
    let listener = TcpListener::bind(addr).await?;
    let addr = listener.local_addr()?;
    Ok(Bound { listener, addr })
}

/// Serves `router` until `shutdown`, then lets requests under way finish.
#[expect(clippy::disallowed_methods, reason = "a task per connection; shutdown waits for them below")]
pub async fn serve(bound: Bound, router: Router, shutdown: impl Future<Output = ()>) {
    // HTTP/1 only: to tell the versions apart, a connection is read without any timeout, and a client that
    // sends one byte could stay for ever. HTTP/2 ends at the proxy in front, which speaks TLS.
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_READ_TIMEOUT);
    let graceful = GracefulShutdown::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let (stream, peer) = tokio::select! {
            accepted = bound.listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors: wait for some to come back instead of spinning.
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
            () = &mut shutdown => break,
        };
        let _ = stream.set_nodelay(true);
        // Whom the limits know a client without a key by.
        let routes = router.clone().map_request(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(ConnectInfo(peer));
            request
        });
        let service = TowerToHyperService::new(routes);
        let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
        let watched = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = watched.await {
                tracing::debug!(%error, "connection ended");
            }
        });
    }
    drop(bound.listener);
    tokio::select! {
        () = graceful.shutdown() => {}
        () = tokio::time::sleep(DRAIN_TIMEOUT) => tracing::warn!("requests were still open at shutdown"),
    }
}
