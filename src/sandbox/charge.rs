//! Paying a link: the attempt, its order, the capture and the events that tell of them.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use super::SandboxError;
use super::account::Account;
use super::books::{Books, is_id};
use super::errors::WireError;
use super::events;
use super::instruments::{DECLINED, Instrument, Verdict, find_card, find_upi};
use super::ledger::{Link, LinkStatus, Order, Payment, PaymentStatus};
use super::webhooks::sign;
use super::wire::{self, PaymentView, Reply};

/// How a link is to be paid. The default pays it in full by card.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PayRequest {
    /// What it is paid with.
    pub method: PayMethod,
    /// How it ends.
    pub outcome: PayOutcome,
    /// Captures this instead of what is due, minor units: wrong money.
    pub amount: Option<i64>,
    /// Captures in this currency instead of the link's: wrong money.
    pub currency: Option<String>,
    /// Emits only these of the events; none: all that the account is subscribed to.
    pub events: Option<Vec<String>>,
    /// Pays although the link is cancelled, expired or paid already, as a bank that answers late can. The
    /// link keeps its status, and `payment_link.paid` is not emitted.
    pub late: bool,
}

/// What a payment is made with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PayMethod {
    /// Razorpay's first test card.
    #[default]
    Card,
    /// `success@razorpay` or `failure@razorpay`.
    Upi,
}

/// How an attempt ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PayOutcome {
    /// The money is captured.
    #[default]
    Success,
    /// The bank declines.
    Failure,
}

/// What came of an attempt.
#[derive(Clone, Debug, Serialize)]
pub struct PaidInfo {
    /// `plink_…`
    pub link_id: String,
    /// `order_…`
    pub order_id: String,
    /// `pay_…`
    pub payment_id: String,
    /// Captured, or failed.
    pub payment_status: PaymentStatus,
    /// The link's status after the attempt.
    pub link_status: LinkStatus,
    /// Where the payer's browser would go: `callback_url` with Razorpay's signed parameters. None after a
    /// failure, for a late payment, or when the link has no callback.
    pub redirect_url: Option<String>,
}

/// An attempt to pay, whoever makes it.
pub(super) struct Charge {
    pub verdict: Verdict,
    pub amount: Option<i64>,
    pub currency: Option<String>,
    pub events: Option<Vec<String>>,
    pub late: bool,
}

impl Charge {
    pub fn of(verdict: Verdict) -> Self {
        Self { verdict, amount: None, currency: None, events: None, late: false }
    }
}

impl From<PayRequest> for Charge {
    fn from(request: PayRequest) -> Self {
        let verdict = match request.method {
            PayMethod::Card => find_card("4100 2800 0000 1007"),
            PayMethod::Upi if request.outcome == PayOutcome::Failure => find_upi("failure@razorpay"),
            PayMethod::Upi => find_upi("success@razorpay"),
        };
        let (instrument, _) = verdict.expect("these are in the table of test cards and UPI ids");
        let failure = (request.outcome == PayOutcome::Failure).then(|| DECLINED.clone());
        Self {
            verdict: (instrument, failure),
            amount: request.amount,
            currency: request.currency,
            events: request.events,
            late: request.late,
        }
    }
}

impl Books {
    pub fn charge(&mut self, link_index: usize, charge: &Charge) -> Result<PaidInfo, SandboxError> {
        self.expire_due();
        let link = &self.ledger.links[link_index];
        let was_open = link.is_open();
        if !was_open && !charge.late {
            return Err(SandboxError::NotPayable { link_id: link.id.clone(), status: link.status });
        }
        let order_index = self.ensure_order(link_index);
        let payment_index = self.record_attempt(link_index, order_index, charge);
        if self.ledger.payments[payment_index].failure.is_none() {
            self.capture(link_index, order_index, payment_index, was_open);
        }
        self.emit_payment_events(link_index, order_index, payment_index, charge, was_open);
        let link = &self.ledger.links[link_index];
        let payment = &self.ledger.payments[payment_index];
        Ok(PaidInfo {
            link_id: link.id.clone(),
            order_id: payment.order_id.clone(),
            payment_id: payment.id.clone(),
            payment_status: payment.status,
            link_status: link.status,
            redirect_url: if was_open { self.redirect_url(link, payment) } else { None },
        })
    }

    fn ensure_order(&mut self, link_index: usize) -> usize {
        let link = &self.ledger.links[link_index];
        if let Some(index) = link.order_id.as_ref().and_then(|id| self.order_by_id.get(id)) {
            return *index;
        }
        let order = Order {
            id: self.ids.next("order_"),
            account_id: link.account_id.clone(),
            link_id: link.id.clone(),
            amount: link.terms.amount,
            amount_paid: 0,
            currency: link.terms.currency.clone(),
            receipt: link.terms.reference_id.clone(),
            attempts: 0,
            paid: false,
            notes: link.terms.notes.clone(),
            created_at: self.now().timestamp(),
        };
        let index = self.ledger.orders.len();
        self.ledger.links[link_index].order_id = Some(order.id.clone());
        self.order_by_id.insert(order.id.clone(), index);
        self.ledger.orders.push(order);
        index
    }

    fn record_attempt(&mut self, link_index: usize, order_index: usize, charge: &Charge) -> usize {
        let now = self.now().timestamp();
        let link = &self.ledger.links[link_index];
        // A second payment on a paid link is a full one.
        let due = link.terms.amount - link.amount_paid;
        let amount = charge.amount.unwrap_or(if due > 0 { due } else { link.terms.amount });
        let (instrument, failure) = charge.verdict.clone();
        let is_card = matches!(instrument, Instrument::Card { .. });
        let status = if failure.is_some() { PaymentStatus::Failed } else { PaymentStatus::Captured };
        let tax = amount / 50 * 18 / 100;
        let payment = Payment {
            id: self.ids.next("pay_"),
            account_id: link.account_id.clone(),
            link_id: link.id.clone(),
            order_id: self.ledger.orders[order_index].id.clone(),
            amount,
            currency: charge.currency.clone().unwrap_or_else(|| link.terms.currency.clone()),
            status,
            amount_refunded: 0,
            instrument,
            card_id: is_card.then(|| self.ids.next("card_")),
            rrn: self.ids.digits(12),
            failure,
            email: customer_field(link, "email").unwrap_or_else(|| "void@razorpay.com".to_owned()),
            contact: customer_field(link, "contact").map_or_else(|| "+919000090000".to_owned(), with_country),
            notes: link.terms.notes.clone(),
            fee: amount / 50 + tax,
            tax,
            created_at: now,
        };
        self.ledger.orders[order_index].attempts += 1;
        self.ledger.links[link_index].updated_at = now;
        let index = self.ledger.payments.len();
        self.payment_by_id.insert(payment.id.clone(), index);
        self.payments_by_order.entry(payment.order_id.clone()).or_default().push(index);
        self.ledger.payments.push(payment);
        index
    }

    fn capture(&mut self, link_index: usize, order_index: usize, payment_index: usize, was_open: bool) {
        let payment = &self.ledger.payments[payment_index];
        let link = &mut self.ledger.links[link_index];
        link.payment_ids.push(payment.id.clone());
        link.amount_paid = link.amount_paid.saturating_add(payment.amount);
        if was_open {
            let more_due = link.terms.accept_partial && link.amount_paid < link.terms.amount;
            link.status = if more_due { LinkStatus::PartiallyPaid } else { LinkStatus::Paid };
        }
        let order = &mut self.ledger.orders[order_index];
        order.amount_paid = order.amount_paid.saturating_add(payment.amount);
        order.paid = link.status != LinkStatus::PartiallyPaid;
    }

    fn emit_payment_events(
        &mut self,
        link: usize,
        order: usize,
        payment: usize,
        charge: &Charge,
        was_open: bool,
    ) {
        let now = self.now().timestamp();
        let (link, order, payment) =
            (&self.ledger.links[link], &self.ledger.orders[order], &self.ledger.payments[payment]);
        let account_id = payment.account_id.clone();
        let mut told = Vec::new();
        if payment.status == PaymentStatus::Failed {
            told.push(("payment.failed", events::payment_event("payment.failed", payment, now)));
        } else {
            let authorized = Payment { status: PaymentStatus::Authorized, ..payment.clone() };
            told.push(("payment.authorized", events::payment_event("payment.authorized", &authorized, now)));
            told.push(("payment.captured", events::payment_event("payment.captured", payment, now)));
            if order.paid {
                told.push(("order.paid", events::order_paid(order, payment, now)));
            }
            if was_open {
                let partial = link.status == LinkStatus::PartiallyPaid;
                let event = if partial { "payment_link.partially_paid" } else { "payment_link.paid" };
                told.push((event, events::link_event(event, link, Some((order, payment)))));
            }
        }
        for (event, body) in told {
            if charge.events.as_ref().is_none_or(|wanted| wanted.iter().any(|name| name == event)) {
                self.emit(&account_id, event, body);
            }
        }
    }

    /// Where the browser goes after a payment, signed with the API key's secret. A query that the callback
    /// already has is kept.
    pub fn redirect_url(&self, link: &Link, payment: &Payment) -> Option<String> {
        if !payment.was_captured() {
            return None;
        }
        let mut url = Url::parse(link.terms.callback_url.as_ref()?).ok()?;
        let secret = &self.account_of(&link.account_id)?.key_secret;
        let (reference, status) = (&link.terms.reference_id, link.status.as_str());
        let signature = callback_signature(secret, &link.id, reference, status, &payment.id);
        url.query_pairs_mut()
            .append_pair("razorpay_payment_id", &payment.id)
            .append_pair("razorpay_payment_link_id", &link.id)
            .append_pair("razorpay_payment_link_reference_id", reference)
            .append_pair("razorpay_payment_link_status", status)
            .append_pair("razorpay_signature", &signature);
        Some(url.into())
    }

    pub fn fetch_payment(&self, account: &Account, id: &str) -> Result<Reply, WireError> {
        let index = self.own_payment(account, id)?;
        Ok(Reply::ok(&wire::payment(&self.ledger.payments[index], PaymentView::Plain)))
    }

    /// Every attempt, failed ones included, newest first.
    pub fn order_payments(&self, account: &Account, order_id: &str) -> Result<Reply, WireError> {
        if !is_id("order_", order_id) {
            return Err(WireError::core(format!("{order_id} is not a valid id")));
        }
        let owned = |index: &usize| self.ledger.orders[*index].account_id == account.account_id;
        if !self.order_by_id.get(order_id).is_some_and(owned) {
            return Err(WireError::core("The id provided does not exist"));
        }
        let indexes = self.payments_by_order.get(order_id).into_iter().flatten().rev();
        let items = indexes.map(|index| wire::payment(&self.ledger.payments[*index], PaymentView::Plain));
        Ok(Reply::ok(&wire::collection(items.collect())))
    }

    pub fn own_payment(&self, account: &Account, id: &str) -> Result<usize, WireError> {
        if !is_id("pay_", id) {
            return Err(WireError::core(format!("{id} is not a valid id")));
        }
        self.payment_by_id
            .get(id)
            .copied()
            .filter(|index| self.ledger.payments[*index].account_id == account.account_id)
            .ok_or_else(|| WireError::core("The id provided does not exist"))
    }
}

/// The signature of the redirect to `callback_url`: hex HMAC-SHA256 with the API key's secret.
pub(super) fn callback_signature(
    secret: &str,
    link_id: &str,
    reference: &str,
    status: &str,
    payment: &str,
) -> String {
    sign(secret, format!("{link_id}|{reference}|{status}|{payment}").as_bytes())
}

fn customer_field(link: &Link, field: &str) -> Option<String> {
    let value = link.terms.customer.as_ref()?.get(field).and_then(Value::as_str)?;
    (!value.is_empty()).then(|| value.to_owned())
}

/// Payments carry the country code that link customers often lack.
fn with_country(contact: String) -> String {
    if contact.starts_with('+') { contact } else { format!("+91{contact}") }
}
