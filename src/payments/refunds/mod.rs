//! Refunds: captured money that is not a session's goes back, in full. The row comes first, then the call
//! under the row's idempotency key; a refund is followed until Razorpay says how it ended.

pub mod api;
mod close;
mod judge;
mod note;
mod record;
mod refund;
mod retry;
mod send;
mod store;
mod view;

pub use close::{Closed, close as close_refund};
pub use note::{RefundNews, note_refund_in};
pub use record::{NewRefund, record_refund_in};
pub use refund::{RefundId, RefundReason, RefundStatus};
pub use send::SendRefunds;
