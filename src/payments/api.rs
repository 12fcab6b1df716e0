//! `/v1/payments`.

use std::collections::HashMap;

use axum::{Json, extract::State};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    Attempt, DestinationType, Payment, PaymentGateway, PaymentId, PaymentMethodType, refunds, store,
    update_api, view::PaymentResponse,
};
use crate::{
    app::App,
    db::{self, search::Column},
    http::{
        ApiError, Caller, IdPath, List, Named, Query, Search,
        openapi::{ApiRouter, doc, get_with},
    },
    invoices::{InvoiceId, PaymentStatus},
    kit::{money::Currency, page::Page},
};

/// Routes under `/v1`.
pub fn router() -> ApiRouter<App> {
    ApiRouter::new()
        .api_route("/payments", get_with(list, doc("list_payments", "List payments", &[])))
        .api_route(
            "/payments/{id}",
            get_with(read, doc("get_payment", "Get a payment with its attempts", &[])),
        )
        .merge(update_api::router())
        .merge(refunds::api::router())
}

async fn read(
    caller: Caller,
    State(app): State<App>,
    IdPath(id): IdPath<PaymentId>,
) -> Result<Json<PaymentResponse>, ApiError> {
    Ok(Json(load_response(&app, caller, id).await?))
}

/// A payment as its caller reads it; 404 unknown.
pub async fn load_response(app: &App, caller: Caller, id: PaymentId) -> Result<PaymentResponse, ApiError> {
    let found = store::find_payment(&app.pool, caller.scope, id).await?;
    Ok(show(app, caller, found.ok_or_else(|| ApiError::not_found(PaymentId::NOUN))?).await?)
}

/// A payment with what was tried on it.
pub(super) async fn show(app: &App, caller: Caller, payment: Payment) -> Result<PaymentResponse, db::Error> {
    let attempts = store::list_attempts(&app.pool, caller.scope, &[payment.id]).await?;
    Ok(PaymentResponse::new(caller, payment, attempts))
}

#[derive(Deserialize, JsonSchema)]
struct ListQuery {
    payment_ids: Option<List>,
    destination_type: Option<DestinationType>,
    destination_id: Option<List>,
    payment_method_type: Option<PaymentMethodType>,
    payment_status: Option<PaymentStatus>,
    payment_gateway: Option<PaymentGateway>,
    gateway_payment_id: Option<String>,
    gateway_tracking_id: Option<String>,
    currency: Option<String>,
    #[serde(flatten)]
    search: Search,
}

const COLUMNS: &[Column] = &[
    Column::id("id", "pay"),
    Column::text("payment_status"),
    Column::text("payment_gateway"),
    Column::text("gateway_payment_id"),
    Column::text("gateway_tracking_id"),
    Column::text("currency"),
    Column::time("succeeded_at"),
    Column::time("failed_at"),
    Column::time("created_at"),
    Column::time("updated_at"),
];

async fn list(
    caller: Caller,
    State(app): State<App>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<PaymentResponse>>, ApiError> {
    let criteria = query.search.parse(COLUMNS)?;
    let currency = query.currency.map(|code| code.parse::<Currency>()).transpose();
    let wanted = store::WantedPayments {
        ids: query.payment_ids.and_then(List::ids::<PaymentId>),
        destination_type: query.destination_type,
        invoice_ids: query.destination_id.and_then(List::ids::<InvoiceId>),
        method: query.payment_method_type,
        payment_status: query.payment_status,
        gateway: query.payment_gateway,
        gateway_payment_id: query.gateway_payment_id,
        gateway_tracking_id: query.gateway_tracking_id,
        currency: currency.map_err(|error| ApiError::validation("currency", &error.to_string()))?,
    };
    let page = store::search_payments(&app.pool, caller.scope, wanted, criteria).await?;
    let ids: Vec<PaymentId> = page.items.iter().map(|payment| payment.id).collect();
    let mut attempts = attempts_of(&app, caller, &ids).await?;
    Ok(Json(page.map(|payment| {
        let attempts = attempts.remove(&payment.id).unwrap_or_default();
        PaymentResponse::new(caller, payment, attempts)
    })))
}

async fn attempts_of(
    app: &App,
    caller: Caller,
    payments: &[PaymentId],
) -> Result<HashMap<PaymentId, Vec<Attempt>>, db::Error> {
    let mut by_payment: HashMap<_, Vec<_>> = HashMap::new();
    for attempt in store::list_attempts(&app.pool, caller.scope, payments).await? {
        by_payment.entry(attempt.payment).or_default().push(attempt);
    }
    Ok(by_payment)
}
