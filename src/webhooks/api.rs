//! Routes of outgoing webhooks.

use super::{delivery_api, endpoint_api, event_api};
use crate::{app::App, http::openapi::ApiRouter};

/// Routes under `/v1`.
pub fn router() -> ApiRouter<App> {
    endpoint_api::router().merge(event_api::router()).merge(delivery_api::router())
}
