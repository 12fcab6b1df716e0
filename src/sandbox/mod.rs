//! A Razorpay simulator.
