//! Routes.

use axum::Router;

use crate::app::App;

/// Routes under `/v1`.
pub fn router() -> Router<App> {
    Router::new()
}
