//! `/v1/invoices`.

use std::collections::HashMap;

use axum::{Json, extract::State};
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    BillingReason, Invoice, InvoiceId, InvoiceLine, InvoiceType, operation_api, store,
    threshold::{Threshold, optional_threshold},
    view::InvoiceResponse,
};
use crate::{
    app::App,
    customers::{self, CustomerId, CustomerResponse},
    db::{self, search::Column},
    http::{
        ApiError, Body, Caller, List, Named, Search, Violations,
        openapi::{ApiRouter, doc, post_with},
        optional_time,
    },
    kit::{money::Currency, page::Page},
    subscriptions::SubscriptionId,
};

/// Routes under `/v1`. Reading one by its id is checkout's, whose session is shown with it.
pub fn router() -> ApiRouter<App> {
    ApiRouter::new()
        .api_route("/invoices/search", post_with(search, doc("query_invoice", "Search invoices", &[])))
        .merge(operation_api::router())
}

/// An invoice with its lines and its customer; 404 unknown.
pub async fn load_response(app: &App, caller: Caller, id: InvoiceId) -> Result<InvoiceResponse, ApiError> {
    let found = store::find(&app.pool, caller.scope, id).await?;
    Ok(show(app, caller, found.ok_or_else(|| ApiError::not_found(InvoiceId::NOUN))?).await?)
}

/// The newest invoice of a subscription, by itself.
pub async fn find_latest_response(
    app: &App,
    caller: Caller,
    subscription: SubscriptionId,
) -> Result<Option<InvoiceResponse>, db::Error> {
    let found = store::find_latest(&app.pool, caller.scope, subscription).await?;
    Ok(found.map(|invoice| InvoiceResponse::new(caller, invoice, None, None)))
}

/// One invoice with its lines and its customer.
pub(super) async fn show(app: &App, caller: Caller, invoice: Invoice) -> Result<InvoiceResponse, db::Error> {
    let lines = store::list_lines(&app.pool, caller.scope, &[invoice.id]).await?;
    let customer = customers::find(app, caller.scope, invoice.customer).await?;
    let customer = customer.map(|customer| CustomerResponse::new(caller, customer));
    Ok(InvoiceResponse::new(caller, invoice, Some(lines), customer))
}

#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "SearchInvoicesRequest")]
struct SearchRequest {
    customer_id: Option<List>,
    external_customer_id: Option<String>,
    subscription_id: Option<List>,
    invoice_ids: Option<List>,
    invoice_type: Option<InvoiceType>,
    invoice_status: Option<List>,
    payment_status: Option<List>,
    billing_reason: Option<BillingReason>,
    currency: Option<String>,
    #[serde(default, deserialize_with = "optional_threshold")]
    #[schemars(with = "Option<f64>")]
    amount_due_gt: Option<Threshold>,
    #[serde(default, deserialize_with = "optional_threshold")]
    #[schemars(with = "Option<f64>")]
    amount_remaining_gt: Option<Threshold>,
    #[serde(default, deserialize_with = "optional_time")]
    period_start_gte: Option<DateTime<Utc>>,
    #[serde(default, deserialize_with = "optional_time")]
    period_start_lte: Option<DateTime<Utc>>,
    #[serde(default, deserialize_with = "optional_time")]
    period_end_gte: Option<DateTime<Utc>>,
    #[serde(default, deserialize_with = "optional_time")]
    period_end_lte: Option<DateTime<Utc>>,
    skip_line_items: Option<bool>,
    #[serde(flatten)]
    search: Search,
}

impl SearchRequest {
    /// Everything but the customers that `external_customer_id` means.
    fn parse(self) -> Result<store::Wanted, ApiError> {
        let mut violations = Violations::default();
        let currency = self.currency.map(|code| code.parse::<Currency>()).transpose();
        if let Err(error) = &currency {
            violations.add("currency", error.to_string());
        }
        let invoice_statuses =
            self.invoice_status.and_then(|all| all.terms("invoice_status", &mut violations));
        let payment_statuses =
            self.payment_status.and_then(|all| all.terms("payment_status", &mut violations));
        violations.finish()?;
        Ok(store::Wanted {
            ids: self.invoice_ids.and_then(List::ids::<InvoiceId>),
            customer_id: self.customer_id.and_then(List::ids::<CustomerId>),
            named_customer_ids: None,
            subscription_id: self.subscription_id.and_then(List::ids::<SubscriptionId>),
            invoice_type: self.invoice_type,
            invoice_statuses,
            payment_statuses,
            billing_reason: self.billing_reason,
            currency: currency.unwrap_or_default(),
            due_more_than: self.amount_due_gt,
            remaining_more_than: self.amount_remaining_gt,
            period_start_from: self.period_start_gte,
            period_start_until: self.period_start_lte,
            period_end_from: self.period_end_gte,
            period_end_until: self.period_end_lte,
        })
    }
}

const COLUMNS: &[Column] = &[
    Column::id("id", "inv"),
    Column::id("customer_id", "cust"),
    Column::id("subscription_id", "subs"),
    Column::text("invoice_number"),
    Column::text("invoice_status"),
    Column::text("payment_status"),
    Column::text("billing_reason"),
    Column::text("billing_period"),
    Column::text("currency"),
    Column::time("period_start"),
    Column::time("period_end"),
    Column::time("due_date"),
    Column::time("finalized_at"),
    Column::time("paid_at"),
    Column::time("created_at"),
    Column::time("updated_at"),
];

async fn search(
    caller: Caller,
    State(app): State<App>,
    Body(request): Body<SearchRequest>,
) -> Result<Json<Page<InvoiceResponse>>, ApiError> {
    let criteria = request.search.parse(COLUMNS)?;
    let (skip_lines, with_customer) =
        (request.skip_line_items.unwrap_or(false), request.search.expands("customer"));
    let external_id = request.external_customer_id.clone();
    let mut wanted = request.parse()?;
    wanted.named_customer_ids =
        customers::list_ids_by_external_id(&app, caller.scope, external_id.as_deref()).await?;
    let page = store::search(&app.pool, caller.scope, wanted, criteria).await?;
    let mut lines = if skip_lines { None } else { Some(lines_of(&app, caller, &page.items).await?) };
    let customers =
        if with_customer { customers_of(&app, caller, &page.items).await? } else { HashMap::new() };
    Ok(Json(page.map(|invoice| {
        let lines = lines.as_mut().map(|lines| lines.remove(&invoice.id).unwrap_or_default());
        let customer = customers.get(&invoice.customer).cloned();
        InvoiceResponse::new(caller, invoice, lines, customer)
    })))
}

async fn lines_of(
    app: &App,
    caller: Caller,
    invoices: &[Invoice],
) -> Result<HashMap<InvoiceId, Vec<InvoiceLine>>, ApiError> {
    let ids: Vec<InvoiceId> = invoices.iter().map(|invoice| invoice.id).collect();
    let mut by_invoice: HashMap<_, Vec<_>> = HashMap::new();
    for line in store::list_lines(&app.pool, caller.scope, &ids).await? {
        by_invoice.entry(line.invoice).or_default().push(line);
    }
    Ok(by_invoice)
}

async fn customers_of(
    app: &App,
    caller: Caller,
    invoices: &[Invoice],
) -> Result<HashMap<CustomerId, CustomerResponse>, ApiError> {
    let ids: Vec<CustomerId> = invoices.iter().map(|invoice| invoice.customer).collect();
    let customers = customers::list(app, caller.scope, &ids).await?;
    Ok(customers.into_iter().map(|customer| (customer.id, CustomerResponse::new(caller, customer))).collect())
}
