//! `POST /v1/payments/{id}/process`: is it paid by now? Here and not with payments, because it asks about the session.

use axum::{Json, extract::State};

use super::{reconcile, session::Cause, store};
use crate::{
    app::App,
    http::{
        ApiError, Caller, IdPath,
        openapi::{ApiRouter, doc, post_with},
    },
    payments::{self, PaymentId, PaymentResponse},
};

/// Routes under `/v1`.
pub fn router() -> ApiRouter<App> {
    ApiRouter::new().api_route(
        "/payments/{id}/process",
        post_with(process, doc("process_payment", "Ask whether a payment was made", &[])),
    )
}

/// Asks Razorpay about the link of an open session, together with everybody who polls it, and answers with the payment
/// as it is then. One whose session has ended is answered as it is.
async fn process(
    caller: Caller,
    State(app): State<App>,
    IdPath(id): IdPath<PaymentId>,
) -> Result<Json<PaymentResponse>, ApiError> {
    let payment = payments::load_response(&app, caller, id).await?;
    let Some(session) = store::find_open_by_payment(&app.pool, caller.scope, id).await? else {
        return Ok(Json(payment));
    };
    reconcile::refresh(&app, session, Cause::Poll).await?;
    Ok(Json(payments::load_response(&app, caller, id).await?))
}
