//! Plans: what is sold. Their prices hang below them.

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::store;
use crate::{
    app::App,
    db::{self, RowStatus},
    http::{ApiError, Named},
    tenancy::Scope,
};

crate::define_ids! {
    /// A plan.
    PlanId = "plan";
}

impl Named for PlanId {
    const NOUN: &'static str = "plan";
}

/// What is sold.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its id.
    pub id: PlanId,
    /// What customers read.
    pub name: String,
    /// Free text, may be empty.
    pub description: String,
    /// The merchant's own name, unique among published plans.
    pub lookup_key: Option<String>,
    /// Where it stands in a list of plans.
    pub display_order: Option<i64>,
    /// The merchant's own pairs.
    pub metadata: Value,
    /// The row's own life.
    pub status: RowStatus,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
}

/// What a new plan is made of, checked field by field.
#[derive(Clone, Debug)]
pub struct NewPlan {
    pub name: String,
    pub description: String,
    pub lookup_key: Option<String>,
    pub display_order: Option<i64>,
    pub metadata: Value,
}

/// Stores a plan; 409 when its lookup key is taken.
pub async fn create(app: &App, scope: Scope, id: PlanId, new: NewPlan) -> Result<Plan, ApiError> {
    let now = app.clock.now();
    let plan = Plan {
        id,
        name: new.name,
        description: new.description,
        lookup_key: new.lookup_key,
        display_order: new.display_order,
        metadata: new.metadata,
        status: RowStatus::Published,
        created_at: now,
        updated_at: now,
    };
    store::insert_plan(&app.pool, scope, &plan).await.map_err(|error| taken(error, &plan))?;
    Ok(plan)
}

/// A change of a plan; absent fields stay.
#[derive(Clone, Debug, Default)]
pub struct Change {
    pub name: Option<String>,
    pub description: Option<String>,
    /// Empty clears it.
    pub lookup_key: Option<String>,
    pub display_order: Option<i64>,
    pub metadata: Option<Value>,
}

/// Changes a published plan in place.
pub async fn update(app: &App, scope: Scope, id: PlanId, change: Change) -> Result<Plan, ApiError> {
    let now = app.clock.now();
    db::transact(&app.pool, "update_plan", move |tx| {
        let change = change.clone();
        Box::pin(async move {
            let mut plan = lock(tx, scope, id).await?;
            plan.name = change.name.unwrap_or(plan.name);
            plan.description = change.description.unwrap_or(plan.description);
            if let Some(key) = change.lookup_key {
                plan.lookup_key = Some(key).filter(|key| !key.is_empty());
            }
            plan.display_order = change.display_order.or(plan.display_order);
            plan.metadata = change.metadata.unwrap_or(plan.metadata);
            plan.updated_at = now;
            store::update_plan(tx, scope, &plan).await.map_err(|error| taken(error, &plan))?;
            Ok(plan)
        })
    })
    .await
}

/// Archives a plan that no subscription uses.
pub async fn archive(app: &App, scope: Scope, id: PlanId) -> Result<(), ApiError> {
    let now = app.clock.now();
    db::transact(&app.pool, "archive_plan", move |tx| {
        Box::pin(async move {
            // The lock keeps new subscriptions, whose foreign key shares it, out until the end.
            lock(tx, scope, id).await?;
            if store::plan_is_subscribed(tx, scope, id).await? {
                return Err(ApiError::invalid_operation("the plan has subscriptions; it cannot be deleted")
                    .detail("reason", "plan_in_use"));
            }
            store::archive_plan(tx, scope, id, now).await?;
            Ok(())
        })
    })
    .await
}

async fn lock(tx: &mut db::Tx, scope: Scope, id: PlanId) -> Result<Plan, ApiError> {
    store::lock_plan(tx, scope, id).await?.ok_or_else(|| ApiError::not_found(PlanId::NOUN))
}

fn taken(error: db::Error, plan: &Plan) -> ApiError {
    if db::violated_constraint(&error) == Some("plans_lookup_key_unique") {
        ApiError::already_exists("another plan already has this lookup_key")
            .detail("reason", "lookup_key_taken")
            .detail("lookup_key", plan.lookup_key.clone())
    } else {
        error.into()
    }
}
