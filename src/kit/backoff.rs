//! Retry arithmetic, in Rust and never in SQL: volatile functions in an UPDATE do not shard.

use std::time::Duration;

use chrono::TimeDelta;

/// `gap` moved by up to `ratio` (0.2 = ±20 %) according to `fraction` in `0.0..1.0`, so that many
/// retries that failed together do not come back together.
pub fn jittered(gap: Duration, ratio: f64, fraction: f64) -> Duration {
    gap.mul_f64(1.0 - ratio + 2.0 * ratio * fraction)
}

/// `base`, doubled `attempt` times, at most `cap`.
pub fn exponential(base: Duration, attempt: u32, cap: Duration) -> Duration {
    base.saturating_mul(1_u32.checked_shl(attempt).unwrap_or(u32::MAX)).min(cap)
}

/// When a row that failed `attempts` times is due again: `base` doubled each time, at most `cap`, ±20 %.
pub fn after(attempts: i32, base: Duration, cap: Duration, fraction: f64) -> TimeDelta {
    let gap = exponential(base, u32::try_from(attempts).unwrap_or(0), cap);
    TimeDelta::from_std(jittered(gap, 0.2, fraction)).unwrap_or(TimeDelta::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_within_its_bounds() {
        let gap = Duration::from_secs(300);
        assert_eq!(jittered(gap, 0.2, 0.0), Duration::from_secs(240));
        assert_eq!(jittered(gap, 0.2, 0.5), gap);
        assert!(jittered(gap, 0.2, 0.999_999) < Duration::from_secs(360));
        assert_eq!(exponential(Duration::from_secs(1), 3, Duration::from_secs(60)), Duration::from_secs(8));
        assert_eq!(exponential(Duration::from_secs(1), 40, Duration::from_secs(60)), Duration::from_secs(60));
    }
}
