//! The words of a price.

pub use crate::kit::terms::UnknownTerm;

crate::define_terms! {
    /// How often a price is billed.
    BillingPeriod {
        /// Every day.
        Daily = "DAILY",
        /// Every seven days.
        Weekly = "WEEKLY",
        /// Every calendar month.
        Monthly = "MONTHLY",
        /// Every three months.
        Quarterly = "QUARTERLY",
        /// Every six months.
        HalfYearly = "HALF_YEARLY",
        /// Every twelve months.
        Annual = "ANNUAL",
        /// Once, at the start; always in advance.
        Onetime = "ONETIME",
    }

    /// Whether a period is billed at its start or at its end.
    InvoiceCadence {
        /// At the start of the period.
        Advance = "ADVANCE",
        /// At the end of the period.
        Arrear = "ARREAR",
    }

    /// How an amount follows from a quantity; the figures are in [`super::PriceModel`].
    BillingModel {
        /// An amount per unit.
        FlatFee = "FLAT_FEE",
        /// An amount per package of units.
        Package = "PACKAGE",
        /// An amount per unit that depends on how many there are.
        Tiered = "TIERED",
    }

    /// Which units a tier's amounts apply to.
    TierMode {
        /// The tier that holds the whole quantity prices every unit.
        Volume = "VOLUME",
        /// Each unit is priced by the tier that it falls into.
        Slab = "SLAB",
    }

    /// What happens to a package that is only partly used.
    Rounding {
        /// It is billed.
        Up = "up",
        /// It is not billed.
        Down = "down",
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
mod tests {
    use super::*;

    #[test]
    fn terms_read_back_in_any_letter_case_and_are_written_in_one() {
        for period in BillingPeriod::ALL {
            let text = period.as_str();
            assert_eq!(text.parse(), Ok(*period));
            assert_eq!(text.to_ascii_lowercase().parse(), Ok(*period));
            assert_eq!(serde_json::to_value(period).unwrap(), text);
        }
        assert_eq!("Half_Yearly".parse(), Ok(BillingPeriod::HalfYearly));
        assert_eq!(serde_json::from_str::<InvoiceCadence>("\"arrear\"").unwrap(), InvoiceCadence::Arrear);
        assert_eq!(serde_json::from_str::<Rounding>("\"UP\"").unwrap(), Rounding::Up);
    }

    #[test]
    fn unknown_terms_are_answered_with_the_whole_list() {
        for text in ["", "MONTH", " MONTHLY", "YEARLY"] {
            let error = text.parse::<BillingPeriod>().unwrap_err();
            assert!(error.to_string().contains("QUARTERLY"), "{text}");
        }
        assert_eq!("?".parse::<Rounding>(), Err(UnknownTerm("up, down")));
    }
}
