//! `/healthz`: the process runs. `/readyz`: it can do its work.

use axum::{Json, extract::State};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    ApiError,
    openapi::{ApiRouter, doc, get_with},
};
use crate::{app::App, db};

/// Routes at the root, for those who watch the process.
pub fn router() -> ApiRouter<App> {
    ApiRouter::new()
        .api_route("/healthz", get_with(healthz, doc("healthz", "Whether the process answers", &[])))
        .api_route("/readyz", get_with(readyz, doc("readyz", "Whether it can do its work", &[])))
}

/// All is well.
#[derive(Debug, Serialize, JsonSchema)]
struct Health {
    status: &'static str,
}

/// The process answers.
async fn healthz() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// The database answers and is migrated, and this machine's clock agrees with the database's.
async fn readyz(State(app): State<App>) -> Result<Json<Health>, ApiError> {
    let unreachable = || ApiError::unavailable("the database is unreachable or not migrated", 1);
    if !db::is_ready(&app.pool).await.unwrap_or(false) {
        return Err(unreachable());
    }
    let skew = db::clock::measure_skew(&app.pool, &app.clock).await.map_err(|_| unreachable())?;
    match skew {
        Some(skew) if skew.abs() > db::clock::MOST_SKEW => {
            let message = "this machine's clock differs from the database's by more than 2 seconds";
            let (reason, skew_ms) = ("clock_skewed", skew.num_milliseconds());
            Err(ApiError::unavailable(message, 10).detail("reason", reason).detail("skew_ms", skew_ms))
        }
        _ => Ok(Json(Health { status: "ready" })),
    }
}
