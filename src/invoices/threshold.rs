//! Amounts in search filters: numbers of major units without a currency, compared exactly.

use serde::{Deserialize, Deserializer, de::Error};
use serde_json::Value;

/// An amount as ten-thousandths of a major unit, the finest that any currency has. Cut, not rounded: an
/// amount is greater than the number exactly when it is greater than this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Threshold(i64);

const DECIMALS: i64 = 4;
/// More digits than 64 bits hold.
const MAX_DIGITS: i64 = 20;

impl Threshold {
    pub fn ten_thousandths(self) -> i64 {
        self.0
    }

    /// Reads JSON's form of a number, exponent included; the error is the rule that is broken.
    fn parse(text: &str) -> Result<Self, &'static str> {
        const NOT_A_NUMBER: &str = "must be a number of major units such as 499.5";
        let (negative, number) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = format!("{whole}{fraction}");
        if whole.is_empty() || mantissa.ends_with('.') || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(NOT_A_NUMBER);
        }
        let exponent: i32 = exponent.parse().map_err(|_| NOT_A_NUMBER)?;
        if digits.bytes().all(|byte| byte == b'0') {
            return Ok(Self(0));
        }
        // Every amount is greater than any number below zero.
        if negative {
            return Ok(Self(-1));
        }
        let zeros = digits.bytes().take_while(|&byte| byte == b'0').count();
        let integral = i64::try_from(whole.len()).unwrap_or(i64::MAX).saturating_add(exponent.into());
        let kept = integral.saturating_add(DECIMALS) - i64::try_from(zeros).unwrap_or(i64::MAX);
        if kept > MAX_DIGITS {
            return Err("is too large");
        }
        let kept = usize::try_from(kept).unwrap_or(0);
        let padded = digits[zeros..].bytes().chain(std::iter::repeat(b'0')).take(kept);
        padded
            .into_iter()
            .try_fold(0_i64, |value, digit| value.checked_mul(10)?.checked_add(i64::from(digit - b'0')))
            .map(Self)
            .ok_or("is too large")
    }
}

/// For `#[serde(default, deserialize_with = "optional_threshold")]`: a JSON number, or its text, which keeps
/// digits that a JSON number loses beyond the 15th.
pub fn optional_threshold<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Threshold>, D::Error> {
    let text = match Value::deserialize(deserializer)? {
        Value::Null => return Ok(None),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text,
        _ => return Err(D::Error::custom("must be a number of major units such as 499.5")),
    };
    Threshold::parse(&text).map(Some).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: Value) -> Result<Option<i64>, String> {
        let read = optional_threshold(value).map_err(|error| error.to_string());
        read.map(|threshold| threshold.map(Threshold::ten_thousandths))
    }

    #[test]
    fn numbers_are_read_exactly() {
        for (value, expected) in [
            (json!(499), 4_990_000),
            (json!(499.05), 4_990_500),
            (json!(0.1), 1000),
            (json!(0.29), 2900),
            (json!(1e3), 10_000_000),
            (json!(0), 0),
            (json!(-0.0), 0),
            (json!(-0.5), -1),
            (json!(1e-7), 0),
            (json!("0.00019"), 1),
            (json!("4.99E2"), 4_990_000),
            (json!("1e+2"), 1_000_000),
            (json!("00499.0500"), 4_990_500),
            (json!("499.049999999999999999999"), 4_990_499),
            (json!("922337203685477.5807"), i64::MAX),
        ] {
            assert_eq!(read(value.clone()), Ok(Some(expected)), "{value}");
        }
        assert_eq!(read(json!(null)), Ok(None));
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for value in
            [json!(""), json!("."), json!("1."), json!(".5"), json!("1e"), json!("1e1.5"), json!("NaN")]
                .into_iter()
                .chain([
                    json!("+1"),
                    json!(" 1"),
                    json!("1,000"),
                    json!("--1"),
                    json!([1]),
                    json!(true),
                    json!({}),
                ])
        {
            assert!(read(value.clone()).expect_err("refused").contains("must be a number"), "{value}");
        }
        for value in [json!("922337203685477.5808"), json!(1e300), json!("1e2147483647"), json!(u64::MAX)] {
            assert!(read(value.clone()).expect_err("refused").contains("too large"), "{value}");
        }
        assert_eq!(read(json!("1e-2147483648")), Ok(Some(0)));
    }
}
