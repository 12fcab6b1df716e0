//! `/v1/refunds`.

use axum::{Json, extract::State};
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    RefundId, RefundStatus, retry,
    store::{self, RefundFilter},
    view::{DESTINATION, RefundResponse},
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
    /// No refund is of a credit note: finds none.
    credit_note_ids: Option<List>,
    /// All are `GATEWAY`.
    refund_destinations: Option<List>,
    /// All are at `razorpay`.
    gateway: Option<String>,
    /// Only those whose money is back: `SUCCEEDED`.
    only_settled: Option<bool>,
    #[serde(default, deserialize_with = "optional_time")]
    start_time: Option<DateTime<Utc>>,
    #[serde(default, deserialize_with = "optional_time")]
    end_time: Option<DateTime<Utc>>,
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<i64>,
    #[schemars(range(min = 0))]
    offset: Option<i64>,
}

impl ListQuery {
    /// Whether it asks for what no refund is here: all are of payments at Razorpay and go back the same way.
    fn asks_for_none(&self) -> bool {
        self.credit_note_ids.as_ref().is_some_and(List::asks)
            || self.refund_destinations.as_ref().is_some_and(|words| words.lacks(DESTINATION))
            || self.gateway.as_deref().is_some_and(|gateway| !gateway.eq_ignore_ascii_case("razorpay"))
    }
}

/// The statuses that a list is narrowed to; an empty list matches nothing.
fn wanted_statuses(
    status: Option<List>,
    refund_statuses: Option<List>,
    only_settled: Option<bool>,
) -> Result<Option<Vec<RefundStatus>>, ApiError> {
    let mut violations = Violations::default();
    let mut read = |field: &str, list: List| {
        let asks = list.asks();
        // A word of the compatible API that no refund comes to here.
        list.except("CANCELLED").terms(field, &mut violations).or(asks.then(Vec::new))
    };
    let wanted: Option<Vec<RefundStatus>> = match (status, refund_statuses) {
        (Some(status), _) => read("status", status),
        (None, Some(statuses)) => read("refund_statuses", statuses),
        (None, None) => None,
    };
    violations.finish()?;
    if only_settled != Some(true) {
        return Ok(wanted);
    }
    let mut wanted = wanted.unwrap_or_else(|| vec![RefundStatus::Succeeded]);
    wanted.retain(|status| *status == RefundStatus::Succeeded);
    Ok(Some(wanted))
}

async fn list(
    caller: Caller,
    State(app): State<App>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<RefundResponse>>, ApiError> {
    let page = page(query.limit, query.offset)?;
    let none = query.asks_for_none();
    let statuses = wanted_statuses(query.status, query.refund_statuses, query.only_settled)?;
    if none {
        return Ok(Json(Page::new(Vec::new(), 0, page)));
    }
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
