//! Subscriptions: what a paid checkout makes active.

pub mod api;
mod period;

pub use period::Recurrence;

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
