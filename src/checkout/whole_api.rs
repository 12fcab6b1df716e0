//! `GET /v1/subscriptions/{id}` and `GET /v1/invoices/{id}`: each with what it belongs to. Here and not in their slices,
//! because the session that drafted them is shown too.

use axum::{Json, extract::State};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    model::{Session, SessionResponse},
    store,
};
use crate::{
    app::App,
    db,
    http::{
        ApiError, Caller, Expand, IdPath, Query,
        openapi::{ApiRouter, doc, get_with},
    },
    invoices::{self, InvoiceId, InvoiceResponse},
    subscriptions::{self, SubscriptionId, SubscriptionResponse},
};

/// Routes under `/v1`.
pub fn router() -> ApiRouter<App> {
    ApiRouter::new()
        .api_route(
            "/subscriptions/{id}",
            get_with(read_subscription, doc("get_subscription", "Get a subscription", &[])),
        )
        .api_route("/invoices/{id}", get_with(read_invoice, doc("get_invoice", "Get an invoice", &[])))
}

/// A subscription with its lines, plan and customer, and what it came from.
#[derive(Debug, Serialize, JsonSchema)]
struct WholeSubscription {
    #[serde(flatten)]
    subscription: SubscriptionResponse,
    /// The newest, without its lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    latest_invoice: Option<InvoiceResponse>,
    /// What drafted it, as it was recorded last.
    #[serde(skip_serializing_if = "Option::is_none")]
    checkout_session: Option<SessionResponse>,
}

async fn read_subscription(
    caller: Caller,
    State(app): State<App>,
    IdPath(id): IdPath<SubscriptionId>,
) -> Result<Json<WholeSubscription>, ApiError> {
    let subscription = subscriptions::load_response(&app, caller, id).await?;
    let latest_invoice = invoices::find_latest_response(&app, caller, id).await?;
    let checkout_session = session_of(&app, caller, id).await?;
    Ok(Json(WholeSubscription { subscription, latest_invoice, checkout_session }))
}

/// An invoice with its lines and customer, and what it came from.
#[derive(Debug, Serialize, JsonSchema)]
struct WholeInvoice {
    #[serde(flatten)]
    invoice: InvoiceResponse,
    /// With `expand=subscription`.
    #[serde(skip_serializing_if = "Option::is_none")]
    subscription: Option<SubscriptionResponse>,
    /// What drafted it, as it was recorded last.
    #[serde(skip_serializing_if = "Option::is_none")]
    checkout_session: Option<SessionResponse>,
}

async fn read_invoice(
    caller: Caller,
    State(app): State<App>,
    IdPath(id): IdPath<InvoiceId>,
    Query(expand): Query<Expand>,
) -> Result<Json<WholeInvoice>, ApiError> {
    let invoice = invoices::load_response(&app, caller, id).await?;
    let subscription = if expand.names("subscription") {
        Some(subscriptions::load_response(&app, caller, invoice.subscription_id()).await?)
    } else {
        None
    };
    let checkout_session = session_of(&app, caller, invoice.subscription_id()).await?;
    Ok(Json(WholeInvoice { invoice, subscription, checkout_session }))
}

/// Not checked with the provider: who wants to know reads the session.
async fn session_of(
    app: &App,
    caller: Caller,
    subscription: SubscriptionId,
) -> Result<Option<SessionResponse>, db::Error> {
    let found = store::find_by_subscription(&app.pool, caller.scope, subscription).await?;
    Ok(found.map(|session: Session| SessionResponse::new(session, app.clock.now(), true)))
}
