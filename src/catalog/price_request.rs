//! What a merchant sends about a price, checked field by field.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    BillingModel, BillingPeriod, InvoiceCadence, PlanId, TierMode,
    figures::{Figures, TierRequest, TransformQuantity},
    price::{Change, NewPrice},
};
use crate::{
    http::{
        ApiError, Named, Violations, check_length, metadata_violations, openapi::Metadata, optional_time,
    },
    kit::money::{Currency, MoneyError},
};

const MAX_NAME: usize = 255;
const MAX_DESCRIPTION: usize = 2000;
/// Bounds that keep period arithmetic within the calendar.
const MAX_PERIOD_COUNT: i32 = 1000;
const MAX_TRIAL_DAYS: i32 = 3650;

/// The body of a create.
#[derive(Default, Deserialize, JsonSchema)]
#[schemars(
    rename = "CreatePriceRequest",
    extend("required" = ["entity_type", "entity_id", "type", "billing_model", "billing_period", "currency", "invoice_cadence"])
)]
#[serde(default)]
pub struct CreateRequest {
    /// `PLAN`
    #[schemars(extend("enum" = ["PLAN"]))]
    entity_type: Option<String>,
    /// The plan's id.
    entity_id: Option<String>,
    /// `FIXED`
    #[schemars(extend("enum" = ["FIXED"]))]
    r#type: Option<String>,
    billing_period: Option<BillingPeriod>,
    /// 1, if not given.
    #[schemars(range(min = 0, max = 1000))]
    billing_period_count: Option<i64>,
    /// ISO 4217, any letter case.
    #[schemars(length(equal = 3))]
    currency: Option<String>,
    invoice_cadence: Option<InvoiceCadence>,
    #[schemars(range(min = 1))]
    min_quantity: Option<i64>,
    /// Stored; trials have no effect.
    #[schemars(range(min = 0, max = 3650))]
    trial_period_days: Option<i64>,
    #[serde(deserialize_with = "optional_time")]
    start_date: Option<DateTime<Utc>>,
    #[serde(deserialize_with = "optional_time")]
    end_date: Option<DateTime<Utc>>,
    billing_model: Option<BillingModel>,
    /// Decimal string of major units; needed by `FLAT_FEE` and `PACKAGE`.
    amount: Option<String>,
    tiers: Option<Vec<TierRequest>>,
    tier_mode: Option<TierMode>,
    transform_quantity: Option<TransformQuantity>,
    price_unit_type: Option<String>,
    price_unit_config: Option<Value>,
    #[schemars(length(max = 255))]
    display_name: Option<String>,
    #[schemars(length(max = 2000))]
    description: Option<String>,
    #[schemars(length(max = 255))]
    lookup_key: Option<String>,
    #[schemars(length(max = 255))]
    group_id: Option<String>,
    #[schemars(with = "Option<Metadata>")]
    metadata: Option<Map<String, Value>>,
}

/// The body of an update.
#[derive(Default, Deserialize, JsonSchema)]
#[schemars(rename = "UpdatePriceRequest")]
#[serde(default)]
pub struct UpdateRequest {
    billing_model: Option<BillingModel>,
    /// Decimal string of major units; needed by `FLAT_FEE` and `PACKAGE`.
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
    #[schemars(length(max = 255))]
    display_name: Option<String>,
    #[schemars(length(max = 2000))]
    description: Option<String>,
    #[schemars(length(max = 255))]
    lookup_key: Option<String>,
    #[schemars(length(max = 255))]
    group_id: Option<String>,
    #[schemars(with = "Option<Metadata>")]
    metadata: Option<Map<String, Value>>,
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

fn read_currency(violations: &mut Violations, code: &str) -> Option<Currency> {
    match code.parse() {
        Ok(currency) => Some(currency),
        Err(rule) => {
            let rule: MoneyError = rule;
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
