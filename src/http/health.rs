//! `/healthz`: the process runs. `/readyz`: it can do its work.

use axum::{Json, extract::State};
use serde_json::{Value, json};

use super::ApiError;
use crate::{app::App, db};

/// The process answers.
pub async fn healthz() -> Json<Value> {
    Json(json!({"status": "ok"}))
}

/// The database answers and is migrated, and this machine's clock agrees with the database's.
pub async fn readyz(State(app): State<App>) -> Result<Json<Value>, ApiError> {
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
        _ => Ok(Json(json!({"status": "ready"}))),
    }
}
