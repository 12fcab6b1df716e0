//! Connections: a merchant's Razorpay account, its secrets sealed.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use uuid::Uuid;

use super::{Mode, Scope, store};
use crate::{
    app::App,
    db,
    http::{ApiError, Named},
    kit::secret::{OpenError, Place},
    razorpay::Credentials,
};

crate::define_ids! {
    /// A provider connection.
    ConnectionId = "conn";
}

impl Named for ConnectionId {
    const NOUN: &'static str = "connection";
}

/// Razorpay repeats an event for 24 hours and support can replay it for 15 days, signed with the secret
/// of its time: the previous one verifies that long.
const PREVIOUS_SECRET_KEPT: TimeDelta = TimeDelta::days(16);

/// What is shown of a connection.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Its id.
    pub id: ConnectionId,
    /// The merchant's name for it.
    pub name: String,
    /// Razorpay's public key id, `rzp_test_…` or `rzp_live_…`.
    pub key_id: String,
    /// The merchant's own pairs.
    pub metadata: Value,
    /// `published` or `archived`.
    pub status: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
}

/// A connection's credentials as they lie in the table.
pub struct SealedAccount {
    /// The connection.
    pub id: ConnectionId,
    /// Razorpay's public key id.
    pub key_id: String,
    /// Sealed.
    pub secret_key: Vec<u8>,
    /// Sealed.
    pub webhook_secret: Option<Vec<u8>>,
    /// The one before, sealed.
    pub previous_webhook_secret: Option<Vec<u8>>,
    /// Until when that one verifies.
    pub previous_expires_at: Option<DateTime<Utc>>,
}

/// The part of a connection that calls Razorpay, as it lies in the table.
#[derive(Debug)]
pub struct SealedCredentials {
    /// Its id.
    pub connection: ConnectionId,
    /// Razorpay's public key id.
    pub key_id: String,
    /// Sealed.
    pub secret_key: Vec<u8>,
}

/// Credentials ready for use. Lives in memory only.
#[derive(Clone, Debug)]
pub struct Account {
    /// The connection they come from.
    pub connection: ConnectionId,
    /// The API's key pair; its secret also signs the redirect after a payment.
    pub credentials: Credentials,
}

/// Why credentials could not be had.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// No such connection.
    #[error("the environment has no Razorpay connection")]
    Missing,
    /// The encryption key is not the one they were sealed with.
    #[error(transparent)]
    Sealed(#[from] OpenError),
    /// Postgres.
    #[error(transparent)]
    Store(#[from] db::Error),
}

/// The credentials of a session's connection; archived connections too, since their links live on.
pub async fn connection_account(app: &App, scope: Scope, id: ConnectionId) -> Result<Account, AccountError> {
    let found = store::find_account(&app.pool, scope, id).await?.ok_or(AccountError::Missing)?;
    let sealed =
        SealedCredentials { connection: found.id, key_id: found.key_id, secret_key: found.secret_key };
    open_account(app, scope, sealed)
}

/// What verifies a connection's webhooks.
#[derive(Debug)]
pub struct Verifier {
    /// The connection.
    pub connection: ConnectionId,
    /// The current secret, then the previous while it is kept; without those that do not open.
    pub secrets: Vec<SecretString>,
    /// Whether there is one that does not open: what it would verify is not known.
    pub is_unreadable: bool,
}

/// For every connection of the environment, the present one first: an event may belong to a link that was made before
/// the account was replaced. A secret that does not open hides none of the others.
/// None when there is no such environment.
pub async fn webhook_verifiers(app: &App, scope: Scope) -> Result<Option<Vec<Verifier>>, db::Error> {
    let (reading, now) = (app.known_accounts.reading(), app.clock.now());
    let Some(sealed) = store::list_accounts(&app.pool, scope).await?.map(Arc::new) else { return Ok(None) };
    app.known_accounts.keep(&reading, scope, &sealed, now);
    let verifiers = verifiers(app, scope, &sealed);
    for unreadable in verifiers.iter().filter(|known| known.is_unreadable) {
        tracing::error!(alert = "secret_unreadable", connection.id = %unreadable.connection, "a webhook secret does not open");
    }
    Ok(Some(verifiers))
}

/// As [`webhook_verifiers`], of at most two seconds ago: of what another process changed since, nothing is known.
/// None when they were not read in that time.
pub fn remembered_webhook_verifiers(app: &App, scope: Scope) -> Option<Vec<Verifier>> {
    let sealed = app.known_accounts.find(&scope, app.clock.now())?;
    Some(verifiers(app, scope, &sealed))
}

fn verifiers(app: &App, scope: Scope, sealed: &[SealedAccount]) -> Vec<Verifier> {
    sealed.iter().map(|sealed| verifier(app, scope, sealed)).collect()
}

fn verifier(app: &App, scope: Scope, sealed: &SealedAccount) -> Verifier {
    let (mut secrets, mut is_unreadable) = (Vec::new(), false);
    for secret in kept_webhook_secrets(app, sealed) {
        match app.sealer.open(place(WEBHOOK_SECRET, scope, sealed.id), secret) {
            Ok(secret) => secrets.push(secret),
            Err(_) => is_unreadable = true,
        }
    }
    Verifier { connection: sealed.id, secrets, is_unreadable }
}

/// The current one, then the previous while it is kept.
fn kept_webhook_secrets<'a>(app: &App, sealed: &'a SealedAccount) -> impl Iterator<Item = &'a Vec<u8>> {
    let now = app.clock.now();
    let kept = sealed.previous_expires_at.is_some_and(|expires_at| expires_at > now);
    sealed.webhook_secret.iter().chain(sealed.previous_webhook_secret.iter().filter(move |_| kept))
}

/// Connections of any environment whose secrets do not open, for `doctor`: which, never what.
pub async fn sealed_shut(app: &App) -> Result<Vec<String>, db::Error> {
    let all = store::list_all_accounts_any_scope(&app.pool).await?;
    let shut = all.iter().filter(|(scope, sealed)| {
        let opens = |column, secret: &[u8]| app.sealer.open(place(column, *scope, sealed.id), secret).is_ok();
        let webhook = sealed.webhook_secret.iter().chain(&sealed.previous_webhook_secret);
        !opens(SECRET_KEY, &sealed.secret_key)
            || !webhook.into_iter().all(|secret| opens(WEBHOOK_SECRET, secret))
    });
    Ok(shut.map(|(_, sealed)| sealed.id.to_string()).collect())
}

/// Opens sealed credentials.
///
/// # Errors
/// They were sealed with another key, or elsewhere.
pub fn open_account(app: &App, scope: Scope, sealed: SealedCredentials) -> Result<Account, AccountError> {
    let place = place(SECRET_KEY, scope, sealed.connection);
    Ok(Account {
        connection: sealed.connection,
        credentials: Credentials {
            key_id: sealed.key_id,
            secret_key: app.sealer.open(place, &sealed.secret_key)?,
        },
    })
}

const SECRET_KEY: &str = "connections.secret_key";
/// One name for the current and the previous column: a rotation moves the ciphertext between them.
const WEBHOOK_SECRET: &str = "connections.webhook_secret";

fn place(column: &'static str, scope: Scope, id: ConnectionId) -> Place {
    Place { column, environment: scope.environment.into(), row: Uuid::from(id) }
}

/// Secrets as a merchant sends them.
pub struct NewAccount {
    pub key_id: String,
    pub secret_key: SecretString,
    pub webhook_secret: Option<SecretString>,
}

/// Stores a connection. One published connection per environment: a second answers 409.
pub async fn create(
    app: &App,
    scope: Scope,
    id: ConnectionId,
    name: String,
    credentials: &NewAccount,
    metadata: Value,
) -> Result<Connection, ApiError> {
    let now = app.clock.now();
    let key_id = credentials.key_id.clone();
    let connection = Connection {
        id,
        name,
        key_id,
        metadata,
        status: "published".into(),
        created_at: now,
        updated_at: now,
    };
    let sealed = SealedAccount {
        id,
        key_id: connection.key_id.clone(),
        secret_key: app.sealer.seal(place(SECRET_KEY, scope, id), &credentials.secret_key),
        webhook_secret: credentials
            .webhook_secret
            .as_ref()
            .map(|secret| app.sealer.seal(place(WEBHOOK_SECRET, scope, id), secret)),
        previous_webhook_secret: None,
        previous_expires_at: None,
    };
    let inserted = store::insert_connection(&app.pool, scope, &connection, &sealed).await;
    // Whatever the answer: it may have got lost.
    app.known_accounts.forget();
    inserted.map_err(|error| {
        if db::violated_constraint(&error) == Some("connections_one_published") {
            ApiError::already_exists(
                "the environment already has a Razorpay connection; update or delete that one",
            )
        } else {
            error.into()
        }
    })?;
    Ok(connection)
}

/// What a change of a connection names; the rest stays.
#[derive(Default)]
pub struct Change {
    pub name: Option<String>,
    pub metadata: Option<Value>,
    pub key_id: Option<String>,
    pub secret_key: Option<SecretString>,
    pub webhook_secret: Option<SecretString>,
}

/// Changes a connection in place; a replaced webhook secret goes on verifying for 16 days.
pub async fn update(
    app: &App,
    scope: Scope,
    id: ConnectionId,
    change: Change,
) -> Result<Connection, ApiError> {
    let missing = || ApiError::not_found(ConnectionId::NOUN);
    let mut connection = store::find_connection(&app.pool, scope, id).await?.ok_or_else(missing)?;
    let sealed = store::find_account(&app.pool, scope, id).await?.ok_or_else(missing)?;
    let now = app.clock.now();
    connection.name = change.name.unwrap_or(connection.name);
    connection.metadata = change.metadata.unwrap_or(connection.metadata);
    connection.key_id = change.key_id.unwrap_or(connection.key_id);
    connection.updated_at = now;
    let seal = |column, secret: Option<SecretString>| {
        secret.map(|secret| app.sealer.seal(place(column, scope, id), &secret))
    };
    // Saving a form again is no rotation: it must not push the secret before it out.
    let is_current = |new: &SecretString| {
        let current = sealed.webhook_secret.as_ref();
        let current =
            current.and_then(|current| app.sealer.open(place(WEBHOOK_SECRET, scope, id), current).ok());
        current.is_some_and(|current| current.expose_secret() == new.expose_secret())
    };
    let webhook_secret = change.webhook_secret.filter(|new| !is_current(new));
    let previous_expires_at = sealed.webhook_secret.is_some().then(|| now + PREVIOUS_SECRET_KEPT);
    let updated = store::update_connection(
        &app.pool,
        scope,
        &connection,
        seal(SECRET_KEY, change.secret_key),
        seal(WEBHOOK_SECRET, webhook_secret),
        sealed.webhook_secret,
        previous_expires_at,
    )
    .await;
    app.known_accounts.forget();
    if updated? { Ok(connection) } else { Err(missing()) }
}

/// The rule that keeps test and live money apart.
pub fn key_id_fits(mode: Mode, key_id: &str) -> bool {
    let rest = key_id.strip_prefix(match mode {
        Mode::Test => "rzp_test_",
        Mode::Live => "rzp_live_",
    });
    rest.is_some_and(|rest| {
        (1..=64).contains(&rest.len()) && rest.bytes().all(|byte| byte.is_ascii_alphanumeric())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_ids_fit_their_own_mode_only() {
        assert!(key_id_fits(Mode::Test, "rzp_test_1DP5mmOlF5G5ag"));
        assert!(key_id_fits(Mode::Live, "rzp_live_1DP5mmOlF5G5ag"));
        for (mode, key_id) in [
            (Mode::Test, "rzp_live_1DP5mmOlF5G5ag"),
            (Mode::Live, "rzp_test_1DP5mmOlF5G5ag"),
            (Mode::Test, "rzp_test_"),
            (Mode::Test, "RZP_TEST_1DP5mmOlF5G5ag"),
            (Mode::Test, "rzp_test_a:b"),
            (Mode::Test, ""),
        ] {
            assert!(!key_id_fits(mode, key_id), "{key_id}");
        }
    }
}
