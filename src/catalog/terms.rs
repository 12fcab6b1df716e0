//! The words of a price: closed lists, upper-case on the wire and in the tables, any letter case in.

/// Text that is none of the words of a list. Displays as the rule that it breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be one of {0}")]
pub struct UnknownTerm(pub &'static str);

macro_rules! define_terms {
    ($($(#[$doc:meta])* $name:ident, $list:literal { $($(#[$term_doc:meta])* $term:ident = $text:literal,)+ })+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$term_doc])* $term,)+
        }

        impl $name {
            /// Every one, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$term),+];

            /// As it is written on the wire and in the tables.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$term => $text,)+
                }
            }
        }

        impl std::str::FromStr for $name {
            type Err = UnknownTerm;

            /// Any letter case.
            fn from_str(text: &str) -> Result<Self, UnknownTerm> {
                Self::ALL
                    .iter()
                    .copied()
                    .find(|term| term.as_str().eq_ignore_ascii_case(text))
                    .ok_or(UnknownTerm($list))
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )+};
}

define_terms! {
    /// How often a price is billed.
    BillingPeriod, "DAILY, WEEKLY, MONTHLY, QUARTERLY, HALF_YEARLY, ANNUAL, ONETIME" {
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
    InvoiceCadence, "ADVANCE, ARREAR" {
        /// At the start of the period.
        Advance = "ADVANCE",
        /// At the end of the period.
        Arrear = "ARREAR",
    }

    /// How an amount follows from a quantity; the figures are in [`super::PriceModel`].
    BillingModel, "FLAT_FEE, PACKAGE, TIERED" {
        /// An amount per unit.
        FlatFee = "FLAT_FEE",
        /// An amount per package of units.
        Package = "PACKAGE",
        /// An amount per unit that depends on how many there are.
        Tiered = "TIERED",
    }

    /// Which units a tier's amounts apply to.
    TierMode, "VOLUME, SLAB" {
        /// The tier that holds the whole quantity prices every unit.
        Volume = "VOLUME",
        /// Each unit is priced by the tier that it falls into.
        Slab = "SLAB",
    }

    /// What happens to a package that is only partly used.
    Rounding, "up, down" {
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
    }

    #[test]
    fn the_text_of_each_list_names_exactly_its_terms() {
        macro_rules! check {
            ($($name:ident)+) => {$(
                let words: Vec<&str> = $name::ALL.iter().map(|term| term.as_str()).collect();
                let rule = "?".parse::<$name>().unwrap_err().to_string();
                assert_eq!(rule, format!("must be one of {}", words.join(", ")));
            )+};
        }
        check!(BillingPeriod InvoiceCadence BillingModel TierMode Rounding);
    }
}
