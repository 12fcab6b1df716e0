//! `GET /metrics`

use axum::{
    Router,
    extract::State,
    http::{HeaderName, header},
    routing::get,
};

use crate::app::App;

/// The route, outside `/v1`: no API key, and nothing in it that needs one. A proxy keeps it from the world.
pub fn router() -> Router<App> {
    Router::new().route("/metrics", get(show))
}

async fn show(State(app): State<App>) -> ([(HeaderName, &'static str); 1], String) {
    let text = app.metrics.render(&app).await;
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}
