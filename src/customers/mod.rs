//! customers.

pub mod api;
