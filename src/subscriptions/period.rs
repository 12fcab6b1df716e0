//! Billing periods, pure: every boundary is computed from the anchor, so that a month-end never drifts
//! (31 January → 28 February → 31 March), on the calendar of the customer's time zone.

use chrono::{DateTime, Datelike, Days, MappedLocalTime, Months, NaiveDateTime, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;

use crate::catalog::BillingPeriod;

/// A recurrence: every `count` days, weeks, months …
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recurrence {
    /// The unit; not `Onetime`.
    pub period: BillingPeriod,
    /// At least 1.
    pub count: u32,
}

impl Recurrence {
    /// The `index`-th boundary after `anchor` (0 is the anchor itself); `None` beyond the calendar or for a
    /// period that does not recur.
    ///
    /// A local time that a clock change skips becomes the first moment after the gap; one that occurs twice
    /// means the first.
    pub fn boundary(self, anchor: DateTime<Utc>, zone: Tz, index: u32) -> Option<DateTime<Utc>> {
        let steps = self.count.checked_mul(index)?;
        let local = anchor.with_timezone(&zone).naive_local();
        let shifted = match self.period {
            BillingPeriod::Daily => local.checked_add_days(Days::new(steps.into())),
            BillingPeriod::Weekly => local.checked_add_days(Days::new(u64::from(steps) * 7)),
            BillingPeriod::Monthly => local.checked_add_months(Months::new(steps)),
            BillingPeriod::Quarterly => local.checked_add_months(Months::new(steps.checked_mul(3)?)),
            BillingPeriod::HalfYearly => local.checked_add_months(Months::new(steps.checked_mul(6)?)),
            BillingPeriod::Annual => local.checked_add_months(Months::new(steps.checked_mul(12)?)),
            BillingPeriod::Onetime => None,
        }?;
        // Years beyond have five digits, which RFC 3339 does not know.
        resolve(zone, shifted).filter(|time| time.year() <= 9999)
    }
}

fn resolve(zone: Tz, local: NaiveDateTime) -> Option<DateTime<Utc>> {
    match zone.from_local_datetime(&local) {
        MappedLocalTime::Single(time) | MappedLocalTime::Ambiguous(time, _) => Some(time.to_utc()),
        // No zone ever skipped more than a day.
        MappedLocalTime::None => (1..=96).find_map(|quarters| {
            let later = local.checked_add_signed(TimeDelta::minutes(15 * quarters))?;
            zone.from_local_datetime(&later).earliest().map(|time| time.to_utc())
        }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn utc(text: &str) -> DateTime<Utc> {
        text.parse().expect("a time")
    }

    fn boundaries(anchor: &str, zone: Tz, period: BillingPeriod, count: u32) -> Vec<String> {
        let recurrence = Recurrence { period, count };
        (1..=4)
            .filter_map(|index| recurrence.boundary(utc(anchor), zone, index))
            .map(|time| time.to_rfc3339())
            .collect()
    }

    #[test]
    fn month_ends_never_drift() {
        assert_eq!(
            boundaries("2027-01-31T10:00:00Z", Tz::UTC, BillingPeriod::Monthly, 1),
            [
                "2027-02-28T10:00:00+00:00",
                "2027-03-31T10:00:00+00:00",
                "2027-04-30T10:00:00+00:00",
                "2027-05-31T10:00:00+00:00"
            ],
        );
        assert_eq!(
            boundaries("2024-02-29T00:00:00Z", Tz::UTC, BillingPeriod::Annual, 1),
            [
                "2025-02-28T00:00:00+00:00",
                "2026-02-28T00:00:00+00:00",
                "2027-02-28T00:00:00+00:00",
                "2028-02-29T00:00:00+00:00"
            ],
        );
    }

    #[test]
    fn the_customers_calendar_counts() {
        // 20:00 UTC on the 30th is the 31st in India.
        assert_eq!(
            boundaries("2027-01-30T20:00:00Z", Tz::Asia__Kolkata, BillingPeriod::Monthly, 1)[..2],
            ["2027-02-27T20:00:00+00:00", "2027-03-30T20:00:00+00:00"],
        );
        // Local midnight stays local midnight over a change to summer time.
        assert_eq!(
            boundaries("2027-03-15T04:00:00Z", Tz::America__New_York, BillingPeriod::Weekly, 1)[0],
            "2027-03-22T04:00:00+00:00",
        );
        assert_eq!(
            boundaries("2027-03-01T05:00:00Z", Tz::America__New_York, BillingPeriod::Monthly, 1)[0],
            "2027-04-01T04:00:00+00:00",
        );
    }

    #[test]
    fn a_skipped_hour_moves_to_after_the_gap_and_the_next_boundary_back() {
        // New York skips 02:00 to 03:00 on 14 March 2027.
        assert_eq!(
            boundaries("2027-03-13T07:30:00Z", Tz::America__New_York, BillingPeriod::Daily, 1)[..2],
            ["2027-03-14T07:00:00+00:00", "2027-03-15T06:30:00+00:00"],
        );
    }

    #[test]
    fn counts_multiply_and_one_time_has_no_boundary() {
        assert_eq!(
            boundaries("2027-01-31T00:00:00Z", Tz::UTC, BillingPeriod::Quarterly, 2)[0],
            "2027-07-31T00:00:00+00:00"
        );
        assert_eq!(
            boundaries("2027-08-31T00:00:00Z", Tz::UTC, BillingPeriod::HalfYearly, 1)[0],
            "2028-02-29T00:00:00+00:00"
        );
        assert!(boundaries("2027-01-31T00:00:00Z", Tz::UTC, BillingPeriod::Onetime, 1).is_empty());
    }

    proptest! {
        #[test]
        fn boundaries_only_go_forward(
            seconds in 0_i64..4_000_000_000,
            zone in prop::sample::select(vec![Tz::UTC, Tz::Asia__Kolkata, Tz::America__New_York, Tz::Australia__Lord_Howe, Tz::Pacific__Apia]),
            period in prop::sample::select(vec![BillingPeriod::Daily, BillingPeriod::Weekly, BillingPeriod::Monthly, BillingPeriod::Annual]),
            count in 1_u32..13,
        ) {
            let anchor = Utc.timestamp_opt(seconds, 0).single().expect("in range");
            let recurrence = Recurrence { period, count };
            let times: Vec<_> = (0..6).filter_map(|index| recurrence.boundary(anchor, zone, index)).collect();
            prop_assert_eq!(times.len(), 6);
            prop_assert!(times.windows(2).all(|pair| pair[0] < pair[1]));
        }
    }
}
