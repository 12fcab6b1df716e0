//! What a quantity costs: integer minor units, checked at every step, no rounding but that of packages.

use serde::{Deserialize, Serialize};

use super::terms::{BillingModel, Rounding, TierMode};

/// The figures of a price. All amounts are minor units of the price's currency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PriceModel {
    /// `amount_minor` for each unit.
    FlatFee {
        /// Of one unit.
        amount_minor: i64,
    },
    /// `amount_minor` for each package of `divide_by` units.
    Package {
        /// Of one package.
        amount_minor: i64,
        /// Units in a package, at least 1.
        divide_by: i64,
        /// Whether a package that is only partly used is billed.
        round: Rounding,
    },
    /// Amounts that depend on the quantity.
    Tiered {
        /// Which units a tier prices.
        mode: TierMode,
        /// The tiers, known to be complete.
        tiers: Tiers,
    },
}

/// One step of a tiered price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tier {
    /// The last unit that it holds; none in the last tier.
    pub up_to: Option<i64>,
    /// For each unit, minor units of the currency.
    pub unit_amount_minor: i64,
    /// Once, when the tier is reached; minor units of the currency.
    pub flat_amount_minor: i64,
}

/// Tiers in ascending order whose last is open: every quantity lies in exactly one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tiers(Vec<Tier>);

/// Why a list is no [`Tiers`]. Displays as the rule that it breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TiersError {
    /// No tier at all.
    #[error("must have at least one tier")]
    Empty,
    /// The last tier has an end.
    #[error("must end with a tier whose up_to is null")]
    NotOpen,
    /// Some tier ends before it begins, or is open and not the last.
    #[error("must have ascending up_to values of at least 1, null only in the last tier")]
    NotAscending,
}

impl Tiers {
    /// Checks that the tiers cover every quantity once.
    pub fn new(tiers: Vec<Tier>) -> Result<Self, TiersError> {
        let (last, bounded) = tiers.split_last().ok_or(TiersError::Empty)?;
        if last.up_to.is_some() {
            return Err(TiersError::NotOpen);
        }
        let mut previous = 0;
        for tier in bounded {
            let up_to = tier.up_to.filter(|&up_to| up_to > previous).ok_or(TiersError::NotAscending)?;
            previous = up_to;
        }
        Ok(Self(tiers))
    }

    /// The tiers, ascending.
    pub fn as_slice(&self) -> &[Tier] {
        &self.0
    }
}

/// Why a quantity has no amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PricingError {
    /// Fewer than no units.
    #[error("the quantity is negative")]
    NegativeQuantity,
    /// More than 64 bits of minor units.
    #[error("the amount is too large")]
    Overflow,
}

impl PriceModel {
    /// The wire's name of the model.
    pub fn billing_model(&self) -> BillingModel {
        match self {
            Self::FlatFee { .. } => BillingModel::FlatFee,
            Self::Package { .. } => BillingModel::Package,
            Self::Tiered { .. } => BillingModel::Tiered,
        }
    }

    /// What `quantity` units cost, in minor units. Nothing costs nothing, flat amounts included.
    pub fn amount_minor_for(&self, quantity: i64) -> Result<i64, PricingError> {
        if quantity < 0 {
            return Err(PricingError::NegativeQuantity);
        }
        if quantity == 0 {
            return Ok(0);
        }
        let amount = match self {
            Self::FlatFee { amount_minor } => amount_minor.checked_mul(quantity),
            Self::Package { amount_minor, divide_by, round } => {
                amount_minor.checked_mul(packages(quantity, *divide_by, *round))
            }
            Self::Tiered { mode: TierMode::Volume, tiers } => volume(tiers, quantity),
            Self::Tiered { mode: TierMode::Slab, tiers } => slab(tiers, quantity),
        };
        amount.ok_or(PricingError::Overflow)
    }
}

fn packages(quantity: i64, divide_by: i64, round: Rounding) -> i64 {
    let whole = quantity / divide_by;
    match round {
        Rounding::Up if quantity % divide_by > 0 => whole + 1,
        Rounding::Up | Rounding::Down => whole,
    }
}

/// The tier that holds the whole quantity prices all of it.
fn volume(tiers: &Tiers, quantity: i64) -> Option<i64> {
    let holds = |tier: &&Tier| tier.up_to.is_none_or(|up_to| quantity <= up_to);
    let tier = tiers.0.iter().find(holds)?;
    tier.unit_amount_minor.checked_mul(quantity)?.checked_add(tier.flat_amount_minor)
}

/// Each tier prices the units that fall into it.
fn slab(tiers: &Tiers, quantity: i64) -> Option<i64> {
    let mut sum: i64 = 0;
    let mut priced = 0;
    for tier in &tiers.0 {
        let end = tier.up_to.map_or(quantity, |up_to| up_to.min(quantity));
        let amount = tier.unit_amount_minor.checked_mul(end - priced)?.checked_add(tier.flat_amount_minor)?;
        sum = sum.checked_add(amount)?;
        priced = end;
        if priced == quantity {
            break;
        }
    }
    Some(sum)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tier(up_to: Option<i64>, unit_amount_minor: i64, flat_amount_minor: i64) -> Tier {
        Tier { up_to, unit_amount_minor, flat_amount_minor }
    }

    fn tiered(mode: TierMode, tiers: Vec<Tier>) -> PriceModel {
        PriceModel::Tiered { mode, tiers: Tiers::new(tiers).unwrap() }
    }

    #[test]
    fn flat_fee_is_per_unit() {
        let model = PriceModel::FlatFee { amount_minor: 49_900 };
        assert_eq!(model.amount_minor_for(0), Ok(0));
        assert_eq!(model.amount_minor_for(3), Ok(149_700));
        assert_eq!(model.amount_minor_for(-1), Err(PricingError::NegativeQuantity));
        assert_eq!(model.amount_minor_for(i64::MAX), Err(PricingError::Overflow));
    }

    #[test]
    fn packages_round_as_they_say() {
        let model = |round| PriceModel::Package { amount_minor: 1000, divide_by: 10, round };
        for (quantity, up, down) in
            [(1, 1000, 0), (9, 1000, 0), (10, 1000, 1000), (11, 2000, 1000), (20, 2000, 2000)]
        {
            assert_eq!(model(Rounding::Up).amount_minor_for(quantity), Ok(up), "{quantity}");
            assert_eq!(model(Rounding::Down).amount_minor_for(quantity), Ok(down), "{quantity}");
        }
        assert_eq!(model(Rounding::Up).amount_minor_for(i64::MAX), Err(PricingError::Overflow));
        let one = PriceModel::Package { amount_minor: 1, divide_by: i64::MAX, round: Rounding::Up };
        assert_eq!(one.amount_minor_for(i64::MAX), Ok(1));
    }

    #[test]
    fn volume_prices_all_units_by_the_tier_of_the_whole() {
        let model =
            tiered(TierMode::Volume, vec![tier(Some(10), 100, 0), tier(Some(20), 80, 50), tier(None, 50, 0)]);
        for (quantity, amount) in [(0, 0), (1, 100), (10, 1000), (11, 930), (20, 1650), (21, 1050)] {
            assert_eq!(model.amount_minor_for(quantity), Ok(amount), "{quantity}");
        }
    }

    #[test]
    fn slab_prices_each_unit_by_its_own_tier() {
        let model =
            tiered(TierMode::Slab, vec![tier(Some(10), 100, 0), tier(Some(20), 80, 50), tier(None, 50, 7)]);
        for (quantity, amount) in
            [(0, 0), (1, 100), (10, 1000), (11, 1130), (20, 1850), (21, 1907), (22, 1957)]
        {
            assert_eq!(model.amount_minor_for(quantity), Ok(amount), "{quantity}");
        }
    }

    #[test]
    fn tiers_cover_every_quantity_once() {
        let tiers = |ends: &[Option<i64>]| Tiers::new(ends.iter().map(|&end| tier(end, 1, 0)).collect());
        assert!(tiers(&[None]).is_ok());
        assert!(tiers(&[Some(1), Some(2), None]).is_ok());
        assert_eq!(tiers(&[]), Err(TiersError::Empty));
        assert_eq!(tiers(&[Some(10)]), Err(TiersError::NotOpen));
        for ends in [[Some(0), None], [None, None], [Some(-1), None]] {
            assert_eq!(tiers(&ends), Err(TiersError::NotAscending));
        }
        assert_eq!(tiers(&[Some(10), Some(10), None]), Err(TiersError::NotAscending));
        assert_eq!(tiers(&[Some(10), Some(9), None]), Err(TiersError::NotAscending));
    }

    /// Unit by unit, in 128 bits: slow and plainly right.
    fn unit_by_unit(tiers: &[Tier], quantity: i64) -> i128 {
        let mut sum = 0;
        let mut current = None;
        for unit in 1..=quantity {
            let index = tiers.iter().position(|tier| tier.up_to.is_none_or(|up_to| unit <= up_to)).unwrap();
            if current != Some(index) {
                sum += i128::from(tiers[index].flat_amount_minor);
                current = Some(index);
            }
            sum += i128::from(tiers[index].unit_amount_minor);
        }
        sum
    }

    prop_compose! {
        fn any_tiers()(
            steps in prop::collection::vec((1_i64..20, 0_i64..1_000_000, 0_i64..1_000_000), 0..6),
            last in (0_i64..1_000_000, 0_i64..1_000_000),
        ) -> Vec<Tier> {
            let mut end = 0;
            let mut tiers: Vec<Tier> = steps
                .into_iter()
                .map(|(width, unit, flat)| {
                    end += width;
                    tier(Some(end), unit, flat)
                })
                .collect();
            tiers.push(tier(None, last.0, last.1));
            tiers
        }
    }

    proptest! {
        #[test]
        fn slab_never_loses_a_minor_unit(tiers in any_tiers(), quantity in 0_i64..200) {
            let expected = unit_by_unit(&tiers, quantity);
            let amount = tiered(TierMode::Slab, tiers).amount_minor_for(quantity).map(i128::from);
            prop_assert_eq!(amount, Ok(expected));
        }

        #[test]
        fn every_model_overflows_into_an_error_and_never_panics(
            amount in 0..=i64::MAX, quantity in any::<i64>(), divide_by in 1..=i64::MAX, end in 1..=i64::MAX,
        ) {
            let tiers = vec![tier(Some(end), amount, amount), tier(None, amount, amount)];
            for model in [
                PriceModel::FlatFee { amount_minor: amount },
                PriceModel::Package { amount_minor: amount, divide_by, round: Rounding::Up },
                tiered(TierMode::Volume, tiers.clone()),
                tiered(TierMode::Slab, tiers),
            ] {
                if let Ok(minor) = model.amount_minor_for(quantity) {
                    prop_assert!(quantity >= 0 && minor >= 0);
                }
            }
        }
    }
}
