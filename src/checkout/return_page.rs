//! Routes.

use axum::Router;

use crate::app::App;

/// Routes at the root.
pub fn router() -> Router<App> {
    Router::new()
}
