//! The harness: an application of its own per test, actors that use the public API only, and the audit.

mod actors;
mod app;
mod audit;
mod binary;
mod clock;
mod command;
pub mod db;
pub mod described;
pub mod events;
mod money;
pub mod razorpay;
mod receiver;
mod replica;
mod tcpfault;

pub use actors::{Merchant, Reply};
pub use app::{ENCRYPTION_KEY, KEY_SECRET, Settings, TestApp, WEBHOOK_SECRET, connection, send};
pub use binary::Binary;
pub use clock::MockClock;
pub use command::Command;
pub use receiver::{Received, Receiver, verifies};
pub use tcpfault::Loss;
