//! `checkoutd`: a hosted checkout-session service. One binary and Postgres.
//!
//! A merchant's backend posts a session; the service drafts a subscription and an invoice, asks Razorpay
//! for a payment link and returns its URL. When Razorpay reports the payment, the subscription becomes
//! active, the invoice final, and the merchant's endpoints are told. Unpaid, everything drafted is cleaned up.
//!
//! Where things are (ARCHITECTURE.md walks through them):
//!
//! - [`checkout`]: the core, sessions and their state machine
//! - [`tenancy`], [`catalog`], [`customers`], [`subscriptions`], [`invoices`], [`payments`], [`settings`]: a slice per
//!   noun
//! - [`razorpay`]: the provider's client; [`inbox`]: its events; [`sandbox`]: a simulator of it
//! - [`webhooks`]: events to merchants
//! - [`metrics`]: counters and gauges; [`doctor`]: the invariants, against a live database
//! - [`http`], [`db`], [`worker`], [`kit`]: what the slices stand on
//! - [`cli`]: one file per command

pub mod app;
pub mod catalog;
pub mod checkout;
pub mod cli;
pub mod config;
pub mod customers;
pub mod db;
pub mod doctor;
pub mod http;
pub mod inbox;
pub mod invoices;
pub mod kit;
pub mod metrics;
pub mod payments;
pub mod razorpay;
pub mod sandbox;
pub mod settings;
pub mod subscriptions;
pub mod tenancy;
pub mod webhooks;
pub mod worker;
