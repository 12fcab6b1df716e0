//! Razorpay's API: a client with typed outcomes, its JSON, its signatures. Knows nothing of sessions.

mod client;
mod outcome;
pub mod signature;
mod wire;

pub use client::{Client, Credentials, NewLink, NewRefund};
pub use outcome::ProviderError;
pub use wire::{Customer, Link, LinkStatus, Notes, Payment, PaymentStatus, Refund, RefundStatus};
