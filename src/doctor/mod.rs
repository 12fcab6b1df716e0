//! `checkoutd doctor`: is what must always be true still true? Read-only, against a live database.
//!
//! `invariants` are shared with the tests, which run them after every scenario; `checks` are about the installation:
//! clocks, secrets, queues, webhooks that do not come.

mod checks;
mod invariants;
mod store;

use serde::Serialize;

pub use checks::examine;
pub use invariants::{INVARIANTS, QUEUES};
pub use store::{Offenders, run};

/// A query that returns a row for everything that is wrong.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// A short name: `I2`, `queue.sessions`.
    pub name: &'static str,
    /// What is true as long as no row is returned.
    pub text: &'static str,
    /// Returns texts. One that starts with a UUID is shown with `prefix`, as the API shows it.
    pub sql: &'static str,
    /// What the UUIDs are of: `chk`, `refund` …
    pub prefix: &'static str,
    /// When it holds.
    pub holds: Holds,
    /// What it means when it does not.
    pub severity: Severity,
}

/// When a rule holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// At any time, however busy the service is: the rows change in one transaction.
    Always,
    /// Once work has had this many seconds to be done; `$1` is the time before which it should have been.
    After(i64),
}

/// How bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nothing.
    Ok,
    /// Worth a look.
    Warn,
    /// Something that must not be.
    Fail,
}

/// What a check found.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// Its short name.
    pub name: &'static str,
    /// What should be true.
    pub text: &'static str,
    /// Whether it is.
    pub status: Severity,
    /// Why not, where that is not told by whom it concerns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whom it concerns; at most [`MOST_OFFENDERS`].
    pub offenders: Vec<String>,
    /// Whether there are more.
    pub more: bool,
    /// Whether it could not be looked at.
    pub unknown: bool,
}

/// So many are named.
pub const MOST_OFFENDERS: usize = 20;
