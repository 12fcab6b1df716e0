//! Routes of outgoing webhooks.

use axum::Router;

use super::{delivery_api, endpoint_api, event_api};
use crate::app::App;

/// Routes under `/v1`.
pub fn router() -> Router<App> {
    endpoint_api::router().merge(event_api::router()).merge(delivery_api::router())
}
