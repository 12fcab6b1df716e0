//! Payments: ours, what the provider captured, and what goes back.

pub mod api;
mod facts;
mod payment;
mod refunds;
mod store;
mod update;
mod update_api;
mod view;

pub use api::load_response;
pub use facts::{
    Fate, ProviderPayment, insert_failed_attempt_in, insert_provider_payment_in, is_known_in,
    was_told_by_webhook,
};
pub use payment::{Attempt, DestinationType, Payment, PaymentGateway, PaymentMethodType};
pub use refunds::{
    Closed, NewRefund, RefundId, RefundNews, RefundReason, RefundStatus, SendRefunds, close_refund,
    note_refund_in, record_refund_in,
};
pub use view::PaymentResponse;

use crate::http::Named;

crate::define_ids! {
    /// Our payment: what an invoice expects.
    PaymentId = "pay";
    /// A try to pay.
    AttemptId = "attempt";
}

impl Named for PaymentId {
    const NOUN: &'static str = "payment";
}
