//! Black-box scenarios over the real router, a real Postgres and a Razorpay that answers over HTTP.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod health;
mod reads;
mod support;
