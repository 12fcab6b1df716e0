//! catalog.

pub mod api;
