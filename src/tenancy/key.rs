//! API keys: `sk_{test|live}_` + 12 characters that name the row + 24 secret ones (142 bits) + 6 of checksum.
//!
//! The checksum rejects typing errors and random guesses without the database, and lets secret scanners
//! recognise a key. Only a keyed hash is stored.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret, SecretString};

use super::{KeyId, Mode, Scope, environment_store, key_store as store};
use crate::{
    app::App,
    db,
    http::{ApiError, Caller, Named, Reserved, forget_answer_in},
    kit::ids::BASE62,
};

impl Named for KeyId {
    const NOUN: &'static str = "api key";
}

/// Keys of an environment that are not revoked.
const MAX_KEYS: usize = 100;

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
    /// When the key stops being valid; none for never.
    pub expires_at: Option<DateTime<Utc>>,
    /// The environment's own session lifetime in seconds, where it differs from the service's.
    pub session_ttl_seconds: Option<i32>,
}

/// What is shown of a key.
#[derive(Clone, Debug)]
pub struct Key {
    pub id: KeyId,
    pub name: String,
    pub lookup_id: String,
    pub last_four: String,
    pub created_at: DateTime<Utc>,
    /// When it stops being valid; none for never.
    pub expires_at: Option<DateTime<Utc>>,
    pub revoked_at: Option<DateTime<Utc>>,
}

impl Key {
    /// Enough to tell the key by: its prefix, the first five of the characters that name its row, which are not
    /// secret, and the last two, which are of the checksum.
    pub fn display_id(&self, mode: Mode) -> String {
        let first = self.lookup_id.get(..5).unwrap_or_default();
        let last = self.last_four.get(2..).unwrap_or_default();
        format!("{}{first}***{last}", prefix(mode))
    }
}

/// A key to store.
#[derive(Clone)]
pub struct NewKey {
    pub id: KeyId,
    pub name: String,
    pub expires_at: Option<DateTime<Utc>>,
    pub secret: GeneratedKey,
}

/// The text of a key, and what is stored of it.
#[derive(Clone)]
pub struct GeneratedKey {
    pub text: String,
    pub lookup_id: String,
    pub last_four: String,
    pub hash: Vec<u8>,
}

/// Makes the text of a key for an environment of this mode.
pub fn generate(app: &App, mode: Mode) -> GeneratedKey {
    let lookup_id = app.ids.base62(LOOKUP_CHARACTERS);
    let body = format!("{lookup_id}{}", app.ids.base62(SECRET_CHARACTERS));
    let prefix = prefix(mode);
    let text = format!("{prefix}{body}{}", checksum(&format!("{prefix}{body}")));
    let last_four = text[text.len() - 4..].to_owned();
    GeneratedKey { hash: app.sealer.hash(&text), text, lookup_id, last_four }
}

/// Whether a key with the end `new` would be valid for longer than the one that makes it. Whoever finds a key that
/// expires must not be able to stay.
pub fn outlives(new: Option<DateTime<Utc>>, maker: Option<DateTime<Utc>>) -> bool {
    maker.is_some_and(|maker| new.is_none_or(|new| new > maker))
}

/// Makes a key of the environment; also its text, which is in no table and cannot be shown again.
///
/// `id` names the request: with the id of an earlier try, whose answer nobody saw, that key gets a new text.
pub async fn create(
    app: &App,
    scope: Scope,
    mode: Mode,
    id: KeyId,
    reserved: &Reserved,
    name: String,
    expires_at: Option<DateTime<Utc>>,
) -> Result<(Key, String), ApiError> {
    let now = app.clock.now();
    let new = NewKey { id, name, expires_at, secret: generate(app, mode) };
    let text = new.secret.text.clone();
    let key = db::transact(&app.pool, "create_api_key", move |tx| {
        let (new, reserved) = (new.clone(), reserved.clone());
        Box::pin(async move {
            reserved.fence_in(tx).await?;
            // Two requests at once must not both make the last one.
            environment_store::lock_environment_in(tx, scope).await?;
            if store::count_keys(tx, scope, id).await? >= MAX_KEYS {
                return Err(ApiError::invalid_operation(format!(
                    "an environment has at most {MAX_KEYS} API keys; revoke one first"
                )));
            }
            let key = store::put_key(tx, scope, &new, now).await?;
            key.ok_or_else(|| ApiError::already_exists("this request made a key that was changed since"))
        })
    })
    .await?;
    app.known_keys.forget();
    Ok((key, text))
}

/// Revokes a key of the environment: the next request with it is refused, by other replicas within five seconds. A key
/// cannot revoke itself, and of two that revoke each other at once one stays: nobody locks himself out. Nor does a key
/// that expires revoke the last one that does not. Its text goes from where it still lay, in the answer to the request
/// that made it.
pub async fn revoke(app: &App, caller: Caller, id: KeyId) -> Result<(), ApiError> {
    let (scope, actor) = (caller.scope, caller.key);
    if actor == id {
        return Err(ApiError::invalid_operation(
            "a key cannot revoke itself; use another key of the environment",
        )
        .detail("reason", "own_api_key"));
    }
    let now = app.clock.now();
    let done = db::transact(&app.pool, "revoke_api_key", move |tx| {
        Box::pin(async move {
            // Two requests at once must not each leave the other's key as the last one.
            environment_store::lock_environment_in(tx, scope).await?;
            if caller.expires_at.is_some() && store::is_last_lasting_key(tx, scope, id).await? {
                return Err(ApiError::invalid_operation(
                    "a key that expires cannot revoke the last key that does not",
                )
                .detail("reason", "last_lasting_key"));
            }
            let done = store::revoke_key(tx, scope, actor, id, now).await?;
            if done.revoked {
                forget_answer_in(tx, id.into()).await?;
            }
            Ok(done)
        })
    })
    .await?;
    app.known_keys.forget();
    match done {
        store::Revocation { actor_is_valid: false, .. } => {
            Err(ApiError::unauthorized("the API key is not valid"))
        }
        store::Revocation { revoked: false, .. } => Err(ApiError::not_found(KeyId::NOUN)),
        store::Revocation { .. } => {
            tracing::info!(key.id = %id, actor.id = %actor, "an API key was revoked");
            Ok(())
        }
    }
}

/// Finds the key's row and compares in constant time. An unknown key costs the same as a wrong one, unless
/// that was used a moment ago.
///
/// The row may be up to two seconds old (see [`Recent`](crate::kit::recent::Recent)).
pub async fn authenticate(app: &App, text: &str) -> Result<Option<Authenticated>, db::Error> {
    let Some(lookup_id) = lookup_id(text) else { return Ok(None) };
    let now = app.clock.now();
    let known = app.known_keys.find(lookup_id, now);
    let reading = app.known_keys.reading();
    let found = match &known {
        Some(row) => Some(Arc::clone(row)),
        None => store::find_key_any_scope(&app.pool, lookup_id).await?.map(Arc::new),
    };
    let hash = found.as_ref().map_or(&[][..], |row| &row.hash);
    let matches = app.sealer.matches(text, hash);
    let is_valid = |row: &store::FoundKey| {
        row.revoked_at.is_none() && row.expires_at.is_none_or(|expires_at| now < expires_at)
    };
    let Some(row) = found.filter(|row| matches && is_valid(row)) else { return Ok(None) };
    // Only valid ones, so that guesses push none out.
    if known.is_none() {
        app.known_keys.keep(&reading, lookup_id.to_owned(), &row, now);
    }
    Ok(Some(row.authenticated()))
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
