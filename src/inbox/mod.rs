//! Inbound provider events: verified, stored, then turned into facts.
//!
//! An event is stored and settled in one transaction; when settling is not possible yet, it is stored alone
//! and the worker goes on. It is acknowledged only once it is stored.

pub mod api;
mod content;
mod drive;
mod receive;
mod store;

pub use drive::DriveInbox;

crate::define_ids! {
    /// A stored provider event.
    InboxId = "inbox";
}
