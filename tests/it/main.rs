//! Black-box scenarios over the real router, a real Postgres and a Razorpay that answers over HTTP.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod answers;
mod api_keys;
mod architecture;
mod auth;
mod catalog;
mod clock;
mod concurrency;
mod connections;
#[cfg(debug_assertions)]
mod crash;
#[cfg(debug_assertions)]
mod crash_deliveries;
#[cfg(debug_assertions)]
mod crash_idempotency;
mod currencies;
mod customers;
mod database_faults;
mod deliveries;
mod doctor;
mod egress;
mod endpoint_health;
mod environments;
mod event_log;
mod health;
mod idempotency;
mod inbox;
mod invoice_operations;
mod journey;
mod listen;
mod metrics;
mod migrations;
mod money;
mod openapi;
mod overload;
mod payment_operations;
mod provider;
mod rate_limits;
mod razorpay_webhook;
mod reads;
mod reconcile;
mod refunds;
mod replicas;
mod return_page;
mod round_trips;
mod session_bodies;
mod session_input;
mod settings;
mod settle;
mod shutdown;
mod subscription_operations;
mod support;
mod tenancy_matrix;
mod tenant_keys;
mod trigger;
mod unsupported;
mod webhook_endpoints;
