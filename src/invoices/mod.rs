//! Invoices: drafted with a session, numbered and final once it is paid.

pub mod api;
mod invoice;
mod number;
mod operation;
mod operation_api;
mod store;
mod threshold;
mod view;

pub use api::{find_latest_response, load_response};
pub use invoice::{BillingReason, Invoice, InvoiceLine, InvoiceStatus, InvoiceType, PaymentStatus};
pub use number::{NUMBER_FORMAT, NumberFormat, number_prefix};
pub use view::InvoiceResponse;

use crate::http::Named;

crate::define_ids! {
    /// An invoice.
    InvoiceId = "inv";
    /// A charge on an invoice.
    InvoiceLineId = "inv_line";
}

impl Named for InvoiceId {
    const NOUN: &'static str = "invoice";
}
