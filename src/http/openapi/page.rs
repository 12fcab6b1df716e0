//! `/openapi.json` and `/docs`: the reference, by Swagger UI, which is part of the binary and loads nothing else.

use std::sync::OnceLock;

use aide::swagger::Swagger;
use axum::{
    Router,
    body::Bytes,
    http::{HeaderName, header},
    response::IntoResponse,
    routing::get,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha256};

use super::super::document;

/// Routes at the root, for anybody: the description has no secrets.
pub fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new().route("/openapi.json", get(json)).route("/docs", get(docs))
}

async fn json() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], document())
}

struct Page {
    html: Bytes,
    policy: String,
}

/// The page has its scripts inside; the policy lets exactly these run.
fn page() -> &'static Page {
    static PAGE: OnceLock<Page> = OnceLock::new();
    PAGE.get_or_init(|| {
        let html = Swagger::new("/openapi.json").with_title("checkoutd API").html();
        let hashes: Vec<String> = html
            .split("<script>")
            .skip(1)
            .filter_map(|rest| rest.split_once("</script>"))
            .map(|(script, _)| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(script))))
            .collect();
        let policy = format!(
            "default-src 'none'; script-src {}; style-src 'unsafe-inline'; img-src data:; connect-src 'self'; \
             frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
            hashes.join(" ")
        );
        Page { html: html.into(), policy }
    })
}

async fn docs() -> impl IntoResponse {
    let page = page();
    let headers: [(HeaderName, &str); 2] =
        [(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CONTENT_SECURITY_POLICY, &page.policy)];
    (headers, page.html.clone())
}
