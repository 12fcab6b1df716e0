//! Refunds: validation, idempotency by `X-Refund-Idempotency`, and what they do to the payment.

use serde_json::{Map, Value};

use super::SandboxError;
use super::account::Account;
use super::books::{Books, is_id};
use super::errors::WireError;
use super::events;
use super::ledger::{Payment, PaymentStatus, Refund, RefundStatus};
use super::wire::{self, Reply};

const FIELDS: [&str; 4] = ["amount", "speed", "notes", "receipt"];

/// The validated body of a refund request.
struct RefundTerms {
    /// Minor units; none: everything that is left.
    amount: Option<i64>,
    speed: String,
    notes: Option<Map<String, Value>>,
    receipt: Option<String>,
}

impl Books {
    pub fn refund(
        &mut self,
        account: &Account,
        payment_id: &str,
        idempotency_key: Option<&str>,
        body: &[u8],
    ) -> Result<Reply, WireError> {
        let payment_index = self.own_payment(account, payment_id)?;
        let fields = parse_fields(body)?;
        if let Some(key) = idempotency_key {
            check_key(key)?;
        }
        // The same key on another payment is another request.
        let request = format!("{payment_id} {}", Value::Object(fields.clone()));
        let key = idempotency_key.map(|key| (account.account_id.clone(), key.to_owned()));
        if let Some((known, index)) = key.as_ref().and_then(|key| self.refund_by_key.get(key)) {
            if *known != request {
                let text = "Different request with the same idempotency key has already been processed.";
                return Err(WireError::gateway(409, text));
            }
            return Ok(Reply::ok(&wire::refund(&self.ledger.refunds[*index])));
        }
        let payment = &self.ledger.payments[payment_index];
        let terms = check_fields(fields, &payment.currency)?;
        let amount = check_refundable(payment, terms.amount)?;
        self.check_receipt(payment_id, terms.receipt.as_deref())?;
        let index = self.record_refund(payment_index, amount, terms, idempotency_key);
        if let Some(key) = key {
            self.refund_by_key.insert(key, (request, index));
        }
        Ok(Reply::ok(&wire::refund(&self.ledger.refunds[index])))
    }

    fn check_receipt(&self, payment_id: &str, receipt: Option<&str>) -> Result<(), WireError> {
        let Some(receipt) = receipt else { return Ok(()) };
        let mut used = self.ledger.refunds.iter().filter(|refund| refund.payment_id == payment_id);
        if used.any(|refund| refund.receipt.as_deref() == Some(receipt)) {
            return Err(WireError::core("Duplicate receipt found for this refund request."));
        }
        Ok(())
    }

    fn record_refund(
        &mut self,
        payment_index: usize,
        amount: i64,
        terms: RefundTerms,
        key: Option<&str>,
    ) -> usize {
        let status = self.faults.refund_outcome;
        let payment = &self.ledger.payments[payment_index];
        let refund = Refund {
            id: self.ids.next("rfnd_"),
            account_id: payment.account_id.clone(),
            payment_id: payment.id.clone(),
            amount,
            currency: payment.currency.clone(),
            receipt: terms.receipt,
            notes: terms.notes,
            speed: terms.speed,
            status,
            idempotency_key: key.map(str::to_owned),
            created_at: self.now().timestamp(),
        };
        let index = self.ledger.refunds.len();
        self.refund_by_id.insert(refund.id.clone(), index);
        self.ledger.refunds.push(refund);
        if status != RefundStatus::Failed {
            self.move_refunded(payment_index, amount);
        }
        self.emit_refund_event("refund.created", index);
        match status {
            RefundStatus::Pending => {}
            RefundStatus::Processed => self.emit_refund_event("refund.processed", index),
            RefundStatus::Failed => self.emit_refund_event("refund.failed", index),
        }
        index
    }

    /// Ends a pending refund. A failed one gives its amount back to the payment, which can be refunded again.
    pub fn settle_refund(&mut self, id: &str, outcome: RefundStatus) -> Result<(), SandboxError> {
        let unknown = || SandboxError::UnknownRefund(id.to_owned());
        let index = *self.refund_by_id.get(id).ok_or_else(unknown)?;
        let refund = &mut self.ledger.refunds[index];
        if refund.status != RefundStatus::Pending || outcome == RefundStatus::Pending {
            return Err(SandboxError::RefundNotPending(id.to_owned()));
        }
        refund.status = outcome;
        if outcome == RefundStatus::Failed {
            let (payment_index, amount) = (self.payment_by_id[&refund.payment_id], refund.amount);
            self.move_refunded(payment_index, -amount);
            self.emit_refund_event("refund.failed", index);
        } else {
            self.emit_refund_event("refund.processed", index);
        }
        Ok(())
    }

    fn move_refunded(&mut self, payment_index: usize, amount: i64) {
        let payment = &mut self.ledger.payments[payment_index];
        payment.amount_refunded += amount;
        let full = payment.amount_refunded == payment.amount;
        payment.status = if full { PaymentStatus::Refunded } else { PaymentStatus::Captured };
    }

    fn emit_refund_event(&mut self, event: &str, index: usize) {
        let refund = &self.ledger.refunds[index];
        let payment = &self.ledger.payments[self.payment_by_id[&refund.payment_id]];
        let body = events::refund_event(event, refund, payment, self.now().timestamp());
        let account_id = refund.account_id.clone();
        self.emit(&account_id, event, body);
    }

    pub fn fetch_refund(&self, account: &Account, id: &str) -> Result<Reply, WireError> {
        if !is_id("rfnd_", id) {
            return Err(WireError::core(format!("{id} is not a valid id")));
        }
        let refund = self.refund_by_id.get(id).map(|index| &self.ledger.refunds[*index]);
        let refund = refund.filter(|refund| refund.account_id == account.account_id);
        refund
            .map(|refund| Reply::ok(&wire::refund(refund)))
            .ok_or_else(|| WireError::core("The id provided does not exist"))
    }

    /// Newest first.
    pub fn payment_refunds(&self, account: &Account, payment_id: &str) -> Result<Reply, WireError> {
        self.own_payment(account, payment_id)?;
        let refunds = self.ledger.refunds.iter().rev().filter(|refund| refund.payment_id == payment_id);
        Ok(Reply::ok(&wire::collection(refunds.map(wire::refund).collect())))
    }
}

fn check_key(key: &str) -> Result<(), WireError> {
    if !key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') {
        let text = "The idempotency key must only contain alphanumeric characters, underscores, and hyphens.";
        return Err(WireError::gateway(400, text));
    }
    if key.len() < 10 {
        return Err(WireError::gateway(400, "The idempotency key must be at least 10 characters long."));
    }
    Ok(())
}

fn parse_fields(body: &[u8]) -> Result<Map<String, Value>, WireError> {
    if body.is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(fields)) => Ok(fields),
        // An empty PHP array is an empty object.
        Ok(Value::Array(items)) if items.is_empty() => Ok(Map::new()),
        _ => Err(WireError::core("The request body is not a valid JSON object.")),
    }
}

fn check_fields(mut fields: Map<String, Value>, currency: &str) -> Result<RefundTerms, WireError> {
    let extra: Vec<&str> = fields.keys().map(String::as_str).filter(|key| !FIELDS.contains(key)).collect();
    if !extra.is_empty() {
        let text = format!("{} is/are not required and should not be sent", extra.join(", "));
        return Err(WireError::core_because("extra_field_sent", text));
    }
    Ok(RefundTerms {
        amount: check_amount(fields.get("amount"), currency)?,
        speed: match fields.get("speed").map(Value::as_str) {
            None => "normal".to_owned(),
            Some(Some(speed @ ("normal" | "optimum"))) => speed.to_owned(),
            Some(_) => return Err(WireError::core_field("speed", "The selected speed is invalid.")),
        },
        notes: check_notes(fields.remove("notes"))?,
        receipt: fields.get("receipt").and_then(Value::as_str).map(str::to_owned),
    })
}

/// Digits in a string are taken as well: official samples send them.
fn check_amount(amount: Option<&Value>, currency: &str) -> Result<Option<i64>, WireError> {
    let Some(amount) = amount else { return Ok(None) };
    let number = match amount {
        Value::Null => Some(0),
        Value::String(digits) => digits.parse().ok(),
        other => other.as_i64(),
    };
    match number {
        None => Err(WireError::core_field("amount", "The amount must be an integer.")),
        Some(0) => Err(WireError::core_field("amount", "Amount cannot be blank.")),
        Some(minor) if minor < 0 || (currency == "INR" && minor < 100) => {
            Err(WireError::core_field("amount", format!("The amount must be at least {currency} 1.00")))
        }
        Some(minor) => Ok(Some(minor)),
    }
}

fn check_notes(notes: Option<Value>) -> Result<Option<Map<String, Value>>, WireError> {
    let invalid = || WireError::core_field("notes", "Notes validation failed.");
    let notes = match notes {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Array(items)) if items.is_empty() => return Ok(None),
        Some(Value::Object(notes)) => notes,
        Some(_) => return Err(invalid()),
    };
    let too_long = |(key, value): (&String, &Value)| {
        let length = value.as_str().map_or_else(|| value.to_string().len(), |text| text.chars().count());
        key.chars().count() >= 256 || length >= 512 || value.is_object() || value.is_array()
    };
    if notes.len() > 15 || notes.iter().any(too_long) {
        return Err(invalid());
    }
    Ok(Some(notes))
}

/// What is to be refunded, minor units.
fn check_refundable(payment: &Payment, amount: Option<i64>) -> Result<i64, WireError> {
    let left = payment.amount - payment.amount_refunded;
    match payment.status {
        PaymentStatus::Refunded => Err(WireError::core("The payment has been fully refunded already")),
        PaymentStatus::Captured => {
            let amount = amount.unwrap_or(left);
            if amount > left {
                let text = "The refund amount provided is greater than amount captured";
                return Err(WireError::core_field("amount", text));
            }
            Ok(amount)
        }
        PaymentStatus::Authorized | PaymentStatus::Failed => {
            Err(WireError::core("The payment status should be captured for action to be taken"))
        }
    }
}
