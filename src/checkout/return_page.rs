//! Where Razorpay sends the browser after a payment: verify, ask the provider once, send it on to the merchant.
//! The redirect alone never completes a session.

use askama::Template;
use axum::{
    Router,
    extract::{Path, State, rejection::PathRejection},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{Html, IntoResponse, Redirect, Response},
    routing::get,
};

use super::{
    model::Session,
    reconcile,
    session::{Cause, SessionId, Status},
    store, urls,
};
use crate::{
    app::App,
    http::{ApiError, Query},
    razorpay::signature::Callback,
    tenancy::{self, EnvironmentId},
};

/// Routes at the root: a browser's, not the API's.
pub fn router() -> Router<App> {
    Router::new().route("/return/{environment_id}/{id}", get(arrive))
}

#[derive(Template)]
#[template(path = "pay/status.html")]
struct StatusPage<'a> {
    title: &'a str,
    text: &'a str,
    nonce: String,
}

/// The session in the path; `None` for whatever cannot be one.
async fn find(
    app: &App,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<Option<Session>, ApiError> {
    let Ok(Path((environment, id))) = path else { return Ok(None) };
    let (Ok(environment), Ok(id)) = (environment.parse::<EnvironmentId>(), id.parse::<SessionId>()) else {
        return Ok(None);
    };
    Ok(store::find_any_scope(&app.pool, environment, id).await?)
}

async fn arrive(
    State(app): State<App>,
    path: Result<Path<(String, String)>, PathRejection>,
    callback: Result<Query<Callback>, ApiError>,
) -> Result<Response, ApiError> {
    let Some(session) = find(&app, path).await? else { return page(&app, &UNKNOWN, StatusCode::NOT_FOUND) };
    let id = session.id;
    // Without Razorpay's parameters somebody just looks at the page.
    let Ok(Query(callback)) = callback else { return page(&app, words(&session), StatusCode::OK) };
    let account = tenancy::connection_account(&app, session.scope, session.connection).await?;
    let about_this = callback.reference_id == id.to_string();
    if !about_this || !callback.verifies(&account.credentials.secret_key) {
        tracing::warn!(session.id = %id, "a redirect whose signature does not verify");
        return page(&app, &UNVERIFIED, StatusCode::BAD_REQUEST);
    }
    let (mut session, _) = reconcile::refresh(&app, session, Cause::Return).await?;
    if !session.state.status.is_terminal() {
        // The webhook may have been faster than this read.
        session = store::find(&app.pool, session.scope, id).await?.unwrap_or(session);
    }
    match destination(&session) {
        Some(url) => Ok(Redirect::to(&urls::with_session_id(url, &id.to_string())).into_response()),
        None => page(&app, words(&session), StatusCode::OK),
    }
}

/// A payment was made: a session that is still open is on its way to completed, and the merchant's page polls it.
fn destination(session: &Session) -> Option<&str> {
    match session.state.status {
        Status::Initiated | Status::Pending | Status::Completed => session.success_url.as_deref(),
        Status::Expired if session.cancelled_at.is_some() => {
            session.cancel_url.as_deref().or(session.failure_url.as_deref())
        }
        Status::Failed | Status::Expired => session.failure_url.as_deref(),
    }
}

/// What a page says: a title and a sentence.
type Words = (&'static str, &'static str);

const UNKNOWN: Words = ("This checkout does not exist", "Please go back to the merchant and start again.");
const UNVERIFIED: Words = (
    "This page could not be verified",
    "If you have paid, your payment is safe: the merchant is told by the payment provider.",
);

fn words(session: &Session) -> &'static Words {
    match session.state.status {
        Status::Completed => &("Payment received", "Thank you. You can close this page."),
        Status::Initiated | Status::Pending => {
            &("Waiting for the payment", "If you have paid, it is being confirmed. You can close this page.")
        }
        Status::Failed | Status::Expired => {
            &("This checkout has ended", "If you were charged, the full amount is returned to you.")
        }
    }
}

fn page(app: &App, &(title, text): &Words, status: StatusCode) -> Result<Response, ApiError> {
    let nonce = hex::encode(app.ids.bytes::<16>());
    let policy = format!(
        "default-src 'none'; style-src 'nonce-{nonce}'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    );
    let html = StatusPage { title, text, nonce }.render().map_err(ApiError::internal)?;
    let mut headers = HeaderMap::new();
    headers
        .insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_str(&policy).map_err(ApiError::internal)?);
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    Ok((status, headers, Html(html)).into_response())
}
