//! What each statement is run with, and how much it may read.
//!
//! Values are SQL. `id(1)` is the environment that has nearly everything. By number, session 500001 is completed, 500003
//! expired, 999001 pending and 999961 initiated; what belongs to a session has its number; 9000001 and more are new.

mod billing;
mod checkout;
mod operations;
mod tenancy;
mod webhooks;

/// Rows and buffers that a statement may read where nothing else is said.
const ROWS: f64 = 1_000.0;
const BUFFERS: u64 = 1_000;

/// One run of a statement.
#[derive(Clone, Copy)]
pub struct Case {
    /// As in its first line.
    pub name: &'static str,
    pub values: &'static str,
    pub rows: f64,
    pub buffers: u64,
    /// The service has it planned for its values each time (`db::begin_list`).
    pub is_list: bool,
    /// May go through a table, as it stops at the first row that fits, and these are many.
    pub stops_early: bool,
}

/// A statement with its values.
const fn case(name: &'static str, values: &'static str) -> Case {
    Case { name, values, rows: ROWS, buffers: BUFFERS, is_list: false, stops_early: false }
}

impl Case {
    /// Takes a batch, or steps through something else whose size is bounded: the caller says what.
    const fn up_to(mut self, rows: u32, buffers: u64) -> Self {
        self.rows = rows as f64;
        self.buffers = buffers;
        self
    }

    const fn stops_early(mut self) -> Self {
        self.stops_early = true;
        self
    }

    const fn list(mut self) -> Self {
        self.is_list = true;
        self
    }
}

pub fn all() -> impl Iterator<Item = Case> {
    [checkout::CASES, billing::CASES, webhooks::CASES, operations::CASES, tenancy::CASES].concat().into_iter()
}

/// Statements that read a large table and may, with the reason.
pub const EXCEPTIONS: &[(&str, &str)] = &[
    ("inbox.replay_any_scope", "an operator's: events are named by their id alone"),
    ("inbox.find_status_any_scope", "an operator's: an event is named by its id alone"),
    ("payments.find_scope_any_scope", "an operator's: a refund is named by its id alone"),
];
