//! A subscription on the wire.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::{Subscription, SubscriptionId, SubscriptionLine, SubscriptionLineId, SubscriptionStatus, store};
use crate::{
    app::App,
    catalog::{self, BillingPeriod, InvoiceCadence, PlanId, PlanResponse, Price, PriceId, PriceResponse},
    customers::{self, CustomerId, CustomerResponse},
    db::{self, RowStatus},
    http::{Caller, openapi::Metadata},
    tenancy::{EnvironmentId, TenantId},
};

/// What an answer embeds beside the subscriptions themselves.
#[derive(Clone, Copy, Debug)]
pub struct Embed {
    pub lines: bool,
    /// In the lines.
    pub prices: bool,
    pub plan: bool,
    pub customer: bool,
}

/// A subscription on the wire.
#[derive(Debug, Serialize, JsonSchema)]
pub struct SubscriptionResponse {
    id: SubscriptionId,
    customer_id: CustomerId,
    /// Who pays: the customer itself.
    invoicing_customer_id: CustomerId,
    plan_id: PlanId,
    subscription_status: SubscriptionStatus,
    currency: String,
    billing_period: BillingPeriod,
    billing_period_count: i32,
    billing_cadence: &'static str,
    billing_cycle: &'static str,
    billing_anchor: DateTime<Utc>,
    start_date: DateTime<Utc>,
    end_date: Option<DateTime<Utc>>,
    current_period_start: DateTime<Utc>,
    current_period_end: DateTime<Utc>,
    activated_at: Option<DateTime<Utc>>,
    cancel_at: Option<DateTime<Utc>>,
    cancel_at_period_end: bool,
    cancelled_at: Option<DateTime<Utc>>,
    cancellation_reason: Option<String>,
    proration_behavior: &'static str,
    pause_status: &'static str,
    collection_method: String,
    subscription_type: &'static str,
    timezone: String,
    version: i32,
    lookup_key: Option<String>,
    #[schemars(with = "Metadata")]
    metadata: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    line_items: Option<Vec<LineResponse>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<PlanResponse>,
    #[serde(skip_serializing_if = "Option::is_none")]
    customer: Option<CustomerResponse>,
    status: RowStatus,
    tenant_id: TenantId,
    environment_id: EnvironmentId,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

/// Quantities are strings on the wire.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "SubscriptionLineItem")]
struct LineResponse {
    id: SubscriptionLineId,
    subscription_id: SubscriptionId,
    customer_id: CustomerId,
    price_id: PriceId,
    price_type: &'static str,
    quantity: String,
    currency: String,
    invoice_cadence: InvoiceCadence,
    billing_period: BillingPeriod,
    billing_period_count: i32,
    entity_type: &'static str,
    entity_id: PlanId,
    display_name: String,
    plan_display_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    price: Option<PriceResponse>,
    start_date: DateTime<Utc>,
    end_date: Option<DateTime<Utc>>,
    status: RowStatus,
    tenant_id: TenantId,
    environment_id: EnvironmentId,
    created_at: DateTime<Utc>,
}

/// What the subscriptions of an answer point at; read in one query each, however many there are.
#[derive(Default)]
pub struct Embedded {
    lines: Option<HashMap<SubscriptionId, Vec<SubscriptionLine>>>,
    prices: HashMap<PriceId, PriceResponse>,
    plans: HashMap<PlanId, PlanResponse>,
    customers: HashMap<CustomerId, CustomerResponse>,
}

impl Embedded {
    pub async fn load(
        app: &App,
        caller: Caller,
        subscriptions: &[Subscription],
        embed: Embed,
    ) -> Result<Self, db::Error> {
        let mut embedded = Self::default();
        if subscriptions.is_empty() {
            return Ok(embedded);
        }
        if embed.lines {
            embedded.load_lines(app, caller, subscriptions, embed.prices).await?;
        }
        if embed.plan {
            let ids = distinct(subscriptions.iter().map(|subscription| subscription.plan));
            for plan in catalog::list_plans(app, caller.scope, &ids).await? {
                embedded.plans.insert(plan.id, PlanResponse::new(caller, plan, None));
            }
        }
        if embed.customer {
            let ids = distinct(subscriptions.iter().map(|subscription| subscription.customer));
            for customer in customers::list(app, caller.scope, &ids).await? {
                embedded.customers.insert(customer.id, CustomerResponse::new(caller, customer));
            }
        }
        Ok(embedded)
    }

    async fn load_lines(
        &mut self,
        app: &App,
        caller: Caller,
        subscriptions: &[Subscription],
        with_prices: bool,
    ) -> Result<(), db::Error> {
        let ids: Vec<SubscriptionId> = subscriptions.iter().map(|subscription| subscription.id).collect();
        let lines = store::list_lines(&app.pool, caller.scope, &ids).await?;
        if with_prices {
            let ids = distinct(lines.iter().map(|line| line.price));
            let price = |price: Price| (price.id, PriceResponse::new(caller, price));
            let prices = catalog::list_prices(app, caller.scope, &ids).await?;
            self.prices = prices.into_iter().map(price).collect();
        }
        let mut by_subscription: HashMap<_, Vec<_>> = HashMap::new();
        for line in lines {
            by_subscription.entry(line.subscription).or_default().push(line);
        }
        self.lines = Some(by_subscription);
        Ok(())
    }
}

fn distinct<T: Ord>(ids: impl Iterator<Item = T>) -> Vec<T> {
    let mut ids: Vec<T> = ids.collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

impl SubscriptionResponse {
    pub(super) fn new(caller: Caller, subscription: Subscription, embedded: &mut Embedded) -> Self {
        let lines = embedded.lines.as_mut().map(|lines| lines.remove(&subscription.id).unwrap_or_default());
        let line_items = lines.map(|lines| {
            let line = |line| LineResponse::new(caller, &subscription, line, &embedded.prices);
            lines.into_iter().map(line).collect()
        });
        Self {
            id: subscription.id,
            customer_id: subscription.customer,
            invoicing_customer_id: subscription.customer,
            plan_id: subscription.plan,
            subscription_status: subscription.subscription_status,
            currency: subscription.currency.lower(),
            billing_period: subscription.billing_period,
            billing_period_count: subscription.billing_period_count,
            billing_cadence: "RECURRING",
            billing_cycle: "anniversary",
            billing_anchor: subscription.billing_anchor,
            start_date: subscription.start_date,
            end_date: subscription.end_date,
            current_period_start: subscription.current_period_start,
            current_period_end: subscription.current_period_end,
            activated_at: subscription.activated_at,
            cancel_at: subscription.cancel_at,
            cancel_at_period_end: subscription.cancel_at_period_end,
            cancelled_at: subscription.cancelled_at,
            cancellation_reason: subscription.cancellation_reason,
            proration_behavior: "none",
            pause_status: "none",
            collection_method: subscription.collection_method,
            subscription_type: "standalone",
            timezone: subscription.timezone,
            version: subscription.version,
            lookup_key: subscription.lookup_key,
            metadata: subscription.metadata,
            line_items,
            plan: embedded.plans.get(&subscription.plan).cloned(),
            customer: embedded.customers.get(&subscription.customer).cloned(),
            status: subscription.status,
            tenant_id: caller.scope.tenant,
            environment_id: caller.scope.environment,
            created_at: subscription.created_at,
            updated_at: subscription.updated_at,
        }
    }
}

impl LineResponse {
    fn new(
        caller: Caller,
        subscription: &Subscription,
        line: SubscriptionLine,
        prices: &HashMap<PriceId, PriceResponse>,
    ) -> Self {
        Self {
            id: line.id,
            subscription_id: line.subscription,
            customer_id: subscription.customer,
            price_id: line.price,
            price_type: "FIXED",
            quantity: line.quantity.to_string(),
            currency: subscription.currency.lower(),
            invoice_cadence: line.invoice_cadence,
            billing_period: line.billing_period,
            billing_period_count: line.billing_period_count,
            entity_type: "plan",
            entity_id: subscription.plan,
            display_name: line.display_name,
            plan_display_name: line.plan_display_name,
            price: prices.get(&line.price).cloned(),
            start_date: line.start_date,
            end_date: line.end_date,
            // Lines live and are archived with their subscription.
            status: subscription.status,
            tenant_id: caller.scope.tenant,
            environment_id: caller.scope.environment,
            created_at: line.created_at,
        }
    }
}
