//! invoices.

pub mod api;
