//! The settings that there are, and their values.

use std::str::FromStr;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    app::App,
    http::{ApiError, Named, Violations},
    invoices,
    tenancy::{self, Scope},
};

/// The bounds of `CHECKOUTD_SESSION_TTL_SECONDS` and of the column.
const SESSION_TTL_SECONDS: std::ops::RangeInclusive<i64> = 1..=86_400;

/// Settings of the compatible API about what this service does not do.
const NOT_HERE: [&str; 13] = [
    "bonus_credits_topup_config",
    "custom_analytics_config",
    "customer_onboarding",
    "customer_portal_config",
    "draft_invoice_recompute_config",
    "event_ingestion_filter",
    "invoice_pdf_config",
    "payment_mandate_limits",
    "prepare_processed_events_config",
    "saml_config",
    "subscription_config",
    "tenant_config",
    "wallet_balance_alert_config",
];

/// The name of a setting, as it stands in the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettingKey {
    /// `checkout_config`.
    Checkout,
    /// `invoice_config`; can only be read.
    Invoice,
    /// One of the compatible API that this service does not have.
    NotHere(&'static str),
}

impl SettingKey {
    /// As in the path.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Checkout => "checkout_config",
            Self::Invoice => "invoice_config",
            Self::NotHere(name) => name,
        }
    }

    /// 501, by name.
    pub fn not_implemented(self) -> ApiError {
        ApiError::not_implemented(&format!("the setting {}", self.as_str()))
    }
}

impl FromStr for SettingKey {
    type Err = UnknownSetting;

    fn from_str(text: &str) -> Result<Self, UnknownSetting> {
        match text {
            "checkout_config" => Ok(Self::Checkout),
            "invoice_config" => Ok(Self::Invoice),
            _ => NOT_HERE.into_iter().find(|name| *name == text).map(Self::NotHere).ok_or(UnknownSetting),
        }
    }
}

/// No setting of that name, here or in the compatible API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no such setting")]
pub struct UnknownSetting;

impl Named for SettingKey {
    const NOUN: &'static str = "setting";
}

/// What a setting says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum SettingValue {
    /// Of `checkout_config`.
    Checkout(CheckoutConfig),
    /// Of `invoice_config`.
    Invoice(InvoiceConfig),
}

/// How checkout sessions of the environment are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct CheckoutConfig {
    /// How long a customer has to pay: 1 to 86,400 seconds. For sessions that are made from now on.
    #[schemars(range(min = 1, max = 86_400))]
    session_ttl_seconds: i64,
}

/// How invoices are numbered: `INV-202611-00001`. The counter is the environment's and goes on over the months.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct InvoiceConfig {
    /// Stands first.
    prefix: &'static str,
    /// Then the month of payment in this form.
    format: &'static str,
    /// The time zone that the month is of.
    timezone: &'static str,
    /// Between the parts.
    separator: &'static str,
    /// The first number of an environment.
    start_sequence: u32,
    /// The least number of digits of the counter.
    suffix_length: u32,
}

/// A setting as it applies now.
#[derive(Clone, Debug)]
pub struct Setting {
    pub key: SettingKey,
    pub value: SettingValue,
    /// Nobody set it: the value is the service's own.
    pub is_default: bool,
}

/// The setting as it applies now in the environment.
pub async fn read(app: &App, scope: Scope, key: SettingKey) -> Result<Setting, ApiError> {
    match key {
        SettingKey::Checkout => {
            let own = tenancy::session_ttl(app, scope).await?;
            let default = i64::try_from(app.config.session_ttl.as_secs()).unwrap_or(i64::MAX);
            let session_ttl_seconds = own.map_or(default, i64::from);
            let value = SettingValue::Checkout(CheckoutConfig { session_ttl_seconds });
            Ok(Setting { key, value, is_default: own.is_none() })
        }
        SettingKey::Invoice => {
            let value = SettingValue::Invoice(invoice_config());
            Ok(Setting { key, value, is_default: true })
        }
        SettingKey::NotHere(_) => Err(key.not_implemented()),
    }
}

/// Sets it, or forgets what was set when there is no value: then the service's own applies.
pub async fn write(
    app: &App,
    scope: Scope,
    key: SettingKey,
    value: Option<Map<String, Value>>,
) -> Result<Setting, ApiError> {
    if key != SettingKey::Checkout {
        return Err(key.not_implemented());
    }
    let session_ttl_seconds = value.map(|value| parse_session_ttl(&value)).transpose()?;
    tenancy::set_session_ttl(app, scope, session_ttl_seconds).await?;
    read(app, scope, key).await
}

fn parse_session_ttl(value: &Map<String, Value>) -> Result<i32, ApiError> {
    const FIELD: &str = "value.session_ttl_seconds";
    let mut violations = Violations::default();
    let given = value.get("session_ttl_seconds").filter(|value| !value.is_null());
    let seconds = given.and_then(Value::as_i64).filter(|seconds| SESSION_TTL_SECONDS.contains(seconds));
    match given {
        None => violations.add(FIELD, "is required"),
        Some(_) => {
            violations.require(seconds.is_some(), FIELD, "must be a whole number from 1 to 86400");
        }
    }
    violations.finish()?;
    Ok(seconds.and_then(|seconds| i32::try_from(seconds).ok()).unwrap_or_default())
}

fn invoice_config() -> InvoiceConfig {
    let invoices::NumberFormat { prefix, date, separator, digits } = invoices::NUMBER_FORMAT;
    InvoiceConfig {
        prefix,
        format: date,
        timezone: "UTC",
        separator,
        start_sequence: 1,
        suffix_length: digits,
    }
}
