//! Keys in the hands of the service's operator: of any tenant, when one leaked or none is left.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::{
    EnvironmentId, KeyId, Mode, TenantId,
    key::{self, NewKey},
    key_store, operator_store as store,
};
use crate::{app::App, db, http::forget_answer_in};

/// A tenant's key, without its text.
#[derive(Debug, Serialize)]
pub struct TenantKey {
    /// Its record.
    pub id: KeyId,
    /// What its maker called it.
    pub name: String,
    /// Tells keys apart, as in the API.
    pub display_id: String,
    /// The environment that it opens.
    pub environment_id: EnvironmentId,
    /// That environment's name.
    pub environment_name: String,
    /// That environment's mode.
    pub mode: Mode,
    /// `valid`, `expired` or `revoked`.
    pub status: &'static str,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it stops being valid; none for never.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was revoked.
    pub revoked_at: Option<DateTime<Utc>>,
}

/// Every key that the tenant ever had, by environment, the oldest first. None when there is no such tenant.
pub async fn list_keys(app: &App, tenant: TenantId) -> Result<Option<Vec<TenantKey>>, db::Error> {
    let now = app.clock.now();
    let keys = store::list_keys_any_scope(&app.pool, tenant).await?;
    let shown = keys.into_iter().map(|found| {
        let key = found.key;
        TenantKey {
            display_id: key.display_id(found.mode),
            id: key.id,
            name: key.name,
            environment_id: found.environment,
            environment_name: found.environment_name,
            mode: found.mode,
            status: match (key.revoked_at, key.expires_at) {
                (Some(_), _) => "revoked",
                (None, Some(expires_at)) if expires_at <= now => "expired",
                _ => "valid",
            },
            created_at: key.created_at,
            expires_at: key.expires_at,
            revoked_at: key.revoked_at,
        }
    });
    let shown: Vec<_> = shown.collect();
    // A tenant is made with keys, and keys are not deleted.
    Ok((!shown.is_empty()).then_some(shown))
}

/// What came of revoking a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revoked {
    /// It was valid until now.
    Now,
    /// It was revoked already.
    Before,
    /// There is no such key.
    Unknown,
}

/// Revokes any key, the last one too: within five seconds requests with it are refused. Its text goes with it,
/// as by the API.
pub async fn revoke_key(app: &App, id: KeyId) -> Result<Revoked, db::Error> {
    let now = app.clock.now();
    let was_valid = db::transact(&app.pool, "revoke_any_api_key", move |tx| {
        Box::pin(async move {
            let was_valid = store::revoke_key_any_scope(tx, id, now).await?;
            if was_valid.is_some() {
                forget_answer_in(tx, id.into()).await?;
            }
            Ok::<_, db::Error>(was_valid)
        })
    })
    .await?;
    app.known_keys.forget();
    Ok(match was_valid {
        Some(true) => Revoked::Now,
        Some(false) => Revoked::Before,
        None => Revoked::Unknown,
    })
}

/// A key that the operator made. Its text is shown here once and never again.
#[derive(Debug, Serialize)]
pub struct OperatorKey {
    /// Its record.
    pub id: KeyId,
    /// The environment that it opens.
    pub environment_id: EnvironmentId,
    /// That environment's mode.
    pub mode: Mode,
    /// The key.
    pub api_key: String,
}

/// Makes a key of the environment that does not expire; none when there is no such environment. No limit holds it up:
/// whoever has a leaked key may have made as many as there can be.
pub async fn create_key(
    app: &App,
    environment: EnvironmentId,
    name: &str,
) -> Result<Option<OperatorKey>, db::Error> {
    let Some((scope, mode)) = store::find_environment_any_scope(&app.pool, environment).await? else {
        return Ok(None);
    };
    let secret = key::generate(app, mode);
    let new = NewKey { id: app.ids.next(), name: name.to_owned(), expires_at: None, secret };
    let (id, api_key) = (new.id, new.secret.text.clone());
    let now = app.clock.now();
    db::transact(&app.pool, "create_operator_key", move |tx| {
        let new = new.clone();
        Box::pin(async move { key_store::put_key(tx, scope, &new, now).await })
    })
    .await?;
    Ok(Some(OperatorKey { id, environment_id: environment, mode, api_key }))
}
