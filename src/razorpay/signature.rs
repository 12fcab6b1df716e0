//! Razorpay's two signatures, both lower-case hexadecimal HMAC-SHA256.

use hmac::Mac;
use secrecy::{ExposeSecret, SecretString};

use crate::kit::secret::new_hmac;

/// Whether `signature` is that of the raw webhook `body` under `secret`. In constant time.
pub fn verifies(body: &[u8], signature: &str, secret: &SecretString) -> bool {
    let Some(signature) = decode(signature) else { return false };
    let mut mac = new_hmac(secret.expose_secret().as_bytes());
    mac.update(body);
    mac.verify_slice(&signature).is_ok()
}

/// What Razorpay appends to the callback URL after a payment on a link.
#[derive(Debug, Clone, serde::Deserialize)]
pub struct Callback {
    /// `pay_…`
    #[serde(rename = "razorpay_payment_id")]
    pub payment_id: String,
    /// `plink_…`
    #[serde(rename = "razorpay_payment_link_id")]
    pub link_id: String,
    /// The link's `reference_id`, empty when it has none.
    #[serde(rename = "razorpay_payment_link_reference_id", default)]
    pub reference_id: String,
    /// The link's status, `paid`.
    #[serde(rename = "razorpay_payment_link_status")]
    pub status: String,
    /// HMAC under the API secret (not the webhook secret).
    #[serde(rename = "razorpay_signature")]
    pub signature: String,
}

impl Callback {
    /// Whether Razorpay made this redirect. True says nothing about the money: ask the API.
    pub fn verifies(&self, secret_key: &SecretString) -> bool {
        let message = [&*self.link_id, &*self.reference_id, &*self.status, &*self.payment_id].join("|");
        verifies(message.as_bytes(), &self.signature, secret_key)
    }
}

/// 64 lower-case hexadecimal digits, as Razorpay writes them; nothing else is looked at.
fn decode(signature: &str) -> Option<[u8; 32]> {
    if signature.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    let mut bytes = [0; 32];
    hex::decode_to_slice(signature, &mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::secret::hmac_sha256;

    #[test]
    fn accepts_razorpays_published_callback_vector() {
        let callback = Callback {
            payment_id: "pay_IH3d0ara9bSsjQ".into(),
            link_id: "plink_IH3cNucfVEgV68".into(),
            reference_id: "TSsd1989".into(),
            status: "paid".into(),
            signature: "07ae18789e35093e51d0a491eb9922646f3f82773547e5b0f67ee3f2d3bf7d5b".into(),
        };
        let secret = "EnLs21M47BllR3X8PSFtjtbd".into();
        assert!(callback.verifies(&secret));
        assert!(!Callback { status: "expired".into(), ..callback.clone() }.verifies(&secret));
        assert!(!callback.verifies(&"another".into()));
    }

    #[test]
    fn rejects_everything_but_the_exact_signature() {
        let secret = SecretString::from("whsec");
        let body = b"{\"event\":\"payment_link.paid\"}";
        let right = hex::encode(hmac_sha256(b"whsec", body));
        assert!(verifies(body, &right, &secret));
        let mut flipped = right.clone();
        let last = if flipped.pop() == Some('0') { '1' } else { '0' };
        flipped.push(last);
        for wrong in [
            "",
            "00",
            "zz",
            &right[..63],
            &right[..62],
            &format!("{right}00"),
            &right.to_uppercase(),
            &flipped,
        ] {
            // An all-digit signature has no upper-case form.
            assert!(wrong == right || !verifies(body, wrong, &secret), "{wrong:?}");
        }
        assert!(!verifies(b"{}", &right, &secret));
    }
}
