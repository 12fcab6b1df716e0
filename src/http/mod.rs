//! HTTP in: the router and its layers, the error envelope, extractors, authentication, idempotency and rate limits.

mod answer;
mod auth;
mod error;
mod extract;
mod fields;
mod health;
pub mod idempotency;
mod layers;
pub mod openapi;
mod overload;
mod rate_limit;
mod search;
mod server;
mod unsupported;
mod validate;

use std::sync::OnceLock;

use axum::{Router, body::Bytes, middleware::from_fn_with_state};

pub use answer::{Accepted, Created, Message};
pub use auth::Caller;
pub use error::{ApiError, ErrorCode, Violations};
pub use extract::{Body, IdPath, Named, Query, find_nul, read_body};
pub use fields::{check_length, check_name, given, optional_time, parse_time};
pub use idempotency::{Reserved, SweepIdempotencyKeys, forget_answer_in};
pub use overload::{Overload, Precedence, Ticket, Turn};
pub use search::{Expand, List, Search};
pub use server::{Bound, bind, serve};
pub use validate::{log_limit, metadata_violations, page};

use openapi::ApiRouter;

use crate::app::App;

/// The whole API.
pub fn router(app: App) -> Router {
    let gate = rate_limit::Gate::new(app.clone());
    let guard = |keyed: ApiRouter<App>| {
        keyed
            // Inside the next layer, which knows the caller.
            .route_layer(from_fn_with_state(app.clone(), idempotency::once))
            // Outside of it: a create that is refused leaves no trace.
            .route_layer(from_fn_with_state(app.clone(), overload::shed))
            .route_layer(from_fn_with_state(gate.clone(), rate_limit::admit))
    };
    let unsupported = unsupported::router().route_layer(from_fn_with_state(gate.clone(), rate_limit::admit));
    let routes = openapi::into_router(described(guard))
        // Not described: nobody is to generate a client for what is refused.
        .nest("/v1", unsupported)
        .merge(openapi::page::router())
        .merge(crate::checkout::return_page::router())
        .merge(crate::metrics::api::router())
        .fallback(error::unknown_route)
        .method_not_allowed_fallback(error::wrong_method)
        .with_state(app);
    layers::apply(routes)
}

/// Everything that the description of the API has. `guard` stands before all that takes an API key.
fn described(guard: impl FnOnce(ApiRouter<App>) -> ApiRouter<App>) -> ApiRouter<App> {
    openapi::begin();
    let keyed = ApiRouter::new()
        .merge(crate::tenancy::api::router())
        .merge(crate::tenancy::key_api::router())
        .merge(crate::tenancy::environment_api::router())
        .merge(crate::tenancy::me_api::router())
        .merge(crate::tenancy::integration_api::router())
        .merge(crate::settings::api::router())
        .merge(crate::customers::api::router())
        .merge(crate::catalog::api::router())
        .merge(crate::checkout::api::router())
        .merge(crate::subscriptions::api::router())
        .merge(crate::invoices::api::router())
        .merge(crate::payments::api::router())
        .merge(crate::webhooks::api::router());
    // Razorpay has no key of ours, and is not held up.
    let v1 = guard(keyed).merge(crate::inbox::api::router());
    ApiRouter::new().nest("/v1", v1).merge(health::router())
}

/// The description of the API, as JSON: the same for every process of a version.
pub fn document() -> Bytes {
    static DOCUMENT: OnceLock<Bytes> = OnceLock::new();
    let describe = || openapi::describe(described(|keyed| keyed));
    DOCUMENT.get_or_init(|| format!("{:#}", describe()).into()).clone()
}
