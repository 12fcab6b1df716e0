//! API keys: `sk_{test|live}_` + 12 characters that name the row + 24 secret ones (142 bits) + 6 of checksum.
//!
//! The checksum rejects typing errors and random guesses without the database, and lets secret scanners
//! recognise a key. Only a keyed hash is stored.

use secrecy::{ExposeSecret, SecretString};

use super::{KeyId, Mode, Scope, store};
use crate::{app::App, db, kit::ids::BASE62};

const LOOKUP_CHARACTERS: usize = 12;
const SECRET_CHARACTERS: usize = 24;
const CHECKSUM_CHARACTERS: usize = 6;

/// Whom a key belongs to.
#[derive(Clone, Copy, Debug)]
pub struct Authenticated {
    /// Tenant and environment.
    pub scope: Scope,
    /// Test or live.
    pub mode: Mode,
    /// The key's record.
    pub key: KeyId,
    /// The environment's own session lifetime in seconds, where it differs from the service's.
    pub session_ttl_seconds: Option<i32>,
}

/// A key that was just made: its text, and what is stored of it.
#[derive(Clone)]
pub struct GeneratedKey {
    pub id: KeyId,
    pub text: String,
    pub lookup_id: String,
    pub last_four: String,
    pub hash: Vec<u8>,
}

/// Makes a key for an environment of this mode.
pub fn generate(app: &App, mode: Mode) -> GeneratedKey {
    let lookup_id = app.ids.base62(LOOKUP_CHARACTERS);
    let body = format!("{lookup_id}{}", app.ids.base62(SECRET_CHARACTERS));
    let prefix = prefix(mode);
    let text = format!("{prefix}{body}{}", checksum(&format!("{prefix}{body}")));
    let last_four = text[text.len() - 4..].to_owned();
    GeneratedKey { id: app.ids.next(), hash: app.sealer.hash(&text), text, lookup_id, last_four }
}

/// Finds the key's row and compares in constant time. An unknown key costs the same as a wrong one.
pub async fn authenticate(app: &App, text: &str) -> Result<Option<Authenticated>, db::Error> {
    let Some(lookup_id) = lookup_id(text) else { return Ok(None) };
    let found = store::find_key_any_scope(&app.pool, lookup_id).await?;
    let nothing = Vec::new();
    let hash = found.as_ref().map_or(&nothing, |row| &row.hash);
    let matches = app.sealer.matches(text, hash);
    Ok(found.filter(|row| matches && row.revoked_at.is_none()).map(|row| row.authenticated()))
}

fn prefix(mode: Mode) -> String {
    format!("sk_{}_", mode.as_str())
}

/// The part that names the row, when the text is a well-formed key.
fn lookup_id(text: &str) -> Option<&str> {
    let body = text.strip_prefix("sk_test_").or_else(|| text.strip_prefix("sk_live_"))?;
    let length = LOOKUP_CHARACTERS + SECRET_CHARACTERS + CHECKSUM_CHARACTERS;
    if body.len() != length || !body.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return None;
    }
    let (signed, sum) = text.split_at(text.len() - CHECKSUM_CHARACTERS);
    (checksum(signed) == sum).then(|| &body[..LOOKUP_CHARACTERS])
}

/// CRC-32 in six base62 digits.
fn checksum(text: &str) -> String {
    let mut value = crc32fast::hash(text.as_bytes());
    let mut digits = [b'0'; CHECKSUM_CHARACTERS];
    for digit in digits.iter_mut().rev() {
        *digit = BASE62[(value % 62) as usize];
        value /= 62;
    }
    digits.into_iter().map(char::from).collect()
}

/// The text of a secret that a caller sent, trimmed of nothing: secrets are taken as they are.
pub fn is_printable(secret: &SecretString) -> bool {
    let text = secret.expose_secret();
    !text.is_empty() && text.len() <= 256 && text.bytes().all(|byte| byte.is_ascii_graphic())
}
