//! Secrets at rest: sealed with XChaCha20-Poly1305, bound to the row they belong to.
//!
//! A sealed value is `key id (4 bytes) | nonce (24) | ciphertext and tag`. Several keys may be configured:
//! the first seals, any opens, so that keys can be rotated.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305,
    aead::{Aead, Payload},
};
use hmac::{Hmac, Mac};
use secrecy::{ExposeSecret, SecretBox, SecretString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use uuid::Uuid;

use super::ids::Ids;

const KEY_ID_BYTES: usize = 4;
const NONCE_BYTES: usize = 24;

/// Where a sealed value lives. It opens nowhere else.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Table and column, `connections.secret_key`.
    pub column: &'static str,
    /// The row's environment.
    pub environment: Uuid,
    /// The row's id.
    pub row: Uuid,
}

impl Place {
    fn associated_data(self) -> Vec<u8> {
        let mut data = self.column.as_bytes().to_vec();
        data.push(0);
        data.extend_from_slice(self.environment.as_bytes());
        data.extend_from_slice(self.row.as_bytes());
        data
    }
}

/// Seals, opens and keys hashes with the service's encryption keys.
pub struct Sealer {
    keys: Vec<Key>,
    ids: Ids,
}

struct Key {
    id: [u8; KEY_ID_BYTES],
    bytes: SecretBox<[u8; 32]>,
}

/// A sealed value that does not open. Says nothing about its content.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum OpenError {
    /// Sealed with a key that is not configured (any more).
    #[error("no configured encryption key opens this secret")]
    UnknownKey,
    /// Changed, cut, or moved from another row.
    #[error("the secret does not belong here or was changed")]
    Tampered,
}

/// Why a key list cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("must be 32 bytes in base64 (openssl rand -base64 32), several separated by commas")]
pub struct MalformedKey;

/// Whether a text is a list of keys as [`Sealer::parse`] takes them.
pub fn are_keys(keys: &SecretString) -> bool {
    keys.expose_secret().split(',').all(|key| Key::parse(key).is_ok())
}

impl Sealer {
    /// Keys as `CHECKOUTD_ENCRYPTION_KEY` gives them: base64 of 32 bytes each, comma-separated.
    pub fn parse(keys: &SecretString, ids: Ids) -> Result<Self, MalformedKey> {
        let keys = keys.expose_secret().split(',').map(Key::parse).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { keys, ids })
    }

    /// Seals `plaintext` for `place` with the first key.
    pub fn seal(&self, place: Place, plaintext: &SecretString) -> Vec<u8> {
        let key = &self.keys[0];
        let nonce: [u8; NONCE_BYTES] = self.ids.bytes();
        let payload = Payload { msg: plaintext.expose_secret().as_bytes(), aad: &place.associated_data() };
        let ciphertext = key
            .cipher()
            .encrypt(&nonce.into(), payload)
            .expect("encryption fails only beyond 256 GiB of plaintext");
        [key.id.as_slice(), &nonce, &ciphertext].concat()
    }

    /// Opens what [`Sealer::seal`] made for the same place.
    pub fn open(&self, place: Place, sealed: &[u8]) -> Result<SecretString, OpenError> {
        let (id, rest) = sealed.split_at_checked(KEY_ID_BYTES).ok_or(OpenError::Tampered)?;
        let (nonce, ciphertext) = rest.split_first_chunk::<NONCE_BYTES>().ok_or(OpenError::Tampered)?;
        let key = self.keys.iter().find(|key| key.id == id).ok_or(OpenError::UnknownKey)?;
        let payload = Payload { msg: ciphertext, aad: &place.associated_data() };
        let plaintext = key.cipher().decrypt(&(*nonce).into(), payload).map_err(|_| OpenError::Tampered)?;
        String::from_utf8(plaintext).map(Into::into).map_err(|_| OpenError::Tampered)
    }

    /// A keyed hash of `text`, for values that are only ever compared (API keys).
    pub fn hash(&self, text: &str) -> Vec<u8> {
        let key = &self.keys[0];
        [key.id.as_slice(), &key.hash(text)].concat()
    }

    /// Whether `hash` came from `text`, under any configured key; in time that does not depend on either.
    pub fn matches(&self, text: &str, hash: &[u8]) -> bool {
        let Some((id, digest)) = hash.split_at_checked(KEY_ID_BYTES) else { return false };
        let key = self.keys.iter().find(|key| key.id == id).unwrap_or(&self.keys[0]);
        (key.id.as_slice().ct_eq(id) & key.hash(text).as_slice().ct_eq(digest)).into()
    }
}

impl Key {
    fn parse(text: &str) -> Result<Self, MalformedKey> {
        let bytes = STANDARD.decode(text.trim()).map_err(|_| MalformedKey)?;
        let bytes: [u8; 32] = bytes.try_into().map_err(|_| MalformedKey)?;
        let digest = Sha256::digest(bytes);
        let mut id = [0; KEY_ID_BYTES];
        id.copy_from_slice(&digest[..KEY_ID_BYTES]);
        Ok(Self { id, bytes: SecretBox::new(Box::new(bytes)) })
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(self.bytes.expose_secret().into())
    }

    fn hash(&self, text: &str) -> [u8; 32] {
        // The label keeps this use of the key apart from the cipher's.
        let mut mac = new_hmac(self.bytes.expose_secret());
        mac.update(b"checkoutd keyed hash\0");
        mac.update(text.as_bytes());
        mac.finalize().into_bytes().into()
    }
}

/// HMAC-SHA256 with a key of any length.
pub fn new_hmac(key: &[u8]) -> Hmac<Sha256> {
    <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(key).expect("HMAC takes keys of every length")
}

/// HMAC-SHA256 of `message`.
pub fn hmac_sha256(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut mac = new_hmac(key);
    mac.update(message);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::clock::Clock;

    fn sealer(keys: &str) -> Sealer {
        Sealer::parse(&keys.into(), Ids::seeded(1, Clock::system())).expect("well-formed keys")
    }

    fn place(row: u128) -> Place {
        Place { column: "connections.secret_key", environment: Uuid::nil(), row: Uuid::from_u128(row) }
    }

    const OLD: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    const NEW: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

    #[test]
    fn opens_only_where_it_was_sealed() {
        let sealer = sealer(OLD);
        let sealed = sealer.seal(place(1), &"rzp secret".into());
        assert!(!String::from_utf8_lossy(&sealed).contains("rzp secret"));
        assert_eq!(
            sealer.open(place(1), &sealed).map(|s| s.expose_secret().to_owned()),
            Ok("rzp secret".into())
        );
        assert_eq!(sealer.open(place(2), &sealed).err(), Some(OpenError::Tampered));
        for cut in 0..sealed.len() {
            assert!(sealer.open(place(1), &sealed[..cut]).is_err());
        }
    }

    #[test]
    fn rotates_keys() {
        let before = sealer(OLD);
        let sealed = before.seal(place(1), &"x".into());
        let hash = before.hash("sk_test_1");
        let during = sealer(&format!("{NEW},{OLD}"));
        assert!(during.open(place(1), &sealed).is_ok());
        assert!(during.matches("sk_test_1", &hash));
        assert!(!during.matches("sk_test_2", &hash));
        let after = sealer(NEW);
        assert_eq!(after.open(place(1), &sealed).err(), Some(OpenError::UnknownKey));
        assert!(!after.matches("sk_test_1", &hash));
        assert!(!after.matches("sk_test_1", b""));
    }

    #[test]
    fn refuses_malformed_keys() {
        for keys in ["", "short", &format!("{OLD},"), &OLD[1..]] {
            let parsed = Sealer::parse(&(*keys).into(), Ids::seeded(1, Clock::system()));
            assert_eq!(parsed.err(), Some(MalformedKey), "{keys:?}");
        }
    }
}
