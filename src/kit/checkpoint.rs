//! Places where a test can kill the process: between every two steps that a crash may part.
//!
//! `CHECKOUTD_CHECKPOINT=create.drafted` makes a debug build abort, without any clean-up, when it reaches that
//! point. Release builds have none of this. `tests/it/crash.rs` has a scenario for every name.

/// Aborts if this is the point at which the process was told to die.
#[cfg(debug_assertions)]
pub fn reach(point: &'static str) {
    use std::sync::OnceLock;

    static DEADLY: OnceLock<Option<String>> = OnceLock::new();
    #[expect(clippy::disallowed_methods, reason = "no configuration: it exists in debug builds only")]
    let deadly = DEADLY.get_or_init(|| std::env::var("CHECKOUTD_CHECKPOINT").ok());
    if deadly.as_deref() == Some(point) {
        // The last thing the parent hears: it can tell this death from any other.
        eprintln!("checkpoint {point}");
        std::process::abort();
    }
}

/// Nothing, in release builds.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn reach(_: &'static str) {}
