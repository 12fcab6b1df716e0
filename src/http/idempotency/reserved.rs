//! What a handler knows of the idempotency key that its request came under.

use std::{convert::Infallible, future::Future, sync::Arc};

use aide::OperationInput;
use axum::{extract::FromRequestParts, http::request::Parts};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{
    in_progress,
    store::{self, Held},
};
use crate::{
    db::{self, TransactError, Tx},
    http::ApiError,
    kit::ids::{Id, Ids},
};

/// The id that is reserved for what the request makes; a fresh one for each request without a key.
///
/// A handler that takes one can run again after it died half-way: see the module's documentation.
#[derive(Clone, Debug, Default)]
pub struct Reserved(Option<Key>);

#[derive(Clone, Debug)]
struct Key {
    /// What this run holds, as long as no other one took it over.
    held: Arc<Held>,
    id: Uuid,
    /// When the key was first used.
    first_at: DateTime<Utc>,
    /// Whether the request ran before, and did not come to an answer that stays.
    is_later: bool,
}

impl Reserved {
    pub(super) fn new(held: &Arc<Held>, id: Uuid, first_at: DateTime<Utc>, is_later: bool) -> Self {
        Self(Some(Key { held: Arc::clone(held), id, first_at, is_later }))
    }

    /// The id of what the request makes.
    pub fn id<T: From<Uuid>>(&self, ids: &Ids) -> T {
        self.0.as_ref().map_or_else(|| ids.uuid(), |key| key.id).into()
    }

    /// Whether the request ran before, and did not come to an answer that stays.
    pub fn is_later(&self) -> bool {
        self.0.as_ref().is_some_and(|key| key.is_later)
    }

    /// The id of what an earlier run of the same request may have made; none on the first run.
    pub fn earlier<T: Id>(&self) -> Option<T> {
        self.0.as_ref().filter(|key| key.is_later).map(|key| key.id.into())
    }

    /// Whether an earlier run may have made a change of this time.
    ///
    /// Or somebody else may have, such as a worker: ask only where the state that the object is in is the one that was
    /// wanted.
    pub fn may_have_made(&self, change_at: DateTime<Utc>) -> bool {
        self.0.as_ref().is_some_and(|key| key.is_later && key.first_at <= change_at)
    }

    /// The first statement of a transaction that replaces something: no other run has taken this one for dead, and until
    /// the transaction ends none does. Without it, a statement that was stuck on the way could undo what a later run
    /// did and answered.
    ///
    /// # Errors
    /// 409 when the lease was lost.
    pub async fn fence_in(&self, tx: &mut Tx) -> Result<(), ApiError> {
        match &self.0 {
            Some(key) if !store::lock_lease(tx, &key.held).await? => Err(in_progress()),
            _ => Ok(()),
        }
    }

    /// Makes an object once, however often the request runs: what an earlier run made is found by its id.
    ///
    /// # Errors
    /// Those of `find` and `make`; 409 when what an earlier run made was deleted meanwhile.
    pub async fn once<T, I, F, M>(
        &self,
        ids: &Ids,
        find: impl Fn(I) -> F,
        make: impl FnOnce(I) -> M,
    ) -> Result<T, ApiError>
    where
        I: Id,
        F: Future<Output = Result<Option<T>, ApiError>>,
        M: Future<Output = Result<T, ApiError>>,
    {
        if let Some(id) = self.earlier()
            && let Some(found) = find(id).await?
        {
            return Ok(found);
        }
        let id = self.id(ids);
        let error = match make(id).await {
            Ok(made) => return Ok(made),
            Err(error) => error,
        };
        if !self.is_later() {
            return Err(error);
        }
        // A run that was taken for dead may still have come to its end between the look and the insert.
        match find(id).await? {
            Some(found) => Ok(found),
            None if is_taken(&error) => Err(deleted()),
            None => Err(error),
        }
    }
}

/// Whether there is a row with that id: one that cannot be found any more.
fn is_taken(error: &ApiError) -> bool {
    let constraint = error.database_error().and_then(db::violated_constraint);
    constraint.is_some_and(|constraint| constraint.ends_with("_pkey"))
}

fn deleted() -> ApiError {
    ApiError::already_exists("what this request made under its Idempotency-Key was deleted")
        .detail("reason", "made_and_deleted")
}

impl<S: Send + Sync> FromRequestParts<S> for Reserved {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get().cloned().unwrap_or_default())
    }
}

/// The header is described for every POST, whether its handler takes this or not.
impl OperationInput for Reserved {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{kit::clock::Clock, tenancy::Scope};

    crate::define_ids! {
        /// A thing.
        ThingId = "thing";
    }

    #[test]
    fn a_key_yields_one_id_and_its_absence_a_fresh_one() {
        let ids = Ids::seeded(1, Clock::system());
        let none = Reserved::default();
        assert_ne!(none.id::<ThingId>(&ids), none.id::<ThingId>(&ids));
        assert_eq!(none.earlier::<ThingId>(), None);
        let now = DateTime::UNIX_EPOCH;
        let scope = Scope { tenant: ids.next(), environment: ids.next() };
        let held = Arc::new(Held { scope, key: "k".into(), token: ids.uuid() });
        let first = Reserved::new(&held, Uuid::from_u128(7), now, false);
        assert_eq!(first.id::<ThingId>(&ids), ThingId::from(Uuid::from_u128(7)));
        assert_eq!(first.earlier::<ThingId>(), None);
        assert!(!first.may_have_made(now));
        let later = Reserved::new(&held, Uuid::from_u128(7), now, true);
        assert_eq!(later.earlier(), Some(ThingId::from(Uuid::from_u128(7))));
        assert!(later.may_have_made(now));
        assert!(!later.may_have_made(now - chrono::TimeDelta::microseconds(1)));
    }
}
