//! Signatures as Standard Webhooks defines them (standardwebhooks.com, version 1), so that any of its
//! libraries verifies what we send.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use secrecy::{ExposeSecret, SecretString};

use super::EventId;
use crate::kit::{ids::Ids, secret::hmac_sha256};

const SECRET_PREFIX: &str = "whsec_";
const SECRET_BYTES: usize = 32;

/// A new signing secret: `whsec_` and 32 random bytes in base64.
pub fn generate_secret(ids: &Ids) -> SecretString {
    let bytes: [u8; SECRET_BYTES] = ids.bytes();
    format!("{SECRET_PREFIX}{}", STANDARD.encode(bytes)).into()
}

/// A secret that [`generate_secret`] did not make.
#[derive(Debug, thiserror::Error)]
#[error("not a signing secret")]
pub struct MalformedSecret;

/// A secret that was chosen elsewhere: `whsec_` and 24 to 64 bytes in base64, as Standard Webhooks has them.
pub fn parse_secret(text: &str) -> Result<SecretString, MalformedSecret> {
    let encoded = text.strip_prefix(SECRET_PREFIX).ok_or(MalformedSecret)?;
    let bytes = STANDARD.decode(encoded).map_err(|_| MalformedSecret)?;
    if (24..=64).contains(&bytes.len()) { Ok(text.into()) } else { Err(MalformedSecret) }
}

/// The headers of an event's delivery that was signed at `timestamp`, in Unix seconds.
pub fn signed_headers(
    secrets: &[SecretString],
    id: EventId,
    timestamp: i64,
    body: &[u8],
) -> Result<HeaderMap, MalformedSecret> {
    let id = id.to_string();
    let plain = |text: &str| HeaderValue::from_str(text).expect("ids and base64 are printable ASCII");
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert("webhook-id", plain(&id));
    headers.insert("webhook-timestamp", HeaderValue::from(timestamp));
    headers.insert("webhook-signature", plain(&signatures(secrets, &id, timestamp, body)?));
    Ok(headers)
}

/// The value of `webhook-signature`: one `v1,…` per secret, separated by spaces. `timestamp` is in Unix
/// seconds and goes into `webhook-timestamp`; `id` goes into `webhook-id`.
pub fn signatures(
    secrets: &[SecretString],
    id: &str,
    timestamp: i64,
    body: &[u8],
) -> Result<String, MalformedSecret> {
    let content = [format!("{id}.{timestamp}.").as_bytes(), body].concat();
    let signed = secrets.iter().map(|secret| {
        let encoded = secret.expose_secret().strip_prefix(SECRET_PREFIX).ok_or(MalformedSecret)?;
        let key = STANDARD.decode(encoded).map_err(|_| MalformedSecret)?;
        Ok(format!("v1,{}", STANDARD.encode(hmac_sha256(&key, &content))))
    });
    Ok(signed.collect::<Result<Vec<_>, _>>()?.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::clock::Clock;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    fn sign(secrets: &[&str]) -> Result<String, MalformedSecret> {
        let secrets: Vec<SecretString> = secrets.iter().map(|&secret| secret.into()).collect();
        signatures(&secrets, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#)
    }

    #[test]
    fn the_published_vector_verifies() {
        assert_eq!(sign(&[SECRET]).expect("a well-formed secret"), SIGNATURE);
    }

    /// The vectors that receivers check themselves against (docs/verify-webhooks.md).
    #[test]
    fn what_we_sign_verifies_by_the_published_vectors() {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../../docs/verify-webhooks/vectors.json")).expect("JSON");
        let mut verified = 0;
        for vector in vectors["vectors"].as_array().expect("vectors") {
            if vector["result"] != "verified" {
                continue;
            }
            let header = |name: &str| vector["headers"][name].as_str().expect("a text");
            let secrets = vector["secrets"].as_array().expect("secrets");
            let secrets: Vec<SecretString> =
                secrets.iter().map(|secret| secret.as_str().expect("a text").into()).collect();
            let timestamp = header("webhook-timestamp").parse().expect("a number");
            let body = vector["body"].as_str().expect("a text").as_bytes();
            let signed = signatures(&secrets, header("webhook-id"), timestamp, body);
            let sent: Vec<_> = header("webhook-signature").split(' ').collect();
            let signed = signed.expect("well-formed secrets");
            assert!(signed.split(' ').any(|signature| sent.contains(&signature)), "{vector}");
            verified += 1;
        }
        assert!(verified >= 5, "the vectors were read");
    }

    #[test]
    fn each_secret_signs() {
        let both = sign(&[&String::from("whsec_AAAA"), SECRET]).expect("well-formed secrets");
        let (other, known) = both.split_once(' ').expect("two signatures");
        assert_eq!(known, SIGNATURE);
        assert!(other.starts_with("v1,") && other != SIGNATURE);
    }

    #[test]
    fn secrets_are_new_each_time_and_well_formed() {
        let ids = Ids::seeded(1, Clock::system());
        let (first, second) = (generate_secret(&ids), generate_secret(&ids));
        assert_ne!(first.expose_secret(), second.expose_secret());
        let encoded = first.expose_secret().strip_prefix("whsec_").expect("the prefix");
        assert_eq!(STANDARD.decode(encoded).expect("base64").len(), 32);
        assert!(parse_secret(first.expose_secret()).is_ok() && parse_secret(SECRET).is_ok());
        for malformed in ["MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_%%%"] {
            assert!(sign(&[malformed]).is_err(), "{malformed}");
            assert!(parse_secret(malformed).is_err(), "{malformed}");
        }
        for bytes in [0, 23, 65] {
            let secret = format!("whsec_{}", STANDARD.encode(vec![7; bytes]));
            assert!(parse_secret(&secret).is_err(), "{bytes} bytes");
        }
    }
}
