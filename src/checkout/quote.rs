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
