//! Inbound provider events: verified, stored, then turned into facts.
//!
//! An event is stored and settled in one transaction; when settling is not possible yet, it is stored alone
//! and the worker goes on. It is acknowledged only once it is stored. What the worker cannot settle either is
//! parked for people; what concerns nothing of ours is removed after some time.

pub mod api;
mod content;
mod drive;
mod receive;
mod replay;
mod settle;
mod store;
mod sweep;

pub use drive::DriveInbox;
pub use replay::{Replayed, StoredEvent, list, replay, replay_all};
pub use sweep::Sweep;

crate::define_ids! {
    /// A stored provider event.
    InboxId = "inbox";
}
