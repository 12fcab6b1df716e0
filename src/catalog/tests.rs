//! Prices of any figures, in every currency: what a quantity costs is exact to the minor unit, or an error that says why
//! not. Each expectation is computed in another way than the price itself, in 128 bits.

use proptest::prelude::*;
use serde_json::json;

use super::{
    BillingModel, PriceModel, PricingError, Rounding, Tier, TierMode, Tiers,
    figures::{Figures, TierRequest, TransformQuantity},
};
use crate::{
    http::Violations,
    kit::money::{Currency, Money, every_currency},
};

/// A failure prints its smallest case; no file of seeds is kept.
fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// Units of `quantity` above `end`.
fn beyond(quantity: i64, end: i64) -> i128 {
    (i128::from(quantity) - i128::from(end)).max(0)
}

/// Packages of `size` that `quantity` units fill or, when `started` ones count too, touch.
fn packages(quantity: i64, size: i64, started: bool) -> i128 {
    let (quantity, size) = (i128::from(quantity), i128::from(size));
    if started { -(-quantity).div_euclid(size) } else { quantity.div_euclid(size) }
}

/// Units, and whether the flat amount is due, for each tier.
fn units_by_tier(mode: TierMode, ends: &[Option<i64>], quantity: i64) -> Vec<(i128, bool)> {
    let starts = std::iter::once(0).chain(ends.iter().copied().flatten());
    let slab = starts.zip(ends).map(|(start, end)| {
        let inside = beyond(quantity, start) - end.map_or(0, |end| beyond(quantity, end));
        (inside, inside > 0)
    });
    match mode {
        TierMode::Slab => slab.collect(),
        // The tier that the last unit falls into takes all of them.
        TierMode::Volume => {
            let slab: Vec<_> = slab.collect();
            let last = slab.iter().rposition(|(_, reached)| *reached);
            (0..slab.len())
                .map(|tier| (if last == Some(tier) { i128::from(quantity) } else { 0 }, last == Some(tier)))
                .collect()
        }
    }
}

/// Minor units, exactly.
fn exact(model: &PriceModel, quantity: i64) -> i128 {
    match model {
        PriceModel::FlatFee { amount_minor } => i128::from(*amount_minor) * i128::from(quantity),
        PriceModel::Package { amount_minor, divide_by, round } => {
            i128::from(*amount_minor) * packages(quantity, *divide_by, *round == Rounding::Up)
        }
        PriceModel::Tiered { mode, tiers } => {
            let ends: Vec<_> = tiers.as_slice().iter().map(|tier| tier.up_to).collect();
            let by_tier = units_by_tier(*mode, &ends, quantity);
            let charge = |(tier, (units, reached)): (&Tier, (i128, bool))| {
                units * i128::from(tier.unit_amount_minor)
                    + if reached { i128::from(tier.flat_amount_minor) } else { 0 }
            };
            tiers.as_slice().iter().zip(by_tier).map(charge).sum()
        }
    }
}

/// Small, large, and around the end of 64 bits.
fn figure(least: i64) -> impl Strategy<Value = i64> {
    prop_oneof![3 => least..=1000, 2 => least..=1_000_000_000_000, 1 => least..=i64::MAX, 1 => i64::MAX - 3..=i64::MAX]
}

prop_compose! {
    fn any_tiers()(
        steps in prop::collection::vec((figure(1), figure(0), figure(0)), 0..6),
        (unit, flat) in (figure(0), figure(0)),
    ) -> Tiers {
        let mut tiers: Vec<Tier> = Vec::new();
        let mut end: i64 = 0;
        for (width, unit_amount_minor, flat_amount_minor) in steps {
            let Some(next) = end.checked_add(width) else { break };
            end = next;
            tiers.push(Tier { up_to: Some(end), unit_amount_minor, flat_amount_minor });
        }
        tiers.push(Tier { up_to: None, unit_amount_minor: unit, flat_amount_minor: flat });
        Tiers::new(tiers).expect("ascending and open")
    }
}

fn any_model() -> impl Strategy<Value = PriceModel> {
    let round = || prop_oneof![Just(Rounding::Up), Just(Rounding::Down)];
    let mode = || prop_oneof![Just(TierMode::Volume), Just(TierMode::Slab)];
    prop_oneof![
        figure(0).prop_map(|amount_minor| PriceModel::FlatFee { amount_minor }),
        (figure(0), figure(1), round()).prop_map(|(amount_minor, divide_by, round)| PriceModel::Package {
            amount_minor,
            divide_by,
            round
        }),
        (mode(), any_tiers()).prop_map(|(mode, tiers)| PriceModel::Tiered { mode, tiers }),
    ]
}

/// A quantity at and around the places where something changes.
fn near(model: &PriceModel, quantity: i64) -> Vec<i64> {
    let edges = match model {
        PriceModel::FlatFee { .. } => vec![1],
        PriceModel::Package { divide_by, .. } => vec![*divide_by, divide_by.saturating_mul(2)],
        PriceModel::Tiered { tiers, .. } => tiers.as_slice().iter().filter_map(|tier| tier.up_to).collect(),
    };
    let around = |edge: i64| [edge.saturating_sub(1), edge, edge.saturating_add(1)];
    edges.into_iter().flat_map(around).chain([0, quantity, i64::MAX]).collect()
}

proptest! {
    #![proptest_config(config(256))]

    #[test]
    fn every_model_is_exact_or_says_that_it_is_too_large(model in any_model(), quantity in figure(0)) {
        for quantity in near(&model, quantity) {
            let expected = i64::try_from(exact(&model, quantity)).map_err(|_| PricingError::Overflow);
            prop_assert_eq!(model.amount_minor_for(quantity), expected, "{} units", quantity);
        }
    }
}

/// Millionths of a major unit: finer than any currency, and the same in all of them.
const MILLIONTHS: usize = 6;

fn millionths(text: &str) -> i128 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    format!("{whole}{fraction:0<MILLIONTHS$}").parse().expect("digits")
}

/// As the wire writes it.
fn decimal(millionths: i128) -> String {
    let digits = format!("{millionths:0>7}");
    let (whole, fraction) = digits.split_at(digits.len() - MILLIONTHS);
    let text = format!("{whole}.{fraction}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn fits(text: &str, currency: Currency) -> bool {
    let fraction = text.split_once('.').map_or("", |(_, fraction)| fraction);
    fraction.trim_end_matches('0').len() <= currency.exponent() as usize
}

fn any_amount() -> impl Strategy<Value = String> {
    prop_oneof!["[0-9]{1,7}", "[0-9]{1,7}\\.[0-9]{1,2}", "[0-9]{1,7}\\.[0-9]{1,3}0{0,3}"]
}

prop_compose! {
    /// Tiers as a merchant sends them: their ends, unit amounts and flat amounts.
    fn any_tier_figures()(
        steps in prop::collection::vec((1_i64..5000, any_amount(), any_amount()), 1..5),
    ) -> Vec<(Option<i64>, String, String)> {
        let last = steps.len() - 1;
        let mut end = 0;
        let tier = |(index, (width, unit, flat)): (usize, (i64, String, String))| {
            end += width;
            (Some(end).filter(|_| index < last), unit, flat)
        };
        steps.into_iter().enumerate().map(tier).collect()
    }
}

fn tier_request((up_to, unit, flat): &(Option<i64>, String, String)) -> TierRequest {
    let tier = json!({"up_to": up_to, "unit_amount": unit, "flat_amount": flat});
    serde_json::from_value(tier).expect("a tier")
}

/// What `quantity` costs as decimal text, or that the figures are refused.
fn priced(figures: &Figures, currency: Currency, quantity: i64) -> Option<String> {
    let mut violations = Violations::default();
    let model = figures.clone().parse(currency, &mut violations);
    violations.finish().ok()?;
    let minor = model.expect("a model").amount_minor_for(quantity).expect("64 bits are enough");
    Some(Money::new(minor, currency).decimal())
}

proptest! {
    #![proptest_config(config(24))]

    #[test]
    fn a_price_of_any_decimals_is_charged_exactly_or_refused_in_every_currency(
        amount in any_amount(), quantity in 0_i64..100_000, divide_by in 1_i64..1000, tiers in any_tier_figures(),
    ) {
        for &currency in every_currency() {
            let model = |billing_model| Figures {
                billing_model: Some(billing_model), amount: Some(amount.clone()), ..Figures::default()
            };
            let ok = fits(&amount, currency);
            let expect = |units: i128| ok.then(|| decimal(millionths(&amount) * units));
            let flat = priced(&model(BillingModel::FlatFee), currency, quantity);
            prop_assert_eq!(flat, expect(quantity.into()), "{:?}", currency);
            for (round, started) in [("up", true), ("down", false)] {
                let transform: TransformQuantity =
                    serde_json::from_value(json!({"divide_by": divide_by, "round": round})).expect("a package");
                let package = Figures { transform_quantity: Some(transform), ..model(BillingModel::Package) };
                let expected = expect(packages(quantity, divide_by, started));
                prop_assert_eq!(priced(&package, currency, quantity), expected, "{:?}", currency);
            }
            let ends: Vec<_> = tiers.iter().map(|(end, ..)| *end).collect();
            let ok = tiers.iter().all(|(_, unit, flat)| fits(unit, currency) && fits(flat, currency));
            for mode in [TierMode::Volume, TierMode::Slab] {
                let by_tier = units_by_tier(mode, &ends, quantity);
                let charge = |((_, unit, flat), (units, reached)): (&(_, String, String), (i128, bool))| {
                    millionths(unit) * units + if reached { millionths(flat) } else { 0 }
                };
                let sum: i128 = tiers.iter().zip(by_tier).map(charge).sum();
                let figures = Figures {
                    billing_model: Some(BillingModel::Tiered),
                    tiers: Some(tiers.iter().map(tier_request).collect()),
                    tier_mode: Some(mode),
                    ..Figures::default()
                };
                prop_assert_eq!(priced(&figures, currency, quantity), ok.then(|| decimal(sum)), "{:?} {:?}", currency, mode);
            }
        }
    }
}
