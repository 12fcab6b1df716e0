//! `/v1/checkout/sessions`.

use std::time::Duration;

use axum::{Json, extract::State, response::NoContent};
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    cancel, create,
    create::NewSession,
    model::{Session, SessionResponse},
    process_api, reconcile,
    session::{Cause, SessionId, Status},
    store::{self, ListFilter},
    urls, whole_api,
};
use crate::{
    app::App,
    catalog::BillingPeriod,
    customers::CustomerId,
    http::{
        ApiError, Body, Caller, Created, IdPath, Named, Query, Reserved, Ticket, Violations, check_length,
        metadata_violations,
        openapi::{ApiRouter, Metadata, doc, get_with, post_with},
        optional_time, page,
    },
    kit::{money::Currency, page::Page},
    tenancy::{Mode, Scope},
};

/// Routes under `/v1`.
pub fn router() -> ApiRouter<App> {
    let paid = [(400, "the session is completed: the customer has paid")];
    ApiRouter::new()
        .api_route(
            "/checkout/sessions",
            get_with(list, doc("list_checkout_sessions", "List checkout sessions", &[])).post_with(
                create,
                doc("create_checkout_session", "Create a checkout session", CREATE_REFUSALS),
            ),
        )
        .api_route(
            "/checkout/sessions/{id}",
            get_with(read, doc("get_checkout_session", "Get a checkout session; poll it", &[])).delete_with(
                delete,
                doc("delete_checkout_session", "Cancel a checkout session and answer nothing", &paid),
            ),
        )
        .api_route(
            "/checkout/sessions/{id}/cancel",
            post_with(cancel, doc("cancel_checkout_session", "Cancel a checkout session", &paid)),
        )
        .merge(process_api::router())
        .merge(whole_api::router())
}

#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "CreateCheckoutSessionRequest")]
struct CreateRequest {
    /// `create_subscription`; the other actions belong to other endpoints.
    #[schemars(extend("enum" = ["create_subscription"]))]
    action: String,
    /// The merchant's name for the customer, who must exist.
    #[schemars(length(min = 1, max = 255))]
    customer_external_id: String,
    /// `razorpay`
    #[schemars(extend("enum" = ["razorpay"]))]
    payment_provider: String,
    /// Needed.
    #[schemars(required)]
    configuration: Option<Configuration>,
    payment_provider_config: Option<ProviderConfig>,
    /// Where the browser goes after paying; `{CHECKOUT_SESSION_ID}` in it becomes the session's id.
    success_url: Option<String>,
    /// Where it goes when the session ended unpaid.
    failure_url: Option<String>,
    /// Where it goes when the merchant cancelled.
    cancel_url: Option<String>,
    /// At most one open session holds it.
    #[schemars(length(min = 1, max = 255))]
    idempotency_key: Option<String>,
    /// Echoed, and copied into the provider's notes.
    #[schemars(with = "Option<Metadata>")]
    metadata: Option<Map<String, Value>>,
}

#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "CheckoutConfiguration")]
struct Configuration {
    #[schemars(required)]
    create_subscription_params: Option<SubscriptionParams>,
}

#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "CreateSubscriptionParams")]
struct SubscriptionParams {
    /// A plan's id or lookup key.
    plan_id: String,
    /// ISO 4217, any letter case.
    #[schemars(length(equal = 3))]
    currency: String,
    /// Any letter case; needed when the plan has several.
    #[schemars(with = "Option<BillingPeriod>", extend("examples" = ["MONTHLY"]))]
    billing_period: Option<String>,
    /// Needed when the plan has several.
    #[schemars(range(min = 1))]
    billing_period_count: Option<u32>,
    /// Now, if not given.
    #[serde(default, deserialize_with = "optional_time")]
    start_date: Option<DateTime<Utc>>,
    #[serde(default, deserialize_with = "optional_time")]
    end_date: Option<DateTime<Utc>>,
    /// Copied to the subscription.
    #[schemars(length(max = 255))]
    lookup_key: Option<String>,
    /// Copied to the subscription.
    #[schemars(with = "Option<Metadata>")]
    metadata: Option<Map<String, Value>>,
    /// Must be absent.
    #[schemars(with = "Option<()>")]
    subscription_id: Option<Value>,
}

#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "PaymentProviderConfig")]
struct ProviderConfig {
    /// `send_invoice`: the customer pays on the link.
    #[schemars(extend("enum" = ["send_invoice", null]))]
    collection_method: Option<String>,
}

const CREATE_REFUSALS: &[(u16, &str)] = &[
    (404, "no such customer or plan"),
    (409, "an open session holds the idempotency key; `details.checkout_session` is that session"),
    (502, "Razorpay refused; the session is failed"),
];

/// Which endpoint owns an action that is not for this one.
const OTHER_ACTIONS: [(&str, &str); 4] = [
    ("modify_subscription", "POST /v1/subscriptions/{id}/modify/execute with checkout"),
    ("wallet_topup", "POST /v1/wallets/{id}/top-up with checkout"),
    ("add_addon", "POST /v1/subscriptions/addon with checkout"),
    ("pay_invoice", "POST /v1/invoices with checkout"),
];

const KEY_CHARACTERS: std::ops::RangeInclusive<usize> = 1..=255;

impl CreateRequest {
    /// Parses everything that can be judged without the database; all violations at once.
    fn parse(self, mode: Mode, now: DateTime<Utc>) -> Result<NewSession, ApiError> {
        let mut violations = Violations::default();
        if let Some((_, owner)) = OTHER_ACTIONS.iter().find(|(action, _)| *action == self.action) {
            violations.add("action", format!("belongs to {owner}; here it must be create_subscription"));
        } else {
            violations.require(self.action == "create_subscription", "action", "must be create_subscription");
        }
        violations.require(self.payment_provider == "razorpay", "payment_provider", "must be razorpay");
        let external_id = &self.customer_external_id;
        violations.require(
            KEY_CHARACTERS.contains(&external_id.chars().count()),
            "customer_external_id",
            "must have 1 to 255 characters",
        );
        let urls = [
            ("success_url", &self.success_url),
            ("failure_url", &self.failure_url),
            ("cancel_url", &self.cancel_url),
        ];
        for (field, url) in urls {
            if let Some(rule) = url.as_deref().and_then(|url| urls::broken_rule(url, mode)) {
                violations.add(field, rule);
            }
        }
        if let Some(key) = &self.idempotency_key {
            violations.require(
                KEY_CHARACTERS.contains(&key.chars().count()),
                "idempotency_key",
                "must have 1 to 255 characters",
            );
        }
        let metadata = self.metadata.unwrap_or_default();
        metadata_violations(&mut violations, "metadata", &metadata);
        let collection_method = self
            .payment_provider_config
            .and_then(|config| config.collection_method)
            .unwrap_or_else(|| "send_invoice".into());
        violations.require(
            collection_method == "send_invoice",
            "payment_provider_config.collection_method",
            "must be send_invoice: automatic charges are not supported yet",
        );
        let Some(params) =
            self.configuration.and_then(|configuration| configuration.create_subscription_params)
        else {
            violations.add("configuration.create_subscription_params", "is required");
            return Err(violations.finish().expect_err("a violation was just added"));
        };
        let terms = params.parse(now, &mut violations);
        violations.finish()?;
        let Some(terms) = terms else {
            return Err(ApiError::internal(anyhow::anyhow!("a violation went missing")));
        };
        Ok(NewSession {
            customer_external_id: self.customer_external_id,
            plan: terms.plan,
            currency: terms.currency,
            billing_period: terms.period,
            billing_period_count: terms.count,
            start_date: terms.start_date,
            end_date: terms.end_date,
            subscription_lookup_key: terms.lookup_key,
            subscription_metadata: terms.metadata,
            collection_method,
            idempotency_key: self.idempotency_key,
            success_url: self.success_url,
            failure_url: self.failure_url,
            cancel_url: self.cancel_url,
            metadata,
        })
    }
}

struct Terms {
    plan: String,
    currency: Currency,
    period: Option<BillingPeriod>,
    count: Option<u32>,
    start_date: Option<DateTime<Utc>>,
    end_date: Option<DateTime<Utc>>,
    lookup_key: Option<String>,
    metadata: Map<String, Value>,
}

impl SubscriptionParams {
    /// `None` only when a violation was noted.
    fn parse(self, now: DateTime<Utc>, violations: &mut Violations) -> Option<Terms> {
        let field = |name: &str| format!("configuration.create_subscription_params.{name}");
        violations.require(!self.plan_id.is_empty(), &field("plan_id"), "must not be empty");
        violations.require(
            self.subscription_id.is_none(),
            &field("subscription_id"),
            "must be absent: use POST /v1/subscriptions with checkout",
        );
        let currency = self.currency.parse::<Currency>();
        if let Err(error) = &currency {
            violations.add(field("currency"), error.to_string());
        }
        let period = self.billing_period.as_deref().map(str::parse::<BillingPeriod>).transpose();
        if let Err(error) = &period {
            violations.add(field("billing_period"), error.to_string());
        }
        violations.require(
            self.billing_period_count != Some(0),
            &field("billing_period_count"),
            "must be at least 1",
        );
        let start = self.start_date.unwrap_or(now);
        violations.require(
            self.end_date.is_none_or(|end| end >= start),
            &field("end_date"),
            "must not be before start_date, which is now when not given",
        );
        check_length(violations, &field("lookup_key"), self.lookup_key.as_deref(), *KEY_CHARACTERS.end());
        let metadata = self.metadata.unwrap_or_default();
        metadata_violations(violations, &field("metadata"), &metadata);
        Some(Terms {
            plan: self.plan_id,
            currency: currency.ok()?,
            period: period.ok()?,
            count: self.billing_period_count,
            start_date: self.start_date,
            end_date: self.end_date,
            lookup_key: self.lookup_key,
            metadata,
        })
    }
}

async fn create(
    caller: Caller,
    State(app): State<App>,
    ticket: Ticket,
    reserved: Reserved,
    Body(request): Body<CreateRequest>,
) -> Result<Created<SessionResponse>, ApiError> {
    // First: the rest may be judged differently by now.
    if let Some(id) = reserved.earlier()
        && let Some(session) = store::find(&app.pool, caller.scope, id).await?
    {
        // Drafted already: it waits for Razorpay only, which is nobody else's turn.
        drop(ticket);
        return Ok(Created(create::resume(&app, session).await?));
    }
    let (id, ttl) = (reserved.id(&app.ids), caller.session_ttl(&app));
    let request = request.parse(caller.mode, app.clock.now())?;
    let session = create::create(&app, caller.scope, id, ttl, ticket, request).await?;
    Ok(Created(session))
}

#[derive(Deserialize, JsonSchema)]
struct ReadQuery {
    /// Seconds to hold the answer for, until the session is terminal.
    #[schemars(range(max = 30))]
    wait: Option<u64>,
}

/// The longest `?wait=`.
const MAX_WAIT_SECONDS: u64 = 30;
/// While waiting, the row is read at least this often: another replica may have ended the session.
const WAIT_STEP: Duration = Duration::from_secs(1);

async fn read(
    caller: Caller,
    State(app): State<App>,
    IdPath(id): IdPath<SessionId>,
    Query(query): Query<ReadQuery>,
) -> Result<Json<SessionResponse>, ApiError> {
    let wait = query.wait.unwrap_or(0);
    if wait > MAX_WAIT_SECONDS {
        return Err(ApiError::validation("wait", "must be at most 30 seconds"));
    }
    let until = app.clock.now() + Duration::from_secs(wait);
    loop {
        // Registered before the read, so that an end between the read and the wait is not missed.
        let ended = app.wake.until_session_ended();
        let session = load(&app, caller.scope, id).await?;
        let (session, stale) = reconcile::refresh(&app, session, Cause::Poll).await?;
        let now = app.clock.now();
        if session.state.status.is_terminal() || now >= until {
            return Ok(Json(SessionResponse::new(session, now, stale)));
        }
        let left = (until - now).to_std().unwrap_or_default();
        tokio::select! {
            () = ended => {}
            () = app.clock.sleep(left.min(WAIT_STEP)) => {}
            () = app.wake.stopping() => return Ok(Json(SessionResponse::new(session, now, stale))),
        }
    }
}

async fn load(app: &App, scope: Scope, id: SessionId) -> Result<Session, ApiError> {
    store::find(&app.pool, scope, id).await?.ok_or_else(|| ApiError::not_found(SessionId::NOUN))
}

async fn cancel(
    caller: Caller,
    State(app): State<App>,
    IdPath(id): IdPath<SessionId>,
) -> Result<Json<SessionResponse>, ApiError> {
    let session = cancel::cancel(&app, caller.scope, id, Cause::Cancel).await?;
    Ok(Json(SessionResponse::new(session, app.clock.now(), false)))
}

async fn delete(
    caller: Caller,
    State(app): State<App>,
    IdPath(id): IdPath<SessionId>,
) -> Result<NoContent, ApiError> {
    cancel::delete(&app, caller.scope, id).await?;
    Ok(NoContent)
}

#[derive(Deserialize, JsonSchema)]
struct ListQuery {
    #[schemars(with = "Option<Status>")]
    status: Option<String>,
    /// Another name for `status`.
    #[schemars(with = "Option<Status>")]
    checkout_status: Option<String>,
    customer_id: Option<String>,
    customer_external_id: Option<String>,
    #[serde(default, deserialize_with = "optional_time")]
    start_time: Option<DateTime<Utc>>,
    #[serde(default, deserialize_with = "optional_time")]
    end_time: Option<DateTime<Utc>>,
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<i64>,
    #[schemars(range(min = 0))]
    offset: Option<i64>,
}

async fn list(
    caller: Caller,
    State(app): State<App>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<SessionResponse>>, ApiError> {
    let page = page(query.limit, query.offset)?;
    let status = query.status.map(|text| ("status", text));
    let status = status.or(query.checkout_status.map(|text| ("checkout_status", text)));
    let status = status
        .map(|(field, text)| {
            text.parse::<Status>().map_err(|error| ApiError::validation(field, &error.to_string()))
        })
        .transpose()?;
    let mut customer = query.customer_id.map(|text| text.parse::<CustomerId>());
    if let Some(external_id) = &query.customer_external_id {
        let found = crate::customers::find_by_external_id(&app, caller.scope, external_id).await?;
        customer = Some(found.map(|customer| customer.id).ok_or(crate::kit::ids::MalformedId("cust")));
    }
    // A customer that does not exist has no sessions.
    let Ok(customer) = customer.transpose() else { return Ok(Json(Page::new(Vec::new(), 0, page))) };
    let filter = ListFilter { status, customer, created_from: query.start_time, created_to: query.end_time };
    let (sessions, total) = store::list(&app.pool, caller.scope, &filter, page).await?;
    let now = app.clock.now();
    let items = sessions.into_iter().map(|session| SessionResponse::new(session, now, true)).collect();
    Ok(Json(Page::new(items, total, page)))
}
