//! `/v1/plans` and `/v1/prices`.

use axum::Router;

use super::{plan_api, price_api};
use crate::app::App;

/// Routes under `/v1`.
pub fn router() -> Router<App> {
    plan_api::router().merge(price_api::router())
}
