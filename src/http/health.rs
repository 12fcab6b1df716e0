//! `/healthz`: the process runs. `/readyz`: it can do its work.

use axum::{Json, extract::State};
use serde_json::{Value, json};

use super::ApiError;
use crate::{app::App, db};

/// The process answers.
pub async fn healthz() -> Json<Value> {
    Json(json!({"status": "ok"}))
}

/// The database answers and is migrated.
pub async fn readyz(State(app): State<App>) -> Result<Json<Value>, ApiError> {
    if db::is_ready(&app.pool).await.unwrap_or(false) {
        Ok(Json(json!({"status": "ready"})))
    } else {
        Err(ApiError::unavailable("the database is unreachable or not migrated", 1))
    }
}
