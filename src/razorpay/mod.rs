//! Razorpay.

/// Client.
pub struct Client;
