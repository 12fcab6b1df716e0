//! The independent checker: what must be true of a finished run, judged from Razorpay's books, the merchants'
//! receivers and the public API alone. Pure: evidence in, violations out. It knows nothing of the service's
//! tables or code, so that both cannot be wrong in the same way.

mod events;
mod money;
mod refunds;
mod sessions;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};

/// Everything that was seen.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// By the API, at the end.
    pub sessions: Vec<Session>,
    /// Ids that answers to creates named.
    pub named: Vec<Named>,
    /// What readers saw meanwhile.
    pub observations: Vec<Observation>,
    /// Two open sessions under one idempotency key, seen at the same time.
    pub overlaps: Vec<String>,
    /// Razorpay's books.
    pub links: Vec<Link>,
    pub payments: Vec<Payment>,
    pub refunds: Vec<Refund>,
    /// By the API, at the end.
    pub events: Vec<Event>,
    /// The merchants' endpoints.
    pub endpoints: Vec<Endpoint>,
    /// Everything that arrived there, oldest first.
    pub receipts: Vec<Receipt>,
}

/// A session as the API shows it at the end, with what it drafted.
#[derive(Clone, Debug)]
pub struct Session {
    pub id: String,
    pub merchant: usize,
    /// `None`: the API does not know it.
    pub found: Option<Found>,
}

#[derive(Clone, Debug)]
pub struct Found {
    pub status: String,
    /// Minor units.
    pub amount: i64,
    /// Upper case.
    pub currency: String,
    pub subscription_status: String,
    pub invoice_status: String,
    pub invoice_payment_status: String,
    /// Minor units.
    pub invoice_paid: i64,
    pub payment_status: String,
    /// The provider payment that the payment names.
    pub applied: Option<String>,
}

/// An answer to a create that named a session.
#[derive(Clone, Debug)]
pub struct Named {
    pub session: String,
    pub merchant: usize,
    pub status: u16,
}

/// A session as a reader saw it.
#[derive(Clone, Debug)]
pub struct Observation {
    pub session: String,
    pub sent_ns: u128,
    pub received_ns: u128,
    pub status: String,
    /// Of all that may not change once terminal; `None` when the answer did not show it.
    pub digest: Option<[u8; 8]>,
}

#[derive(Clone, Debug)]
pub struct Link {
    pub id: String,
    pub reference: String,
    pub payable: bool,
}

/// A payment that took money.
#[derive(Clone, Debug)]
pub struct Payment {
    pub id: String,
    pub link: String,
    /// Minor units.
    pub amount: i64,
    /// Upper case.
    pub currency: String,
}

#[derive(Clone, Debug)]
pub struct Refund {
    pub payment: String,
    /// Minor units.
    pub amount: i64,
    pub state: RefundState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefundState {
    Pending,
    Processed,
    Failed,
}

#[derive(Clone, Debug)]
pub struct Event {
    pub id: String,
    pub merchant: usize,
    pub kind: String,
    /// The session or refund it is about.
    pub subject: String,
    pub sequence: i64,
    /// The session's status in it.
    pub status: Option<String>,
    /// The provider payment that a refund gives back.
    pub payment: Option<String>,
    pub body: [u8; 8],
}

#[derive(Clone, Debug)]
pub struct Endpoint {
    pub merchant: usize,
    /// Wants all when empty.
    pub kinds: Vec<String>,
}

/// A request at an endpoint.
#[derive(Clone, Debug)]
pub struct Receipt {
    /// Index of its endpoint.
    pub endpoint: usize,
    pub event: String,
    pub body: [u8; 8],
    /// Signature and timestamp are right, by the Standard Webhooks specification.
    pub verified: bool,
    /// What the receiver answered; `None` when it hung up or was left before it could.
    pub answered: Option<u16>,
}

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub rule: &'static str,
    /// Whether time may still heal it. What cannot heal need not be waited for.
    pub heals: bool,
    /// What it is about: the id of a session, payment, link or event.
    pub subject: String,
    pub text: String,
}

/// Evidence by id, and what was found so far.
struct Case<'e> {
    evidence: &'e Evidence,
    sessions: HashMap<&'e str, &'e Session>,
    links: HashMap<&'e str, &'e Link>,
    refunds: HashMap<&'e str, Vec<&'e Refund>>,
    found: Vec<Violation>,
}

impl Case<'_> {
    /// Must never be so.
    fn broken(&mut self, rule: &'static str, subject: &str, text: impl Into<String>) {
        self.found.push(Violation { rule, heals: false, subject: subject.to_owned(), text: text.into() });
    }

    /// Must not stay so.
    fn unfinished(&mut self, rule: &'static str, subject: &str, text: impl Into<String>) {
        self.found.push(Violation { rule, heals: true, subject: subject.to_owned(), text: text.into() });
    }
}

/// Whether a session in this status has ended.
pub fn is_terminal(status: &str) -> bool {
    matches!(status, "completed" | "failed" | "expired")
}

/// Everything that is wrong.
pub fn violations(evidence: &Evidence) -> Vec<Violation> {
    let mut refunds: HashMap<&str, Vec<&Refund>> = HashMap::new();
    for refund in &evidence.refunds {
        refunds.entry(&refund.payment).or_default().push(refund);
    }
    let mut case = Case {
        evidence,
        sessions: evidence.sessions.iter().map(|session| (session.id.as_str(), session)).collect(),
        links: evidence.links.iter().map(|link| (link.id.as_str(), link)).collect(),
        refunds,
        found: Vec::new(),
    };
    sessions::check(&mut case);
    money::check(&mut case);
    refunds::check(&mut case);
    events::check(&mut case);
    case.found
}

/// Items of one key together, in order.
fn grouped<'e, T, K: Ord>(items: &'e [T], key: impl Fn(&'e T) -> K) -> BTreeMap<K, Vec<&'e T>> {
    let mut groups: BTreeMap<K, Vec<&T>> = BTreeMap::new();
    for item in items {
        groups.entry(key(item)).or_default().push(item);
    }
    groups
}
