//! Places where a test can kill the process: between every two steps that a crash may part.
//!
//! `CHECKOUTD_CHECKPOINT=create.drafted` makes a debug build abort, without any clean-up, when it reaches that
//! point; `create.drafted*3`, when it does so for the third time. Release builds have none of this. `tests/it/crash.rs`
//! has a scenario for every name.

/// Aborts if this is the point at which the process was told to die.
#[cfg(debug_assertions)]
pub fn reach(point: &'static str) {
    use std::sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    };

    static DEADLY: OnceLock<Option<(String, AtomicU32)>> = OnceLock::new();
    #[expect(clippy::disallowed_methods, reason = "no configuration: it exists in debug builds only")]
    let deadly = DEADLY.get_or_init(|| {
        let told = std::env::var("CHECKOUTD_CHECKPOINT").ok()?;
        let (name, times) = told.split_once('*').unwrap_or((&told, "1"));
        Some((name.to_owned(), AtomicU32::new(times.parse().expect("a number of times"))))
    });
    let Some((name, times)) = deadly else { return };
    // Of those that come at once one finds a single time left; the others come too early or too late.
    if name == point && times.fetch_sub(1, Ordering::Relaxed) == 1 {
        // The last thing the parent hears: it can tell this death from any other.
        eprintln!("checkpoint {point}");
        std::process::abort();
    }
}

/// Nothing, in release builds.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn reach(_: &'static str) {}
