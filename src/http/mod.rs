//! HTTP in: the router and its layers, the error envelope, extractors, authentication, idempotency and rate limits.

mod auth;
mod error;
mod extract;
mod fields;
mod health;
pub mod idempotency;
mod layers;
mod rate_limit;
mod search;
mod server;
mod validate;

use axum::{Router, middleware::from_fn_with_state, routing::get};

pub use auth::Caller;
pub use error::{ApiError, ErrorCode, Violations};
pub use extract::{Body, IdPath, Named, Query, find_nul, read_body};
pub use fields::{check_length, check_name, given, optional_time, parse_time};
pub use idempotency::{Reserved, SweepIdempotencyKeys};
pub use search::{List, Search};
pub use server::{Bound, bind, serve};
pub use validate::{metadata_violations, page, page_limit};

use crate::app::App;

/// The whole API.
pub fn router(app: App) -> Router {
    let v1 = Router::new()
        .merge(crate::tenancy::api::router())
        .merge(crate::customers::api::router())
        .merge(crate::catalog::api::router())
        .merge(crate::checkout::api::router())
        .merge(crate::subscriptions::api::router())
        .merge(crate::invoices::api::router())
        .merge(crate::payments::api::router())
        .merge(crate::webhooks::api::router())
        // Inside the next layer, which knows the caller.
        .route_layer(from_fn_with_state(app.clone(), idempotency::once))
        .route_layer(from_fn_with_state(rate_limit::Gate::new(app.clone()), rate_limit::admit))
        // Razorpay has no key of ours, and is not held up.
        .merge(crate::inbox::api::router().with_state(app.on_reserved()));
    let routes = Router::new()
        .nest("/v1", v1)
        .merge(crate::checkout::return_page::router())
        .merge(crate::metrics::api::router())
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .fallback(error::unknown_route)
        .method_not_allowed_fallback(error::wrong_method)
        .with_state(app);
    layers::apply(routes)
}
