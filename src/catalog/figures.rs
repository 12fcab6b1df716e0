//! The figures of a price as a merchant sends them, and the model that they make.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{BillingModel, Price, PriceModel, Rounding, Tier, TierMode, Tiers};
use crate::{
    http::{ApiError, Violations},
    kit::money::{Currency, Money},
};

/// The figures of a price as they arrive.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    pub billing_model: Option<BillingModel>,
    pub amount: Option<String>,
    pub tiers: Option<Vec<TierRequest>>,
    pub tier_mode: Option<TierMode>,
    pub transform_quantity: Option<TransformQuantity>,
}

/// A tier as it arrives.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct TierRequest {
    unit_amount: String,
    flat_amount: Option<String>,
    up_to: Option<i64>,
}

/// A package as it arrives.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[schemars(rename = "TransformQuantityRequest")]
pub struct TransformQuantity {
    divide_by: i64,
    round: Option<Rounding>,
}

impl Figures {
    /// The model of `price` with these figures in place of its own.
    pub fn remodel(&self, price: &Price) -> Result<PriceModel, ApiError> {
        let mut violations = Violations::default();
        let merged = self.clone().over(price);
        let model = merged.parse(price.currency, &mut violations);
        violations.finish()?;
        model.ok_or_else(|| ApiError::validation("billing_model", "is required"))
    }

    /// Fills in what the price has and the model still needs.
    fn over(mut self, price: &Price) -> Self {
        let model = self.billing_model.unwrap_or(price.model.billing_model());
        self.billing_model = Some(model);
        let decimal = |minor| Money::new(minor, price.currency).decimal();
        match &price.model {
            PriceModel::FlatFee { amount_minor } | PriceModel::Package { amount_minor, .. }
                if model != BillingModel::Tiered =>
            {
                self.amount = self.amount.or_else(|| Some(decimal(*amount_minor)));
            }
            PriceModel::Tiered { mode, tiers } if model == BillingModel::Tiered => {
                self.tier_mode = self.tier_mode.or(Some(*mode));
                self.tiers = self.tiers.or_else(|| {
                    let tier = |tier: &Tier| TierRequest {
                        unit_amount: decimal(tier.unit_amount_minor),
                        flat_amount: Some(decimal(tier.flat_amount_minor)),
                        up_to: tier.up_to,
                    };
                    Some(tiers.as_slice().iter().map(tier).collect())
                });
            }
            _ => {}
        }
        if let PriceModel::Package { divide_by, round, .. } = price.model
            && model == BillingModel::Package
        {
            let own = TransformQuantity { divide_by, round: Some(round) };
            self.transform_quantity = self.transform_quantity.or(Some(own));
        }
        self
    }

    /// The model that the figures make in `currency`; none beside a violation.
    pub fn parse(self, currency: Currency, violations: &mut Violations) -> Option<PriceModel> {
        let model = self.billing_model?;
        let stray = |violations: &mut Violations, field: &str, is_there: bool, only_for: BillingModel| {
            let rule = format!("is only for the billing_model {}", only_for.as_str());
            violations.require(!is_there || model == only_for, field, &rule);
        };
        stray(violations, "tiers", self.tiers.is_some(), BillingModel::Tiered);
        stray(violations, "tier_mode", self.tier_mode.is_some(), BillingModel::Tiered);
        stray(violations, "transform_quantity", self.transform_quantity.is_some(), BillingModel::Package);
        match model {
            BillingModel::FlatFee => Some(PriceModel::FlatFee {
                amount_minor: read_required_amount(violations, self.amount, currency)?,
            }),
            BillingModel::Package => {
                let amount_minor = read_required_amount(violations, self.amount, currency);
                let Some(transform) = self.transform_quantity else {
                    violations.add("transform_quantity", "is required for the billing_model PACKAGE");
                    return None;
                };
                let divide_by = transform.divide_by;
                violations.require(divide_by >= 1, "transform_quantity.divide_by", "must be at least 1");
                let round = transform.round.unwrap_or(Rounding::Up);
                Some(PriceModel::Package { amount_minor: amount_minor?, divide_by, round })
            }
            BillingModel::Tiered => {
                violations.require(
                    self.amount.is_none(),
                    "amount",
                    "does not go with the billing_model TIERED, whose tiers have amounts",
                );
                let tiers = read_tiers(violations, self.tiers, currency);
                if self.tier_mode.is_none() {
                    violations.add("tier_mode", "is required for the billing_model TIERED: VOLUME or SLAB");
                }
                Some(PriceModel::Tiered { mode: self.tier_mode?, tiers: tiers? })
            }
        }
    }
}

fn read_tiers(
    violations: &mut Violations,
    tiers: Option<Vec<TierRequest>>,
    currency: Currency,
) -> Option<Tiers> {
    let Some(tiers) = tiers else {
        violations.add("tiers", "is required for the billing_model TIERED");
        return None;
    };
    let mut steps = Vec::with_capacity(tiers.len());
    for (index, tier) in tiers.iter().enumerate() {
        let name = |field| format!("tiers[{index}].{field}");
        let unit = read_amount(violations, &name("unit_amount"), &tier.unit_amount, currency);
        let flat = tier.flat_amount.as_deref().filter(|text| !text.is_empty()).unwrap_or("0");
        let flat = read_amount(violations, &name("flat_amount"), flat, currency);
        steps.push(Tier {
            up_to: tier.up_to,
            unit_amount_minor: unit.unwrap_or(0),
            flat_amount_minor: flat.unwrap_or(0),
        });
    }
    Tiers::new(steps).map_err(|rule| violations.add("tiers", rule.to_string())).ok()
}

fn read_required_amount(
    violations: &mut Violations,
    amount: Option<String>,
    currency: Currency,
) -> Option<i64> {
    let Some(amount) = amount else {
        violations.add("amount", "is required");
        return None;
    };
    read_amount(violations, "amount", &amount, currency)
}

fn read_amount(violations: &mut Violations, field: &str, text: &str, currency: Currency) -> Option<i64> {
    match Money::parse(text, currency) {
        Ok(money) => Some(money.minor),
        Err(rule) => {
            violations.add(field, rule.to_string());
            None
        }
    }
}
