//! What a call to the provider came to. Decided on the HTTP status: Razorpay's `error.code` is the same
//! for a validation error, a rate limit and a conflict.

use std::time::Duration;

use serde::Deserialize;

use crate::kit::text::bounded;

/// A call that did not give what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// Razorpay understood and said no; saying it again will not help.
    #[error("Razorpay refused: {description}")]
    Rejected {
        /// HTTP status.
        status: u16,
        /// Razorpay's own words.
        description: String,
    },
    /// Too many requests; nothing was done.
    #[error("Razorpay limits the rate of requests")]
    RateLimited {
        /// How long to wait, where Razorpay said so.
        retry_after: Option<Duration>,
    },
    /// The request surely had no effect: no connection, or a read that failed.
    #[error("Razorpay is not available: {0}")]
    Unavailable(String),
    /// Not sent: calls of this kind have failed too often in a row.
    #[error("Razorpay has not answered for a while: trying again in {}s", retry_after.as_secs().max(1))]
    Paused {
        /// When one will be tried again.
        retry_after: Duration,
    },
    /// The request may have taken effect: time-out, reset, 5xx or an unreadable answer to a write.
    #[error("it is not known whether Razorpay did it: {0}")]
    Unknown(String),
    /// Razorpay holds a link under our reference that is not the one we asked for. It must not be paid.
    #[error("Razorpay answered with a link that does not match the request")]
    Mismatch {
        /// That link.
        link_id: String,
    },
}

impl ProviderError {
    /// A word for metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Rejected { .. } => "rejected",
            Self::RateLimited { .. } => "rate_limited",
            Self::Unavailable(_) => "unavailable",
            Self::Paused { .. } => "paused",
            Self::Unknown(_) => "unknown",
            Self::Mismatch { .. } => "mismatch",
        }
    }

    /// Whether the provider's answer settles the matter.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Rejected { .. } | Self::Mismatch { .. })
    }

    /// Whether a link under the same `reference_id` exists already. Both texts occur: the documented one
    /// and the one seen live.
    pub fn is_duplicate_reference(&self) -> bool {
        let Self::Rejected { description, .. } = self else { return false };
        let text = description.to_ascii_lowercase();
        text.contains("already") && (text.contains("reference_id") || text.contains("reference id"))
    }

    /// Whether the key pair was refused, as opposed to the request.
    pub fn is_authentication(&self) -> bool {
        matches!(self, Self::Rejected { status: 401 | 403, .. })
    }
}

/// Whether a request changes something at the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A GET.
    Read,
    /// Anything else.
    Write,
}

impl Effect {
    /// No usable answer: of a read nothing is lost, of a write nothing is known.
    pub fn inconclusive(self, reason: impl Into<String>) -> ProviderError {
        match self {
            Self::Read => ProviderError::Unavailable(reason.into()),
            Self::Write => ProviderError::Unknown(reason.into()),
        }
    }
}

/// Both of Razorpay's error envelopes; only the description is relied on.
#[derive(Deserialize)]
struct Envelope {
    error: ErrorBody,
}

#[derive(Deserialize)]
struct ErrorBody {
    #[serde(default)]
    code: String,
    #[serde(default)]
    description: String,
}

/// Classifies an answer that is not 2xx.
pub fn classify(status: u16, retry_after: Option<Duration>, body: &[u8], effect: Effect) -> ProviderError {
    let error = serde_json::from_slice::<Envelope>(body).map(|envelope| envelope.error).ok();
    let code = error.as_ref().map(|error| error.code.clone()).unwrap_or_default();
    let description = error
        .map(|error| error.description)
        .map(|text| bounded(&text, 500))
        .filter(|text| !text.is_empty())
        .unwrap_or_else(|| format!("HTTP status {status}"));
    match status {
        // The test account's quota of links: no waiting lifts it.
        429 if code == "RATE_LIMIT_EXCEEDED" => ProviderError::Rejected { status, description },
        429 => ProviderError::RateLimited { retry_after },
        408 => effect.inconclusive(description),
        409 if description.contains("still in progress") => ProviderError::Unknown(description),
        400..=499 => ProviderError::Rejected { status, description },
        _ => effect.inconclusive(format!("HTTP status {status}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_decides_not_the_code() {
        let limited = br#"{"error":{"code":"BAD_REQUEST_ERROR","description":"Too many requests"}}"#;
        assert!(matches!(classify(429, None, limited, Effect::Write), ProviderError::RateLimited { .. }));
        let quota = br#"{"error":{"code":"RATE_LIMIT_EXCEEDED","description":"test mode limit of 30 reached for payment_link"}}"#;
        assert!(matches!(classify(429, None, quota, Effect::Write), ProviderError::Rejected { .. }));
        assert!(matches!(classify(502, None, b"<html>", Effect::Write), ProviderError::Unknown(_)));
        assert!(matches!(classify(502, None, b"<html>", Effect::Read), ProviderError::Unavailable(_)));
        assert!(matches!(classify(400, None, b"", Effect::Write), ProviderError::Rejected { .. }));
    }

    #[test]
    fn both_wordings_of_a_taken_reference_are_known() {
        for text in [
            "payment link with given reference_id: chk_1 already exists. Please create a payment link with a different reference_id",
            "payment link creation with reference ID already attempted",
        ] {
            assert!(
                ProviderError::Rejected { status: 400, description: text.into() }.is_duplicate_reference()
            );
        }
        let other = ProviderError::Rejected { status: 400, description: "amount: cannot be blank.".into() };
        assert!(!other.is_duplicate_reference());
    }
}
