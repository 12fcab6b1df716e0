//! Money: an integer count of minor units and its currency. No floats, no rounding that is not asked for.

use std::{fmt, str::FromStr};

use iso_currency::Currency as IsoCode;

/// An ISO 4217 currency that the service takes, with its exponent.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Currency(IsoCode);

/// Why a text is no money.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// Not an ISO 4217 code in use.
    #[error("must be an ISO 4217 currency code such as INR")]
    UnknownCurrency,
    /// Not a plain decimal number.
    #[error("must be a decimal number such as \"499.00\"")]
    NotDecimal,
    /// Below zero.
    #[error("must not be negative")]
    Negative,
    /// More digits behind the point than the currency has.
    #[error("has more decimal places than the currency allows")]
    TooPrecise,
    /// Larger than 64 bits of minor units.
    #[error("is too large")]
    Overflow,
}

/// Codes of ISO 4217 that nobody pays in: funds, indexed units, and currencies that were replaced.
const NOT_FOR_PAYMENTS: [&str; 16] = [
    "BOV", "CHE", "CHW", "CLF", "COU", "CUC", "HRK", "MXV", "SLL", "USN", "UYI", "UYW", "XAD", "XSU", "XUA",
    "ZWL",
];

impl Currency {
    /// Digits behind the point: JPY 0, INR 2, KWD 3.
    pub fn exponent(self) -> u32 {
        u32::from(self.0.exponent().unwrap_or(2))
    }

    /// Upper-case code, as Razorpay writes it.
    pub fn code(self) -> &'static str {
        self.0.code()
    }

    /// Lower-case code, as the API and the tables write it.
    pub fn lower(self) -> String {
        self.code().to_ascii_lowercase()
    }

    /// The sign people know, such as `₹`.
    pub fn symbol(self) -> String {
        self.0.symbol().to_string()
    }
}

impl FromStr for Currency {
    type Err = MoneyError;

    /// Any letter case; three letters of a currency in use.
    fn from_str(text: &str) -> Result<Self, MoneyError> {
        let code = IsoCode::from_code(&text.to_ascii_uppercase()).ok_or(MoneyError::UnknownCurrency)?;
        // Codes without an exponent are metals, test codes and units of account.
        if code.exponent().is_none() || NOT_FOR_PAYMENTS.contains(&code.code()) {
            return Err(MoneyError::UnknownCurrency);
        }
        Ok(Self(code))
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// An amount in minor units of a currency.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Money {
    /// Minor units: paise, cents, fils; yen for JPY.
    pub minor: i64,
    /// Of this currency.
    pub currency: Currency,
}

impl Money {
    /// `minor` units of `currency`.
    pub fn new(minor: i64, currency: Currency) -> Self {
        Self { minor, currency }
    }

    /// Reads a decimal string of major units exactly: `"499.5"` INR is 49950 minor units.
    /// Digits behind the currency's last must be zeros.
    pub fn parse(text: &str, currency: Currency) -> Result<Self, MoneyError> {
        Ok(Self { minor: parse_minor(text, currency.exponent())?, currency })
    }

    /// The decimal string of the wire: no trailing zeros, no exponent.
    pub fn decimal(self) -> String {
        format_minor(self.minor, self.currency.exponent())
    }
}

impl fmt::Debug for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.decimal(), self.currency.code())
    }
}

fn parse_minor(text: &str, exponent: u32) -> Result<i64, MoneyError> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !plain(whole) || !plain(fraction) || digits.ends_with('.') {
        return Err(MoneyError::NotDecimal);
    }
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > exponent as usize {
        return Err(MoneyError::TooPrecise);
    }
    let mut minor: i64 = 0;
    let padding = std::iter::repeat_n(b'0', exponent as usize - fraction.len());
    for digit in whole.bytes().chain(fraction.bytes()).chain(padding) {
        minor = minor
            .checked_mul(10)
            .and_then(|value| value.checked_add(i64::from(digit - b'0')))
            .ok_or(MoneyError::Overflow)?;
    }
    if negative && minor != 0 { Err(MoneyError::Negative) } else { Ok(minor) }
}

fn format_minor(minor: i64, exponent: u32) -> String {
    let sign = if minor < 0 { "-" } else { "" };
    let scale = 10_u64.pow(exponent);
    let magnitude = minor.unsigned_abs();
    let (whole, fraction) = (magnitude / scale, magnitude % scale);
    if fraction == 0 {
        return format!("{sign}{whole}");
    }
    let padded = format!("{fraction:0width$}", width = exponent as usize);
    format!("{sign}{whole}.{}", padded.trim_end_matches('0'))
}

/// Every currency that the service takes, for tests that leave none out.
#[cfg(test)]
pub(crate) fn every_currency() -> &'static [Currency] {
    static ALL: std::sync::LazyLock<Vec<Currency>> = std::sync::LazyLock::new(|| {
        let letters = || 'A'..='Z';
        let pairs = letters().flat_map(|first| letters().map(move |second| [first, second]));
        let codes = pairs.flat_map(|[first, second]| {
            letters().map(move |third| String::from_iter([first, second, third]))
        });
        codes.filter_map(|code| code.parse().ok()).collect()
    });
    &ALL
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn currency(code: &str) -> Currency {
        code.parse().expect("a known code")
    }

    #[test]
    fn reads_exactly_what_the_currency_can_hold() {
        let inr = |text| Money::parse(text, currency("inr")).map(|money| money.minor);
        assert_eq!(inr("499.00"), Ok(49_900));
        assert_eq!(inr("499.5"), Ok(49_950));
        assert_eq!(inr("0499.500000"), Ok(49_950));
        assert_eq!(inr("499.005"), Err(MoneyError::TooPrecise));
        assert_eq!(inr("-1"), Err(MoneyError::Negative));
        assert_eq!(inr("-0"), Ok(0));
        assert_eq!(inr("92233720368547758.07"), Ok(i64::MAX));
        assert_eq!(inr("92233720368547758.08"), Err(MoneyError::Overflow));
        for junk in ["", ".", "1.", ".5", "1e2", "+1", " 1", "1,000", "NaN", "١", "1.2.3", "--1"] {
            assert_eq!(inr(junk), Err(MoneyError::NotDecimal), "{junk:?}");
        }
        assert_eq!(Money::parse("295", currency("JPY")).map(|money| money.minor), Ok(295));
        assert_eq!(Money::parse("295.5", currency("JPY")), Err(MoneyError::TooPrecise));
        assert_eq!(Money::parse("1.999", currency("KWD")).map(|money| money.minor), Ok(1999));
    }

    #[test]
    fn takes_currencies_people_pay_in() {
        for (code, exponent) in [("INR", 2), ("usd", 2), ("JPY", 0), ("KWD", 3), ("VND", 0), ("EUR", 2)] {
            assert_eq!(currency(code).exponent(), exponent, "{code}");
        }
        for code in ["XAU", "XXX", "XTS", "ZZZ", "", "IN", "INRR", "₹"] {
            assert_eq!(code.parse::<Currency>(), Err(MoneyError::UnknownCurrency), "{code}");
        }
    }

    /// From the tables of ISO 4217, not from the crate.
    #[test]
    fn every_currency_has_the_decimal_places_of_iso_4217() {
        let all = every_currency();
        assert!(all.len() > 150, "{}", all.len());
        let of = |exponent: u32| -> Vec<_> {
            all.iter().filter(|currency| currency.exponent() == exponent).map(|one| one.code()).collect()
        };
        let none = [
            "BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "VND", "VUV", "XAF",
            "XOF", "XPF",
        ];
        assert_eq!(of(0), none);
        assert_eq!(of(3), ["BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"]);
        assert_eq!(of(2).len() + none.len() + 7, all.len());
    }

    /// What `text` comes to in minor units, by moving the point in the text.
    fn by_moving_the_point(text: &str, exponent: usize) -> Result<i64, MoneyError> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let (kept, cut) = fraction.split_at(fraction.len().min(exponent));
        if cut.bytes().any(|digit| digit != b'0') {
            return Err(MoneyError::TooPrecise);
        }
        let moved: u128 = format!("{whole}{kept:0<exponent$}").parse().expect("at most 25 digits");
        i64::try_from(moved).map_err(|_| MoneyError::Overflow)
    }

    /// `text` without zeros that say nothing.
    fn shortest(text: &str) -> String {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let whole = Some(whole.trim_start_matches('0')).filter(|whole| !whole.is_empty()).unwrap_or("0");
        match fraction.trim_end_matches('0') {
            "" => whole.to_owned(),
            fraction => format!("{whole}.{fraction}"),
        }
    }

    fn any_decimal() -> impl Strategy<Value = String> {
        // Around the end of 64 bits too, and with zeros that say nothing.
        prop_oneof!["[0-9]{1,20}", "[0-9]{1,17}\\.[0-9]{1,4}", "0{0,2}[0-9]{1,17}\\.[0-9]{0,2}0{1,3}"]
    }

    proptest! {
        // A failure prints its smallest case; no file of seeds is kept.
        #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn minor_units_read_back_in_every_currency(minor in prop_oneof![0..=i64::MAX, 0..=99_999_i64]) {
            for &currency in every_currency() {
                let money = Money::new(minor, currency);
                prop_assert_eq!(Money::parse(&money.decimal(), currency), Ok(money));
            }
        }

        #[test]
        fn a_decimal_is_kept_exactly_or_refused_in_every_currency(text in any_decimal()) {
            for &currency in every_currency() {
                let expected = by_moving_the_point(&text, currency.exponent() as usize);
                let money = Money::parse(&text, currency);
                prop_assert_eq!(money.map(|money| money.minor), expected, "{} {:?}", text, currency);
                if let Ok(money) = money {
                    prop_assert_eq!(money.decimal(), shortest(&text), "{:?}", currency);
                }
            }
        }
    }
}
