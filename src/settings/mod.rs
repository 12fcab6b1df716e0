//! Settings: what a merchant sets for an environment, and what applies while nothing is set.

pub mod api;
mod setting;
