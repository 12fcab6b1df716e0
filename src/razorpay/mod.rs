//! Razorpay's API: a client with typed outcomes, its JSON, its signatures. Knows nothing of sessions.

mod client;
mod outcome;
mod pace;
pub mod signature;
mod wire;

pub use client::{Client, Credentials, NewLink, NewRefund};
pub use outcome::ProviderError;
pub use pace::Pace;
pub use wire::{Customer, Link, LinkStatus, Notes, Payment, PaymentStatus, Refund, RefundStatus};
