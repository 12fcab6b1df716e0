//! What a session is about, pure: which prices of the plan apply, and what the first invoice charges.
//!
//! The first invoice has the recurring prices that are billed in advance, for one period, and the one-time
//! prices. Prices billed in arrear become lines of the subscription and are charged at the period's end.

use crate::{
    catalog::{BillingPeriod, InvoiceCadence, Price, PricingError},
    kit::money::{Currency, Money},
    subscriptions::Recurrence,
};

/// The prices of a subscription and what they come to at its start.
#[derive(Debug)]
pub struct Quote {
    /// How often it renews.
    pub recurrence: Recurrence,
    /// One line per price.
    pub lines: Vec<QuoteLine>,
    /// The first invoice's total; above zero.
    pub total: Money,
}

/// One price of the subscription.
#[derive(Debug)]
pub struct QuoteLine {
    /// The price.
    pub price: Price,
    /// Units of it.
    pub quantity: i64,
    /// What the first invoice charges for it; `None` for prices billed in arrear.
    pub charged: Option<Money>,
}

/// Why a plan cannot be subscribed to as asked.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuoteError {
    /// No price in that currency and period.
    #[error("the plan has no price in this currency and billing period")]
    NoMatchingPrice,
    /// Several periods, or several counts of one, and the request does not choose.
    #[error("the plan has several billing periods in this currency: name one")]
    PeriodNotChosen,
    /// A subscription renews; `ONETIME` does not.
    #[error("a subscription needs a recurring billing period")]
    NotRecurring,
    /// Nothing to pay now.
    #[error("the plan's first invoice is zero: a checkout session needs an amount to pay")]
    ZeroTotal,
    /// Razorpay takes amounts of three-decimal currencies in steps of ten minor units.
    #[error("the plan's first invoice must end in 0: of this currency, payments have two decimal places")]
    NotPayable,
    /// More than 64 bits of minor units.
    #[error("the plan's first invoice is too large")]
    Overflow,
}

impl From<PricingError> for QuoteError {
    fn from(_: PricingError) -> Self {
        Self::Overflow
    }
}

/// Picks from a plan's live prices those in `currency` that recur every `count` `period`s, and the one-time ones.
pub fn quote(
    prices: Vec<Price>,
    currency: Currency,
    period: Option<BillingPeriod>,
    count: Option<u32>,
) -> Result<Quote, QuoteError> {
    if period == Some(BillingPeriod::Onetime) {
        return Err(QuoteError::NotRecurring);
    }
    let prices: Vec<_> = prices.into_iter().filter(|price| price.currency == currency).collect();
    let recurrence = choose(&prices, period, count)?;
    let applies = |price: &Price| {
        price.billing_period == BillingPeriod::Onetime || recurrence_of(price) == Some(recurrence)
    };
    let lines = prices.into_iter().filter(applies).map(line).collect::<Result<Vec<_>, _>>()?;
    let total = lines
        .iter()
        .filter_map(|line| line.charged)
        .try_fold(0_i64, |sum, charged| sum.checked_add(charged.minor))
        .ok_or(QuoteError::Overflow)?;
    if total == 0 {
        return Err(QuoteError::ZeroTotal);
    }
    if currency.exponent() == 3 && total % 10 != 0 {
        return Err(QuoteError::NotPayable);
    }
    Ok(Quote { recurrence, lines, total: Money::new(total, currency) })
}

fn choose(
    prices: &[Price],
    period: Option<BillingPeriod>,
    count: Option<u32>,
) -> Result<Recurrence, QuoteError> {
    let asked = |recurrence: &Recurrence| {
        period.is_none_or(|period| recurrence.period == period)
            && count.is_none_or(|count| recurrence.count == count)
    };
    let mut offered = prices.iter().filter_map(recurrence_of).filter(asked);
    let Some(first) = offered.next() else {
        // Only one-time prices: there is nothing to renew, whatever was asked.
        let only_one_time = !prices.is_empty() && prices.iter().all(|price| recurrence_of(price).is_none());
        return Err(if only_one_time && period.is_none() {
            QuoteError::NotRecurring
        } else {
            QuoteError::NoMatchingPrice
        });
    };
    if offered.all(|recurrence| recurrence == first) { Ok(first) } else { Err(QuoteError::PeriodNotChosen) }
}

fn recurrence_of(price: &Price) -> Option<Recurrence> {
    let count = u32::try_from(price.billing_period_count).ok()?;
    let recurs = price.billing_period != BillingPeriod::Onetime;
    recurs.then_some(Recurrence { period: price.billing_period, count })
}

fn line(price: Price) -> Result<QuoteLine, QuoteError> {
    let quantity = price.min_quantity.unwrap_or(1);
    let charged = match price.invoice_cadence {
        InvoiceCadence::Advance => Some(price.amount_for(quantity)?),
        InvoiceCadence::Arrear => None,
    };
    Ok(QuoteLine { price, quantity, charged })
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};
    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::{
        catalog::{PriceModel, Rounding},
        db::RowStatus,
    };

    fn inr() -> Currency {
        "INR".parse().expect("a currency")
    }

    fn price(amount_minor: i64) -> Price {
        let time = DateTime::<Utc>::UNIX_EPOCH;
        Price {
            id: Uuid::nil().into(),
            plan_id: Uuid::nil().into(),
            model: PriceModel::FlatFee { amount_minor },
            billing_period: BillingPeriod::Monthly,
            billing_period_count: 1,
            invoice_cadence: InvoiceCadence::Advance,
            currency: inr(),
            min_quantity: None,
            trial_period_days: 0,
            display_name: "Pro".into(),
            description: String::new(),
            lookup_key: None,
            group_id: None,
            metadata: json!({}),
            start_date: time,
            end_date: None,
            parent_price_id: None,
            status: RowStatus::Published,
            created_at: time,
            updated_at: time,
        }
    }

    fn one_time(amount_minor: i64) -> Price {
        Price { billing_period: BillingPeriod::Onetime, ..price(amount_minor) }
    }

    fn arrear(amount_minor: i64) -> Price {
        Price { invoice_cadence: InvoiceCadence::Arrear, ..price(amount_minor) }
    }

    fn annual(amount_minor: i64) -> Price {
        Price { billing_period: BillingPeriod::Annual, ..price(amount_minor) }
    }

    /// Lines of the subscription, and the first invoice's total.
    fn totals(prices: Vec<Price>, period: Option<BillingPeriod>) -> Result<(usize, i64), QuoteError> {
        quote(prices, inr(), period, None).map(|quote| (quote.lines.len(), quote.total.minor))
    }

    #[test]
    fn charges_advance_and_one_time_and_not_arrear() {
        let prices = vec![price(49_900), one_time(10_000), arrear(7_500), annual(500_000)];
        assert_eq!(totals(prices, Some(BillingPeriod::Monthly)), Ok((3, 59_900)));
    }

    #[test]
    fn the_period_is_the_plans_only_one_unless_named() {
        assert_eq!(totals(vec![price(1), one_time(2)], None), Ok((2, 3)));
        assert_eq!(totals(vec![price(1), annual(2)], None), Err(QuoteError::PeriodNotChosen));
        assert_eq!(totals(vec![price(1), annual(2)], Some(BillingPeriod::Annual)), Ok((1, 2)));
        assert_eq!(totals(vec![price(1)], Some(BillingPeriod::Weekly)), Err(QuoteError::NoMatchingPrice));
        assert_eq!(totals(vec![], None), Err(QuoteError::NoMatchingPrice));
        let quarterly = Price { billing_period_count: 3, ..price(5) };
        assert_eq!(
            totals(vec![price(1), quarterly.clone()], Some(BillingPeriod::Monthly)),
            Err(QuoteError::PeriodNotChosen)
        );
        let chosen = quote(vec![price(1), quarterly], inr(), None, Some(3)).expect("a quote");
        assert_eq!((chosen.recurrence.count, chosen.total.minor), (3, 5));
    }

    #[test]
    fn a_subscription_recurs_and_costs_something_now() {
        assert_eq!(totals(vec![one_time(5)], None), Err(QuoteError::NotRecurring));
        assert_eq!(totals(vec![price(5)], Some(BillingPeriod::Onetime)), Err(QuoteError::NotRecurring));
        assert_eq!(totals(vec![arrear(5)], None), Err(QuoteError::ZeroTotal));
        assert_eq!(totals(vec![price(0)], None), Err(QuoteError::ZeroTotal));
        assert_eq!(totals(vec![price(0), one_time(5)], None), Ok((2, 5)));
    }

    #[test]
    fn other_currencies_are_left_out() {
        let dollars = Price { currency: "USD".parse().expect("a currency"), ..price(5) };
        assert_eq!(totals(vec![dollars.clone()], None), Err(QuoteError::NoMatchingPrice));
        assert_eq!(totals(vec![dollars, price(7)], None), Ok((1, 7)));
    }

    #[test]
    fn quantities_count_and_nothing_overflows() {
        let several = Price { min_quantity: Some(3), ..price(100) };
        assert_eq!(totals(vec![several], None), Ok((1, 300)));
        let packages = Price {
            min_quantity: Some(11),
            model: PriceModel::Package { amount_minor: 100, divide_by: 10, round: Rounding::Up },
            ..price(0)
        };
        assert_eq!(totals(vec![packages], None), Ok((1, 200)));
        let huge = Price { min_quantity: Some(2), ..price(i64::MAX) };
        assert_eq!(totals(vec![huge], None), Err(QuoteError::Overflow));
        assert_eq!(totals(vec![price(i64::MAX), one_time(1)], None), Err(QuoteError::Overflow));
    }

    #[test]
    fn three_decimal_currencies_end_in_zero() {
        let kwd: Currency = "KWD".parse().expect("a currency");
        let dinars =
            |minor| Price { currency: kwd, model: PriceModel::FlatFee { amount_minor: minor }, ..price(0) };
        assert_eq!(
            quote(vec![dinars(1_990)], kwd, None, None).map(|quote| quote.total.minor).ok(),
            Some(1_990)
        );
        assert_eq!(quote(vec![dinars(1_999)], kwd, None, None).err(), Some(QuoteError::NotPayable));
    }
}
