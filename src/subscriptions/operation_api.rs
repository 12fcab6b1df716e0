//! `/v1/subscriptions/{id}/…`: what can be done with a subscription.

use axum::{Json, extract::State};
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    CancellationType, SubscriptionId, SubscriptionStatus,
    cancel::{self, Cancellation, Wish},
    draft,
    view::SubscriptionResponse,
};
use crate::{
    app::App,
    http::{
        ApiError, Body, Caller, IdPath, Reserved, Violations, check_length,
        openapi::{ApiRouter, doc, post_with},
        optional_time, parse_time,
    },
};

/// Routes under `/v1`.
pub fn router() -> ApiRouter<App> {
    let cancelled = [(400, "a field breaks a rule, it is cancelled, or its checkout decides about it")];
    let activated = [(400, "start_date is missing, it is not a draft, or its checkout decides about it")];
    ApiRouter::new()
        .api_route(
            "/subscriptions/{id}/cancel",
            post_with(cancel, doc("cancel_subscription", "Cancel a subscription, now or later", &cancelled)),
        )
        .api_route(
            "/subscriptions/{id}/activate",
            post_with(activate, doc("activate_subscription", "Activate a draft subscription", &activated)),
        )
}

/// How a subscription is to end.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "CancelSubscriptionRequest")]
struct CancelRequest {
    /// `immediate`, `end_of_period` or `scheduled_date`.
    cancellation_type: CancellationType,
    /// Required for `scheduled_date`, which may have passed; for `immediate` now or earlier; else absent.
    #[serde(default, deserialize_with = "optional_time")]
    cancel_at: Option<DateTime<Utc>>,
    /// `skip`, which is the default: no invoice is made.
    #[schemars(extend("enum" = ["skip", null]))]
    cancel_immediately_invoice_policy: Option<String>,
    /// `none`, which is the default: nothing is credited or charged.
    #[schemars(extend("enum" = ["none", null]))]
    proration_behavior: Option<String>,
    /// Why, in the merchant's words; at most 500 characters.
    #[schemars(length(max = 500))]
    reason: Option<String>,
}

const MAX_REASON: usize = 500;

impl CancelRequest {
    fn parse(self, now: DateTime<Utc>) -> Result<Wish, ApiError> {
        let mut violations = Violations::default();
        match (self.cancellation_type, self.cancel_at) {
            (CancellationType::Immediate, Some(time)) if time > now => {
                violations.add("cancel_at", "must not be in the future with immediate: use scheduled_date");
            }
            (CancellationType::EndOfPeriod, Some(_)) => {
                violations.add("cancel_at", "must be absent with end_of_period: the period's end is taken");
            }
            (CancellationType::ScheduledDate, None) => {
                violations.add("cancel_at", "is required with scheduled_date");
            }
            _ => {}
        }
        if let Some(policy) = &self.cancel_immediately_invoice_policy {
            let rule = if policy == "generate_invoice" {
                "must be skip: invoices at a cancellation are not supported"
            } else {
                "must be skip"
            };
            violations.require(policy == "skip", "cancel_immediately_invoice_policy", rule);
        }
        if let Some(behavior) = &self.proration_behavior {
            let rule = if behavior == "create_prorations" {
                "must be none: prorations are not supported"
            } else {
                "must be none"
            };
            violations.require(behavior == "none", "proration_behavior", rule);
        }
        check_length(&mut violations, "reason", self.reason.as_deref(), MAX_REASON);
        violations.finish()?;
        let reason = self.reason.filter(|reason| !reason.is_empty());
        Ok(Wish { kind: self.cancellation_type, cancel_at: self.cancel_at, reason })
    }
}

/// A cancellation, carried out or planned.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "CancelSubscriptionResponse")]
struct CancelResponse {
    subscription_id: SubscriptionId,
    /// As it is now: `cancelled`, or `active` until `effective_date`.
    status: SubscriptionStatus,
    cancellation_type: CancellationType,
    /// When the subscription ends, or ended.
    effective_date: DateTime<Utc>,
    /// When the request was carried out.
    processed_at: DateTime<Utc>,
    message: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Always empty: nothing is prorated.
    proration_details: [(); 0],
    /// Always `"0"`: nothing is credited. Decimal string of major units.
    total_credit_amount: &'static str,
}

impl CancelResponse {
    fn new(cancellation_type: CancellationType, done: Cancellation) -> Self {
        let status = done.subscription.subscription_status;
        Self {
            subscription_id: done.subscription.id,
            status,
            cancellation_type,
            effective_date: done.effective_at,
            processed_at: done.processed_at,
            message: if status == SubscriptionStatus::Cancelled {
                "subscription cancelled"
            } else {
                "subscription will be cancelled on its effective date"
            },
            reason: done.subscription.cancellation_reason,
            proration_details: [],
            total_credit_amount: "0",
        }
    }
}

async fn cancel(
    caller: Caller,
    State(app): State<App>,
    IdPath(id): IdPath<SubscriptionId>,
    reserved: Reserved,
    Body(request): Body<CancelRequest>,
) -> Result<Json<CancelResponse>, ApiError> {
    let wish = request.parse(app.clock.now())?;
    let kind = wish.kind;
    let done = cancel::cancel(&app, caller.scope, id, wish, reserved).await?;
    Ok(Json(CancelResponse::new(kind, done)))
}

/// When a draft is to start.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "ActivateSubscriptionRequest")]
struct ActivateRequest {
    #[schemars(with = "DateTime<Utc>")]
    start_date: String,
}

/// Refuses always: drafts come from checkouts only, and nothing is active that is not paid.
async fn activate(
    caller: Caller,
    State(app): State<App>,
    IdPath(id): IdPath<SubscriptionId>,
    Body(request): Body<ActivateRequest>,
) -> Result<Json<SubscriptionResponse>, ApiError> {
    if parse_time(&request.start_date).is_none() {
        return Err(ApiError::validation("start_date", "must be an RFC 3339 date and time"));
    }
    let subscription = draft::refuse_draft(&app, caller.scope, id, "paying for it activates it").await?;
    if subscription.subscription_status == SubscriptionStatus::Cancelled {
        return Err(cancel::already_cancelled());
    }
    Err(ApiError::invalid_operation("the subscription is active already")
        .detail("reason", "subscription_active"))
}
