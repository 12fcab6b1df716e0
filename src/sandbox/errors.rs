//! Razorpay's error envelopes. Three services answer in three shapes; a client must read all of them.

use serde::Serialize;
use serde_json::{Value, json};

use super::wire::Reply;

const BAD_REQUEST: &str = "BAD_REQUEST_ERROR";

/// One refusal, in the envelope of the service that refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WireError {
    status: u16,
    description: String,
    style: Style,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Style {
    /// The payment-links service: `metadata` is an array, everything else null.
    Links,
    /// Payments, refunds, orders: a cause and, for input errors, the field.
    Core { reason: &'static str, field: Option<&'static str> },
    /// In front of the services (authentication, routing, idempotency): everything is "NA".
    Gateway,
}

#[derive(Serialize)]
struct CoreError<'a> {
    code: &'static str,
    description: &'a str,
    source: &'static str,
    step: &'static str,
    reason: &'static str,
    metadata: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'static str>,
}

impl WireError {
    /// A 400 of the payment-links service.
    pub fn link(description: impl Into<String>) -> Self {
        Self { status: 400, description: description.into(), style: Style::Links }
    }

    /// A 400 of the payments, refunds and orders services that is not about the input's shape.
    pub fn core(description: impl Into<String>) -> Self {
        Self::core_because("input_validation_failed", description)
    }

    /// Like [`WireError::core`] with the machine-readable cause.
    pub fn core_because(reason: &'static str, description: impl Into<String>) -> Self {
        Self { status: 400, description: description.into(), style: Style::Core { reason, field: None } }
    }

    /// A 400 that names the offending parameter.
    pub fn core_field(field: &'static str, description: impl Into<String>) -> Self {
        let style = Style::Core { reason: "input_validation_failed", field: Some(field) };
        Self { status: 400, description: description.into(), style }
    }

    /// A refusal from in front of the services.
    pub fn gateway(status: u16, description: impl Into<String>) -> Self {
        Self { status, description: description.into(), style: Style::Gateway }
    }

    pub fn into_reply(self) -> Reply {
        let Self { status, description, style } = self;
        let core = |source, step, reason, field| CoreError {
            code: BAD_REQUEST,
            description: &description,
            source,
            step,
            reason,
            metadata: json!({}),
            field,
        };
        match style {
            Style::Links => Reply::json(
                status,
                &json!({"error": {"code": BAD_REQUEST, "description": description, "metadata": [],
                                  "reason": null, "source": null, "step": null}}),
            ),
            Style::Core { reason, field } => Reply::json(
                status,
                &Envelope { error: core("business", "payment_initiation", reason, field) },
            ),
            Style::Gateway => Reply::json(status, &Envelope { error: core("NA", "NA", "NA", None) }),
        }
    }
}

#[derive(Serialize)]
struct Envelope<T> {
    error: T,
}

/// The body Razorpay sends with a bare status: what a fault answers when its rule brings no body.
pub(super) fn default_body(status: u16) -> String {
    let error = match status {
        429 => json!({"code": BAD_REQUEST, "description": "Too many requests"}),
        401 => json!({"code": BAD_REQUEST, "description": "Authentication failed", "source": "NA",
                      "step": "NA", "reason": "NA", "metadata": {}}),
        500.. => json!({"code": "SERVER_ERROR", "metadata": {}, "source": "NA", "step": "NA", "reason": "NA",
                        "description": "We are facing some trouble completing your request at the moment. \
                                        Please try again shortly."}),
        _ => json!({"code": BAD_REQUEST, "description": "The request was refused by a sandbox fault",
                    "metadata": [], "reason": null, "source": null, "step": null}),
    };
    json!({"error": error}).to_string()
}
