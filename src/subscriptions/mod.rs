//! Subscriptions: what a paid checkout makes active.

pub mod api;
mod cancel;
mod cancel_due;
mod customer_api;
mod draft;
mod operation_api;
mod period;
mod store;
mod subscription;
mod view;

pub use api::load_response;
pub use cancel_due::CancelDue;
pub use draft::decided_by_checkout;
pub use period::Recurrence;
pub use subscription::{CancellationType, Subscription, SubscriptionLine, SubscriptionStatus};
pub use view::SubscriptionResponse;

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
