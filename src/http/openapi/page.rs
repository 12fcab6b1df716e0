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
        let hashes: Vec<String> = scripts(&html)
            .map(|script| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(script))))
            .collect();
        let policy = format!(
            "default-src 'none'; script-src {}; style-src 'unsafe-inline'; img-src data:; connect-src 'self'; \
             frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
            hashes.join(" ")
        );
        Page { html: html.into(), policy }
    })
}

/// The texts between the tags, as a browser cuts them: a script may speak of a `<script>`.
fn scripts(html: &str) -> impl Iterator<Item = &str> {
    let mut rest = html;
    std::iter::from_fn(move || {
        let (script, after) = rest.split_once("<script>")?.1.split_once("</script>")?;
        rest = after;
        Some(script)
    })
}

async fn docs() -> impl IntoResponse {
    let page = page();
    let headers: [(HeaderName, &str); 2] =
        [(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CONTENT_SECURITY_POLICY, &page.policy)];
    (headers, page.html.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_are_cut_as_a_browser_cuts_them() {
        let html = "<p><script>a('<script>')</script><script>b()</script></p>";
        assert_eq!(scripts(html).collect::<Vec<_>>(), ["a('<script>')", "b()"]);
    }

    #[test]
    fn the_policy_lets_the_pages_scripts_run() {
        let html = String::from_utf8(page().html.to_vec()).expect("text");
        let bundle = html.find("<script>").expect("a script") + "<script>".len();
        let end = bundle + html[bundle..].find("</script>").expect("its end");
        let hash = STANDARD.encode(Sha256::digest(&html[bundle..end]));
        assert!(page().policy.contains(&hash), "{}", page().policy);
        assert_eq!(page().policy.matches("sha256-").count(), html.matches("</script>").count());
    }
}
