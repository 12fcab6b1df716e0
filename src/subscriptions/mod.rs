//! subscriptions.

pub mod api;
