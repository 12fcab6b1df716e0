//! What a merchant sends about a price, checked field by field.

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    BillingModel, BillingPeriod, InvoiceCadence, PlanId, Price, PriceModel, Rounding, Tier, TierMode, Tiers,
    price::{Change, NewPrice},
};
use crate::{
    http::{ApiError, Named, Violations, check_length, metadata_violations, optional_time},
    kit::money::{Currency, Money},
};

const MAX_NAME: usize = 255;
const MAX_DESCRIPTION: usize = 2000;
/// Bounds that keep period arithmetic within the calendar.
const MAX_PERIOD_COUNT: i32 = 1000;
const MAX_TRIAL_DAYS: i32 = 3650;

/// The body of a create.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct CreateRequest {
    entity_type: Option<String>,
    entity_id: Option<String>,
    r#type: Option<String>,
    billing_period: Option<BillingPeriod>,
    billing_period_count: Option<i64>,
    currency: Option<String>,
    invoice_cadence: Option<InvoiceCadence>,
    min_quantity: Option<i64>,
    trial_period_days: Option<i64>,
    #[serde(deserialize_with = "optional_time")]
    start_date: Option<DateTime<Utc>>,
    #[serde(deserialize_with = "optional_time")]
    end_date: Option<DateTime<Utc>>,
    billing_model: Option<BillingModel>,
    amount: Option<String>,
    tiers: Option<Vec<TierRequest>>,
    tier_mode: Option<TierMode>,
    transform_quantity: Option<TransformQuantity>,
    price_unit_type: Option<String>,
    price_unit_config: Option<Value>,
    display_name: Option<String>,
    description: Option<String>,
    lookup_key: Option<String>,
    group_id: Option<String>,
    metadata: Option<Map<String, Value>>,
}

/// The body of an update.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct UpdateRequest {
    billing_model: Option<BillingModel>,
    amount: Option<String>,
    tiers: Option<Vec<TierRequest>>,
    tier_mode: Option<TierMode>,
    transform_quantity: Option<TransformQuantity>,
    price_unit_type: Option<String>,
    price_unit_config: Option<Value>,
    price_unit_amount: Option<Value>,
    price_unit_tiers: Option<Value>,
    #[serde(deserialize_with = "optional_time")]
    effective_from: Option<DateTime<Utc>>,
    display_name: Option<String>,
    description: Option<String>,
    lookup_key: Option<String>,
    group_id: Option<String>,
    metadata: Option<Map<String, Value>>,
}

/// The figures of a price as they arrive.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    billing_model: Option<BillingModel>,
    amount: Option<String>,
    tiers: Option<Vec<TierRequest>>,
    tier_mode: Option<TierMode>,
    transform_quantity: Option<TransformQuantity>,
}

#[derive(Clone, Debug, Deserialize)]
struct TierRequest {
    unit_amount: String,
    flat_amount: Option<String>,
    up_to: Option<i64>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct TransformQuantity {
    divide_by: i64,
    round: Option<Rounding>,
}

impl CreateRequest {
    /// The price, or a 400 that names each wrong field; 404 for a plan that cannot exist.
    pub fn parse(self) -> Result<NewPrice, ApiError> {
        let mut violations = Violations::default();
        only(&mut violations, "entity_type", self.entity_type.as_deref(), "PLAN");
        only(&mut violations, "type", self.r#type.as_deref(), "FIXED");
        check_units(
            &mut violations,
            self.price_unit_type.as_deref(),
            &[("price_unit_config", &self.price_unit_config)],
        );
        for (field, is_there) in [
            ("entity_id", self.entity_id.is_some()),
            ("billing_model", self.billing_model.is_some()),
            ("billing_period", self.billing_period.is_some()),
            ("currency", self.currency.is_some()),
            ("invoice_cadence", self.invoice_cadence.is_some()),
        ] {
            violations.require(is_there, field, "is required");
        }
        let currency = self.currency.and_then(|code| read_currency(&mut violations, &code));
        let figures = Figures {
            billing_model: self.billing_model,
            amount: self.amount,
            tiers: self.tiers,
            tier_mode: self.tier_mode,
            transform_quantity: self.transform_quantity,
        };
        let model = currency.and_then(|currency| figures.parse(currency, &mut violations));
        let count = bounded(
            &mut violations,
            "billing_period_count",
            self.billing_period_count,
            1,
            1,
            MAX_PERIOD_COUNT,
        );
        let trial =
            bounded(&mut violations, "trial_period_days", self.trial_period_days, 0, 0, MAX_TRIAL_DAYS);
        if self.billing_period == Some(BillingPeriod::Onetime) {
            let in_advance = self.invoice_cadence != Some(InvoiceCadence::Arrear);
            violations.require(in_advance, "invoice_cadence", "must be ADVANCE for a ONETIME price");
            violations.require(trial == 0, "trial_period_days", "is only for recurring prices");
        }
        let min_quantity = self.min_quantity;
        violations.require(min_quantity.is_none_or(|min| min >= 1), "min_quantity", "must be at least 1");
        if let (Some(start), Some(end)) = (self.start_date, self.end_date) {
            violations.require(start <= end, "end_date", "must not be before start_date");
        }
        let names = Names {
            display_name: self.display_name,
            description: self.description,
            lookup_key: self.lookup_key,
            group_id: self.group_id,
            metadata: self.metadata,
        };
        names.check(&mut violations);
        violations.finish()?;
        // Everything required is there now; what cannot be a plan's id names no plan.
        let plan_id = self.entity_id.and_then(|id| id.parse().ok());
        let (Some(plan_id), Some(model), Some(currency), Some(billing_period), Some(invoice_cadence)) =
            (plan_id, model, currency, self.billing_period, self.invoice_cadence)
        else {
            return Err(ApiError::not_found(PlanId::NOUN));
        };
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        Ok(NewPrice {
            plan_id,
            model,
            billing_period,
            billing_period_count: count,
            invoice_cadence,
            currency,
            min_quantity,
            trial_period_days: trial,
            display_name: given(names.display_name),
            description: names.description.unwrap_or_default(),
            lookup_key: given(names.lookup_key),
            group_id: given(names.group_id),
            metadata: Value::Object(names.metadata.unwrap_or_default()),
            start_date: self.start_date,
            end_date: self.end_date,
        })
    }
}

/// What an update asks for.
pub struct Update {
    /// In place.
    pub change: Change,
    /// New figures: the price is replaced.
    pub figures: Option<Figures>,
    /// When the replacement starts.
    pub effective_from: Option<DateTime<Utc>>,
}

impl UpdateRequest {
    /// The update, or a 400 that names each wrong field that can be told without the price.
    pub fn parse(self) -> Result<Update, ApiError> {
        let mut violations = Violations::default();
        check_units(
            &mut violations,
            self.price_unit_type.as_deref(),
            &[
                ("price_unit_config", &self.price_unit_config),
                ("price_unit_amount", &self.price_unit_amount),
                ("price_unit_tiers", &self.price_unit_tiers),
            ],
        );
        let is_critical = self.billing_model.is_some()
            || self.amount.is_some()
            || self.tiers.is_some()
            || self.tier_mode.is_some()
            || self.transform_quantity.is_some();
        violations.require(
            is_critical || self.effective_from.is_none(),
            "effective_from",
            "is only for changes of amount, billing_model, tiers, tier_mode or transform_quantity",
        );
        let names = Names {
            display_name: self.display_name,
            description: self.description,
            lookup_key: self.lookup_key,
            group_id: self.group_id,
            metadata: self.metadata,
        };
        names.check(&mut violations);
        violations.finish()?;
        let figures = Figures {
            billing_model: self.billing_model,
            amount: self.amount,
            tiers: self.tiers,
            tier_mode: self.tier_mode,
            transform_quantity: self.transform_quantity,
        };
        Ok(Update {
            change: Change {
                // A line of an invoice has to say something.
                display_name: names.display_name.filter(|name| !name.is_empty()),
                description: names.description,
                lookup_key: names.lookup_key,
                group_id: names.group_id,
                metadata: names.metadata.map(Value::Object),
            },
            figures: is_critical.then_some(figures),
            effective_from: self.effective_from,
        })
    }
}

struct Names {
    display_name: Option<String>,
    description: Option<String>,
    lookup_key: Option<String>,
    group_id: Option<String>,
    metadata: Option<Map<String, Value>>,
}

impl Names {
    fn check(&self, violations: &mut Violations) {
        check_length(violations, "display_name", self.display_name.as_deref(), MAX_NAME);
        check_length(violations, "description", self.description.as_deref(), MAX_DESCRIPTION);
        check_length(violations, "lookup_key", self.lookup_key.as_deref(), MAX_NAME);
        check_length(violations, "group_id", self.group_id.as_deref(), MAX_NAME);
        if let Some(metadata) = &self.metadata {
            metadata_violations(violations, "metadata", metadata);
        }
    }
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
    fn parse(self, currency: Currency, violations: &mut Violations) -> Option<PriceModel> {
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

fn read_currency(violations: &mut Violations, code: &str) -> Option<Currency> {
    match code.parse() {
        Ok(currency) => Some(currency),
        Err(rule) => {
            let rule: crate::kit::money::MoneyError = rule;
            violations.add("currency", rule.to_string());
            None
        }
    }
}

/// A field of which this service takes one value.
fn only(violations: &mut Violations, field: &str, value: Option<&str>, taken: &str) {
    match value {
        None => violations.add(field, "is required"),
        Some(value) => {
            let rule = format!("must be {taken}; nothing else is supported");
            violations.require(value.eq_ignore_ascii_case(taken), field, &rule);
        }
    }
}

/// Prices are in currencies, not in units of the merchant's own.
fn check_units(violations: &mut Violations, unit_type: Option<&str>, others: &[(&str, &Option<Value>)]) {
    let is_fiat = unit_type.is_none_or(|unit_type| unit_type.eq_ignore_ascii_case("FIAT"));
    violations.require(is_fiat, "price_unit_type", "must be FIAT; nothing else is supported");
    for (field, value) in others {
        violations.require(value.is_none(), field, "is not supported: prices are in a currency");
    }
}

fn bounded(
    violations: &mut Violations,
    field: &str,
    value: Option<i64>,
    default: i32,
    min: i32,
    max: i32,
) -> i32 {
    let Some(value) = value else { return default };
    match i32::try_from(value) {
        Ok(value) if (min..=max).contains(&value) => value,
        _ => {
            violations.add(field, format!("must be from {min} to {max}"));
            default
        }
    }
}
