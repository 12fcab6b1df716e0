//! What follows an attempt: nothing more, another one later, or giving up. Pure.

use std::time::Duration;

use chrono::{DateTime, NaiveDateTime, Utc};
use reqwest::StatusCode;

use super::egress::{Answer, SendError};
use crate::kit::backoff::jittered;

/// Gaps after the first, second … attempt. Ten attempts in about three days.
const GAPS: [Duration; 9] = [
    Duration::from_secs(5),
    Duration::from_mins(5),
    Duration::from_mins(30),
    Duration::from_hours(2),
    Duration::from_hours(5),
    Duration::from_hours(10),
    Duration::from_hours(14),
    Duration::from_hours(20),
    Duration::from_hours(24),
];
const JITTER: f64 = 0.2;

/// What follows an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The endpoint took it.
    Delivered,
    /// The endpoint said 410: it wants nothing any more.
    Gone,
    /// Another attempt after this long.
    Retry(Duration),
    /// That was the last attempt.
    Exhausted,
}

impl Verdict {
    /// A word for metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Gone => "gone",
            Self::Retry(_) => "retry",
            Self::Exhausted => "exhausted",
        }
    }
}

/// Judges attempt number `attempt` (from 1), which ended at `now`. `fraction` in `0.0..1.0` places the next
/// one within its jitter.
pub fn judge(
    attempt: usize,
    result: &Result<Answer, SendError>,
    now: DateTime<Utc>,
    fraction: f64,
) -> Verdict {
    let asked = match result {
        Ok(answer) if answer.status.is_success() => return Verdict::Delivered,
        Ok(answer) if answer.status == StatusCode::GONE => return Verdict::Gone,
        Ok(answer) => answer.retry_after.as_deref().and_then(|text| parse_retry_after(text, now)),
        Err(_) => None,
    };
    let Some(&gap) = attempt.checked_sub(1).and_then(|index| GAPS.get(index)) else {
        return Verdict::Exhausted;
    };
    let planned = jittered(gap, JITTER, fraction);
    // An endpoint may ask for patience, but neither for haste nor for silence.
    Verdict::Retry(asked.map_or(planned, |asked| planned.max(asked.clamp(gap, 2 * gap))))
}

/// RFC 9110, 10.2.3: seconds, or an HTTP date in any of its three forms; a date in the past is zero.
fn parse_retry_after(text: &str, now: DateTime<Utc>) -> Option<Duration> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let formats = ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"];
    let date = formats.iter().find_map(|format| NaiveDateTime::parse_from_str(text, format).ok())?;
    Some((date.and_utc() - now).to_std().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(784_111_777, 0).expect("Sun, 06 Nov 1994 08:49:37 GMT")
    }

    fn answer(status: StatusCode, retry_after: Option<&str>) -> Answer {
        Answer { status, retry_after: retry_after.map(Into::into), body: String::new() }
    }

    #[test]
    fn a_status_decides() {
        let verdict = |status| judge(1, &Ok(answer(status, None)), now(), 0.5);
        assert_eq!(verdict(StatusCode::OK), Verdict::Delivered);
        assert_eq!(verdict(StatusCode::NO_CONTENT), Verdict::Delivered);
        assert_eq!(verdict(StatusCode::GONE), Verdict::Gone);
        for status in [301, 307, 400, 404, 429, 500, 503, 599] {
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(verdict(status), Verdict::Retry(Duration::from_secs(5)), "{status}");
        }
        assert_eq!(judge(1, &Err(SendError::TimedOut), now(), 0.5), Verdict::Retry(Duration::from_secs(5)));
    }

    #[test]
    fn there_are_ten_attempts_on_the_published_schedule() {
        let failed = Ok(answer(StatusCode::INTERNAL_SERVER_ERROR, None));
        let minutes = 60;
        let hours = 60 * minutes;
        let published = [
            5,
            5 * minutes,
            30 * minutes,
            2 * hours,
            5 * hours,
            10 * hours,
            14 * hours,
            20 * hours,
            24 * hours,
        ];
        for (index, seconds) in published.into_iter().enumerate() {
            let gap = Duration::from_secs(seconds);
            let verdict = |fraction| judge(index + 1, &failed, now(), fraction);
            assert_eq!(verdict(0.0), Verdict::Retry(gap.mul_f64(0.8)));
            assert_eq!(verdict(0.5), Verdict::Retry(gap));
            assert!(matches!(verdict(0.999), Verdict::Retry(wait) if wait > gap && wait < gap.mul_f64(1.2)));
        }
        assert_eq!(judge(10, &failed, now(), 0.5), Verdict::Exhausted);
        assert_eq!(judge(11, &failed, now(), 0.5), Verdict::Exhausted);
    }

    #[test]
    fn retry_after_is_honoured_between_one_and_two_gaps() {
        // After the second attempt the gap is 300 s; a fraction of 0 alone would make it 240 s.
        for (text, seconds) in [
            ("0", 300),
            ("300", 300),
            ("450", 450),
            (" 450 ", 450),
            ("600", 600),
            ("1000000000", 600),
            ("99999999999999999999999999", 600),
            ("Sun, 06 Nov 1994 08:57:07 GMT", 450),
            ("Sunday, 06-Nov-94 08:57:07 GMT", 450),
            ("Sun Nov  6 08:57:07 1994", 450),
            ("Fri, 31 Dec 1999 23:59:59 GMT", 600),
            ("Sat, 05 Nov 1994 08:49:37 GMT", 300),
            // Not a Retry-After: the schedule alone.
            ("", 240),
            ("soon", 240),
            ("-5", 240),
            ("1.5", 240),
            ("Mon, 06 Nov 1994 08:57:07 GMT", 240),
        ] {
            let verdict = judge(2, &Ok(answer(StatusCode::SERVICE_UNAVAILABLE, Some(text))), now(), 0.0);
            assert_eq!(verdict, Verdict::Retry(Duration::from_secs(seconds)), "{text:?}");
        }
    }
}
