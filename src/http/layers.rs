//! What happens to every request before and after its handler.

use std::{any::Any, time::Duration};

use axum::{
    Router,
    extract::Request,
    http::{HeaderName, HeaderValue, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use tower::ServiceBuilder;
use tower_http::{catch_panic::CatchPanicLayer, set_header::SetResponseHeaderLayer, trace::TraceLayer};
use tracing::Instrument;

use super::ApiError;

/// A request that takes longer is answered 503; its work goes on to its end. Longer than the longest
/// `?wait=` and than the provider's budget.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(40);

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Wraps `routes` in the layers, outermost last.
pub fn apply(routes: Router) -> Router {
    let headers = ServiceBuilder::new()
        .layer(default_header(header::CACHE_CONTROL, "no-store"))
        .layer(default_header(header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .layer(default_header(header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"));
    let trace = TraceLayer::new_for_http()
        .make_span_with(|request: &Request| {
            tracing::info_span!(
                "request",
                http.method = %request.method(),
                // The path only: a query may carry signatures.
                http.path = request.uri().path(),
                request.id = request.headers().get(&REQUEST_ID).and_then(|id| id.to_str().ok()),
                environment.id = tracing::field::Empty,
            )
        })
        .on_request(())
        .on_response(|response: &Response, latency: Duration, _: &tracing::Span| {
            let elapsed_ms = u64::try_from(latency.as_millis()).unwrap_or(u64::MAX);
            tracing::info!(http.status = response.status().as_u16(), elapsed_ms, "answered");
        })
        .on_failure(());
    routes
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn(detach))
        .layer(trace)
        .layer(headers)
        .layer(middleware::from_fn(request_id))
}

fn default_header(name: HeaderName, value: &'static str) -> SetResponseHeaderLayer<HeaderValue> {
    SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value))
}

/// Takes the caller's X-Request-ID when it is sane, else makes one; echoes it.
async fn request_id(mut request: Request, next: Next) -> Response {
    let sane = |id: &HeaderValue| {
        let bytes = id.as_bytes();
        (1..=128).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic)
    };
    let id = request.headers().get(&REQUEST_ID).filter(|id| sane(id)).cloned().unwrap_or_else(|| {
        let random = format!("req_{:032x}", rand::random::<u128>());
        HeaderValue::from_str(&random).expect("hexadecimal digits are a valid header")
    });
    request.headers_mut().insert(REQUEST_ID, id.clone());
    let mut response = next.run(request).await;
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

/// Runs the handler in a task of its own: when the client goes away or the time limit passes, the
/// handler still comes to its end. A database future that is dropped half-way can take another request's
/// write with it (docs/adr/0003).
#[expect(
    clippy::disallowed_methods,
    reason = "this is the layer that the rule points to; no connection is held here"
)]
async fn detach(request: Request, next: Next) -> Response {
    let work = tokio::spawn(next.run(request).instrument(tracing::Span::current()));
    match tokio::time::timeout(REQUEST_TIMEOUT, work).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => ApiError::internal(error).into_response(),
        Err(_) => {
            ApiError::unavailable("the request took too long; it may still take effect", 2).into_response()
        }
    }
}

fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let text = panic
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default();
    ApiError::internal(anyhow::anyhow!("panic: {text}")).into_response()
}
