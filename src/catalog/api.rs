//! `/v1/plans` and `/v1/prices`.

use super::{plan_api, price_api};
use crate::{app::App, http::openapi::ApiRouter};

/// Routes under `/v1`.
pub fn router() -> ApiRouter<App> {
    plan_api::router().merge(price_api::router())
}
