//! Subscriptions: what a paid checkout makes active.

pub mod api;
mod period;
mod store;
mod subscription;
mod view;

pub use period::Recurrence;
pub use subscription::{Subscription, SubscriptionLine, SubscriptionStatus};

use crate::http::Named;

crate::define_ids! {
    /// A subscription.
    SubscriptionId = "subs";
    /// A price within a subscription.
    SubscriptionLineId = "subs_line";
}

impl Named for SubscriptionId {
    const NOUN: &'static str = "subscription";
}
