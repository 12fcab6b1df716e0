//! `/v1/refunds`.

use axum::{Json, extract::State};
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    RefundId, RefundStatus, retry,
    store::{self, RefundFilter},
    view::RefundResponse,
};
use crate::{
    app::App,
    http::{
        ApiError, Caller, IdPath, List, Named, Query, Reserved, Violations,
        openapi::{ApiRouter, doc, get_with, post_with},
        optional_time, page,
    },
    invoices::InvoiceId,
    kit::{ids, page::Page},
    payments::PaymentId,
};

/// Routes under `/v1`.
pub fn router() -> ApiRouter<App> {
    ApiRouter::new()
        .api_route("/refunds", get_with(list, doc("list_refunds", "List refunds", &[])))
        .api_route("/refunds/{id}", get_with(read, doc("get_refund", "Get a refund", &[])))
        .api_route(
            "/refunds/{id}/retry",
            post_with(
                retry_now,
                doc(
                    "retry_refund",
                    "Try a failed refund again",
                    &[(400, "the refund is not waiting to be tried again")],
                ),
            ),
        )
}

async fn read(
    caller: Caller,
    State(app): State<App>,
    IdPath(id): IdPath<RefundId>,
) -> Result<Json<RefundResponse>, ApiError> {
    let found = store::find_refund(&app.pool, caller.scope, id).await?;
    let refund = found.ok_or_else(|| ApiError::not_found(RefundId::NOUN))?;
    Ok(Json(RefundResponse::new(&refund)))
}

async fn retry_now(
    caller: Caller,
    State(app): State<App>,
    reserved: Reserved,
    IdPath(id): IdPath<RefundId>,
) -> Result<Json<RefundResponse>, ApiError> {
    let refund = retry::retry(&app, caller.scope, id, reserved).await?;
    Ok(Json(RefundResponse::new(&refund)))
}

#[derive(Deserialize, JsonSchema)]
struct ListQuery {
    status: Option<List>,
    /// The compatible API's name for `status`.
    refund_statuses: Option<List>,
    checkout_session_id: Option<String>,
    payment_ids: Option<List>,
    invoice_ids: Option<List>,
    #[serde(default, deserialize_with = "optional_time")]
    start_time: Option<DateTime<Utc>>,
    #[serde(default, deserialize_with = "optional_time")]
    end_time: Option<DateTime<Utc>>,
    limit: Option<i64>,
    offset: Option<i64>,
}

async fn list(
    caller: Caller,
    State(app): State<App>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<RefundResponse>>, ApiError> {
    let page = page(query.limit, query.offset)?;
    let mut violations = Violations::default();
    let statuses: Option<Vec<RefundStatus>> = match (query.status, query.refund_statuses) {
        (Some(status), _) => status.terms("status", &mut violations),
        (None, Some(statuses)) => statuses.terms("refund_statuses", &mut violations),
        (None, None) => None,
    };
    violations.finish()?;
    let session = query.checkout_session_id.map(|id| ids::decode("chk", &id));
    // A session that cannot be has no refunds.
    let session = match session {
        Some(None) => return Ok(Json(Page::new(Vec::new(), 0, page))),
        Some(found) => found,
        None => None,
    };
    let filter = RefundFilter {
        statuses: statuses
            .map(|statuses| statuses.into_iter().map(|status| status.as_str().to_owned()).collect()),
        session,
        payments: query.payment_ids.and_then(List::ids::<PaymentId>),
        invoices: query.invoice_ids.and_then(List::ids::<InvoiceId>),
        created_from: query.start_time,
        created_to: query.end_time,
    };
    let (refunds, total) = store::list_refunds(&app.pool, caller.scope, &filter, page).await?;
    Ok(Json(Page::new(refunds.iter().map(RefundResponse::new).collect(), total, page)))
}
