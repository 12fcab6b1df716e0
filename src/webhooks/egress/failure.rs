//! Why a request got no answer, in words that help the merchant whose endpoint it was for.

use std::{
    error::Error,
    io::{self, ErrorKind},
};

use rustls::{AlertDescription, CertificateError, Error as TlsError};

use super::resolver::{ForbiddenAddress, LookupTimedOut, Unresolved};
use crate::webhooks::Rejection;

/// Why there was no answer. The texts are shown to the merchant and name no address of ours.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The URL is not allowed (any more).
    #[error("the URL {0}")]
    Rejected(#[from] Rejection),
    /// The host's name leads to an address that is not allowed; nothing was connected to.
    #[error("the host resolves to an address that is not on the public internet")]
    ForbiddenAddress,
    /// The name was not found, the connection not made or TLS not set up within its part of the time limit.
    #[error("could not connect: not connected within 5 seconds")]
    ConnectTimedOut,
    /// No answer within the time limit.
    #[error("no answer within 15 seconds")]
    TimedOut,
    /// Refused, reset, no such host, bad certificate, not HTTP …
    #[error("{0}")]
    Failed(String),
}

/// What went wrong, told by the types in the error's chain of causes and never by their texts: those are not
/// ours, and may change or name what is nobody's business.
pub(super) fn classify(error: &reqwest::Error) -> SendError {
    if causes(error).any(<dyn Error>::is::<ForbiddenAddress>) {
        return SendError::ForbiddenAddress;
    }
    let connecting = error.is_connect();
    if error.is_timeout() {
        return if connecting { SendError::ConnectTimedOut } else { SendError::TimedOut };
    }
    let reason = causes(error).find_map(|cause| reason(cause, connecting));
    let what = if connecting { "could not connect" } else { "no complete answer" };
    let text = reason.map_or_else(|| what.to_owned(), |reason| format!("{what}: {reason}"));
    tracing::debug!(error = ?error, %text, "a request to an endpoint failed");
    SendError::Failed(text)
}

/// The error and what caused it, outermost first.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| {
        let error: &'a (dyn Error + 'static) = *error;
        // The source of an `io::Error` is the source of what it wraps: that itself would be left out.
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(wrapped) => Some(wrapped as _),
            None => error.source(),
        }
    })
}

fn reason(cause: &(dyn Error + 'static), connecting: bool) -> Option<String> {
    if cause.is::<Unresolved>() {
        return Some("the host name does not resolve".to_owned());
    }
    if cause.is::<LookupTimedOut>() {
        return Some("the host name could not be looked up in time".to_owned());
    }
    if let Some(error) = cause.downcast_ref::<TlsError>() {
        return Some(if connecting { handshake(error) } else { "the TLS connection broke".to_owned() });
    }
    if let Some(error) = cause.downcast_ref::<hyper::Error>() {
        return http(error).map(str::to_owned);
    }
    network(cause.downcast_ref::<io::Error>()?.kind(), connecting).map(str::to_owned)
}

fn network(kind: ErrorKind, connecting: bool) -> Option<&'static str> {
    Some(match kind {
        ErrorKind::ConnectionRefused => "connection refused",
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe => {
            "connection reset"
        }
        ErrorKind::UnexpectedEof if connecting => "TLS handshake failed: connection closed",
        ErrorKind::UnexpectedEof => "connection closed",
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => "host unreachable",
        _ => return None,
    })
}

fn http(error: &hyper::Error) -> Option<&'static str> {
    if error.is_parse_too_large() {
        Some("the answer's headers are too many or too large")
    } else if error.is_parse() {
        Some("the answer is not HTTP")
    } else if error.is_incomplete_message() {
        Some("connection closed")
    } else {
        None
    }
}

fn handshake(error: &TlsError) -> String {
    match error {
        TlsError::InvalidCertificate(error) => certificate(error),
        TlsError::InvalidMessage(_) => "TLS handshake failed: the port does not speak TLS".to_owned(),
        TlsError::PeerIncompatible(_) | TlsError::AlertReceived(AlertDescription::ProtocolVersion) => {
            "TLS handshake failed: TLS 1.2 or 1.3 with a modern cipher is needed".to_owned()
        }
        TlsError::AlertReceived(alert) => format!("TLS handshake failed: the endpoint sent {alert:?}"),
        _ => "TLS handshake failed".to_owned(),
    }
}

fn certificate(error: &CertificateError) -> String {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the certificate has expired".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the certificate is not valid yet".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "the certificate is for another host".to_owned()
        }
        CertificateError::UnknownIssuer => {
            "the certificate is self-signed or of an unknown issuer, or an intermediate one is missing"
                .to_owned()
        }
        CertificateError::Revoked => "the certificate has been revoked".to_owned(),
        // `CaUsedAsEndEntity` most of all: the usual self-signed one.
        CertificateError::Other(error) => format!("the certificate is not valid ({error})"),
        _ => "the certificate is not valid".to_owned(),
    }
}
