//! Invoice numbers, such as `INV-202611-00001`: the month, then the environment's counter.

use chrono::{DateTime, Utc};

/// The parts of a number, in their order but for the separator.
#[derive(Clone, Copy, Debug)]
pub struct NumberFormat {
    /// Stands first.
    pub prefix: &'static str,
    /// Then the month in this form, in UTC.
    pub date: &'static str,
    /// Between the parts.
    pub separator: &'static str,
    /// The least number of digits of the counter, which `checkout.mark_completed` fills up with zeros.
    pub digits: u32,
}

/// Of every environment.
pub const NUMBER_FORMAT: NumberFormat =
    NumberFormat { prefix: "INV", date: "YYYYMM", separator: "-", digits: 5 };

/// All of a number but its counter, of an invoice that becomes final at `at`.
pub fn number_prefix(at: DateTime<Utc>) -> String {
    let NumberFormat { prefix, separator, .. } = NUMBER_FORMAT;
    format!("{prefix}{separator}{}{separator}", at.format("%Y%m"))
}
