//! Environments of a tenant: test ones and live ones, each with data, keys and a connection of its own.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{EnvironmentId, FIRST_KEY, KeyId, Mode, Scope, environment_store as store, key, key_store};
use crate::{
    app::App,
    db,
    http::{ApiError, Caller, Named, Reserved},
};

/// Of each mode: what keys of test environments make must leave room for live ones. They cannot be deleted, and workers
/// go through all of them.
const MAX_ENVIRONMENTS: usize = 50;

/// An environment.
#[derive(Clone, Debug)]
pub struct Environment {
    /// Its id.
    pub id: EnvironmentId,
    /// The merchant's name for it.
    pub name: String,
    /// Test or live; never changes.
    pub mode: Mode,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When its name or a setting of it was last changed.
    pub updated_at: DateTime<Utc>,
}

/// Makes an environment of the caller's tenant with its first key, whose text is shown once: without one nobody could
/// use it. `scope` is the new environment's; with the id of an earlier try, whose answer nobody saw, its key gets a new
/// text. That key is valid for as long as the caller's own.
pub async fn create(
    app: &App,
    caller: Caller,
    scope: Scope,
    name: String,
    mode: Mode,
    reserved: &Reserved,
) -> Result<(Environment, String), ApiError> {
    check_right(caller.mode, mode)?;
    let now = app.clock.now();
    let secret = key::generate(app, mode);
    let text = secret.text.clone();
    // The key has the environment's own number, so that a second try finds it.
    let id = KeyId::from(Uuid::from(scope.environment));
    let key = key::NewKey { id, name: FIRST_KEY.into(), expires_at: caller.expires_at, secret };
    let environment = db::transact(&app.pool, "create_environment", move |tx| {
        let (name, key, reserved) = (name.clone(), key.clone(), reserved.clone());
        Box::pin(async move {
            reserved.fence_in(tx).await?;
            // Two requests at once must not both make the last one.
            store::lock_tenant(tx, scope.tenant).await?;
            if store::count_environments(tx, scope.tenant, mode, scope.environment).await? >= MAX_ENVIRONMENTS
            {
                return Err(ApiError::invalid_operation(format!(
                    "a tenant has at most {MAX_ENVIRONMENTS} {} environments",
                    match mode {
                        Mode::Test => "development",
                        Mode::Live => "production",
                    },
                )));
            }
            let environment = store::put_environment(tx, scope, &name, mode, now).await?;
            let key = key_store::put_key(tx, scope, &key, now).await?;
            environment.filter(|_| key.is_some()).ok_or_else(|| {
                ApiError::already_exists("this request made an environment that was changed since")
            })
        })
    })
    .await?;
    Ok((environment, text))
}

/// Renames an environment of the caller's tenant: with a test key, the caller's own.
pub async fn rename(app: &App, caller: Caller, scope: Scope, name: &str) -> Result<Environment, ApiError> {
    let missing = || ApiError::not_found(EnvironmentId::NOUN);
    store::find_environment(&app.pool, scope).await?.ok_or_else(missing)?;
    if caller.mode == Mode::Test && caller.scope != scope {
        return Err(ApiError::permission_denied(
            "a key of a development environment renames that environment only",
        ));
    }
    let renamed = store::rename_environment(&app.pool, scope, name, app.clock.now()).await?;
    renamed.ok_or_else(missing)
}

/// Test keys lie on laptops and in CI: they make nothing where real money moves.
fn check_right(caller: Mode, environment: Mode) -> Result<(), ApiError> {
    match (caller, environment) {
        (Mode::Test, Mode::Live) => Err(ApiError::permission_denied(
            "a key of a development environment cannot make a production environment",
        )),
        _ => Ok(()),
    }
}

/// How long a customer has to pay in this environment, in seconds; none where the service's own setting applies.
pub async fn session_ttl(app: &App, scope: Scope) -> Result<Option<i32>, db::Error> {
    store::find_session_ttl(&app.pool, scope).await
}

/// Sets how long a customer has to pay in this environment, 1 to 86,400 seconds, or leaves it to the service. For
/// sessions that are made from then on.
pub async fn set_session_ttl(
    app: &App,
    scope: Scope,
    session_ttl_seconds: Option<i32>,
) -> Result<(), db::Error> {
    store::set_session_ttl(&app.pool, scope, session_ttl_seconds, app.clock.now()).await?;
    app.known_keys.forget();
    Ok(())
}
