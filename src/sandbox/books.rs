//! The sandbox's state and rules: a ledger with its indexes, behind one mutex. Nothing in here waits.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::account::{Account, Ids};
use super::errors::WireError;
use super::events;
use super::faults::Faults;
use super::ledger::{Ledger, Link, LinkStatus, Payment};
use super::links::parse_terms;
use super::wire::{self, LinkView};
use super::{Clock, SandboxError};

/// Everything the sandbox knows, and the only place that changes it.
pub(super) struct Books {
    clock: Clock,
    /// Moves the sandbox's time against the clock it was started with.
    pub clock_offset: TimeDelta,
    pub(super) ids: Ids,
    public_url: String,
    accounts: Vec<Account>,
    pub faults: Faults,
    pub(super) retry_ladder_ms: Vec<i64>,
    pub(super) webhooks_due: Arc<Notify>,
    pub(super) ledger: Ledger,
    link_by_id: HashMap<String, usize>,
    link_by_slug: HashMap<String, usize>,
    link_by_reference: HashMap<(String, String), Vec<usize>>,
    pub(super) order_by_id: HashMap<String, usize>,
    pub(super) payment_by_id: HashMap<String, usize>,
    pub(super) payments_by_order: HashMap<String, Vec<usize>>,
    pub(super) refund_by_id: HashMap<String, usize>,
    pub(super) refund_by_key: HashMap<(String, String), (String, usize)>,
    /// Open links by deadline, Unix seconds.
    expiring: BTreeSet<(i64, usize)>,
    /// Deliveries by the time of their next attempt, Unix milliseconds.
    pub(super) pending: BTreeSet<(i64, usize)>,
}

/// What a list request asks for.
#[derive(Debug, Default)]
pub(super) struct LinkFilter {
    pub reference_id: Option<String>,
    pub payment_id: Option<String>,
    pub count: usize,
    pub skip: usize,
}

impl Books {
    pub fn new(clock: Clock, seed: u64, public_url: String, retry_ladder_ms: Vec<i64>) -> Self {
        Self {
            clock,
            clock_offset: TimeDelta::zero(),
            ids: Ids::new(seed),
            public_url,
            accounts: Vec::new(),
            faults: Faults::default(),
            retry_ladder_ms,
            webhooks_due: Arc::default(),
            ledger: Ledger::default(),
            link_by_id: HashMap::new(),
            link_by_slug: HashMap::new(),
            link_by_reference: HashMap::new(),
            order_by_id: HashMap::new(),
            payment_by_id: HashMap::new(),
            payments_by_order: HashMap::new(),
            refund_by_id: HashMap::new(),
            refund_by_key: HashMap::new(),
            expiring: BTreeSet::new(),
            pending: BTreeSet::new(),
        }
    }

    /// Sandbox time.
    pub fn now(&self) -> DateTime<Utc> {
        (self.clock)() + self.clock_offset
    }

    pub fn ledger(&mut self) -> &Ledger {
        self.expire_due();
        &self.ledger
    }

    /// Creates or replaces the account of this key; its webhook becomes that of the business.
    pub fn put_account(&mut self, account: Account) -> &Account {
        self.accounts.retain(|known| known.key_id != account.key_id);
        self.accounts.push(account.with_account_id());
        &self.accounts[self.accounts.len() - 1]
    }

    pub fn account_by_key(&self, key_id: &str) -> Option<&Account> {
        self.accounts.iter().find(|account| account.key_id == key_id)
    }

    /// The account put last for a business: its webhook and its secret count.
    pub fn account_of(&self, account_id: &str) -> Option<&Account> {
        self.accounts.iter().rev().find(|account| account.account_id == account_id)
    }

    pub fn create_link(&mut self, account: &Account, body: &[u8]) -> Result<Value, WireError> {
        self.expire_due();
        let now = self.now();
        let terms = parse_terms(body, account.is_live(), now)?;
        let reference = (account.account_id.clone(), terms.reference_id.clone());
        if !terms.reference_id.is_empty() && self.link_by_reference.contains_key(&reference) {
            return Err(WireError::link(format!(
                "payment link with given reference_id: {} already exists. Please create a payment link with a \
                 different reference_id",
                terms.reference_id
            )));
        }
        let slug = self.ids.alphanumeric(8);
        let link = Link {
            id: self.ids.next("plink_"),
            account_id: account.account_id.clone(),
            short_url: format!("{}/l/{slug}", self.public_url),
            slug,
            terms,
            status: LinkStatus::Created,
            amount_paid: 0,
            order_id: None,
            payment_ids: Vec::new(),
            created_at_ms: now.timestamp_millis(),
            updated_at: now.timestamp(),
            cancelled_at: 0,
            expired_at: 0,
        };
        let answer = wire::link(&link, LinkView::Created);
        self.insert_link(link);
        Ok(answer)
    }

    /// What Razorpay promises never to do: a second link like the newest one, under the same reference.
    pub fn repeat_newest_link(&mut self) {
        let Some(newest) = self.ledger.links.last().cloned() else { return };
        let slug = self.ids.alphanumeric(8);
        let short_url = format!("{}/l/{slug}", self.public_url);
        let id = self.ids.next("plink_");
        self.insert_link(Link { id, slug, short_url, ..newest });
    }

    fn insert_link(&mut self, link: Link) {
        let index = self.ledger.links.len();
        self.link_by_id.insert(link.id.clone(), index);
        self.link_by_slug.insert(link.slug.clone(), index);
        if !link.terms.reference_id.is_empty() {
            let reference = (link.account_id.clone(), link.terms.reference_id.clone());
            self.link_by_reference.entry(reference).or_default().push(index);
        }
        if link.terms.expire_by != 0 {
            self.expiring.insert((link.terms.expire_by, index));
        }
        self.ledger.links.push(link);
    }

    pub fn fetch_link(&mut self, account: &Account, id: &str) -> Result<Value, WireError> {
        self.expire_due();
        let link = &self.ledger.links[self.own_link(account, id)?];
        let captured: Vec<&Payment> = link.payment_ids.iter().filter_map(|id| self.payment(id)).collect();
        Ok(wire::link(link, LinkView::Fetched { captured: &captured }))
    }

    /// Newest first; links younger than the list lag are missing.
    pub fn list_links(&mut self, account: &Account, filter: &LinkFilter) -> Result<Value, WireError> {
        self.expire_due();
        if filter.reference_id.as_ref().is_some_and(|reference| reference.chars().count() > 40) {
            return Err(WireError::core_field(
                "reference_id",
                "The receipt may not be greater than 40 characters.",
            ));
        }
        let visible_before_ms = self.now().timestamp_millis() - self.faults.list_lag_ms;
        let matches = |link: &&Link| {
            link.account_id == account.account_id
                && link.created_at_ms <= visible_before_ms
                && filter.reference_id.as_ref().is_none_or(|wanted| *wanted == link.terms.reference_id)
                && filter.payment_id.as_ref().is_none_or(|wanted| link.payment_ids.contains(wanted))
        };
        let listed = |links: &mut dyn Iterator<Item = &Link>| -> Vec<Value> {
            let page = links.filter(matches).skip(filter.skip).take(filter.count);
            page.map(|link| wire::link(link, LinkView::Listed)).collect()
        };
        let found = match &filter.reference_id {
            // No need to look through everything.
            Some(reference) if !reference.is_empty() => {
                let key = (account.account_id.clone(), reference.clone());
                let indices = self.link_by_reference.get(&key).into_iter().flatten();
                listed(&mut indices.rev().map(|index| &self.ledger.links[*index]))
            }
            _ => listed(&mut self.ledger.links.iter().rev()),
        };
        Ok(json!({"payment_links": found}))
    }

    pub fn cancel_link(&mut self, account: &Account, id: &str) -> Result<Value, WireError> {
        self.expire_due();
        let index = self.own_link(account, id)?;
        self.cancel(index).map_err(WireError::link)?;
        Ok(wire::link(&self.ledger.links[index], LinkView::Listed))
    }

    /// Cancels as the merchant; the error is Razorpay's text.
    pub fn cancel(&mut self, index: usize) -> Result<(), &'static str> {
        self.expire_due();
        self.refuse_unless_created(index)?;
        let now = self.now().timestamp();
        let link = &mut self.ledger.links[index];
        link.status = LinkStatus::Cancelled;
        link.cancelled_at = now;
        link.updated_at = now;
        self.emit_link_event("payment_link.cancelled", index);
        Ok(())
    }

    /// Expires a link before its deadline, as if time had passed.
    pub fn expire(&mut self, index: usize) -> Result<(), &'static str> {
        if self.ledger.links[index].status != LinkStatus::PartiallyPaid {
            self.refuse_unless_created(index)?;
        }
        self.mark_expired(index);
        Ok(())
    }

    fn refuse_unless_created(&self, index: usize) -> Result<(), &'static str> {
        match self.ledger.links[index].status {
            LinkStatus::Created => Ok(()),
            LinkStatus::Paid | LinkStatus::PartiallyPaid => {
                Err("cannot cancel or expire an already paid / partially paid link")
            }
            LinkStatus::Expired => Err("cannot cancel or expire an expired link"),
            LinkStatus::Cancelled => Err("cannot cancel or expire a cancelled link"),
        }
    }

    /// Razorpay's sweep: open links whose deadline has come.
    pub fn expire_due(&mut self) {
        let now = self.now().timestamp();
        while let Some((expire_by, index)) = self.expiring.first().copied()
            && expire_by <= now
        {
            self.expiring.remove(&(expire_by, index));
            if self.ledger.links[index].is_open() {
                self.mark_expired(index);
            }
        }
    }

    /// `updated_at` stays as it is, as seen live.
    fn mark_expired(&mut self, index: usize) {
        let now = self.now().timestamp();
        let link = &mut self.ledger.links[index];
        link.status = LinkStatus::Expired;
        link.expired_at = now;
        self.emit_link_event("payment_link.expired", index);
    }

    fn emit_link_event(&mut self, event: &str, index: usize) {
        let link = &self.ledger.links[index];
        let (account_id, body) = (link.account_id.clone(), events::link_event(event, link, None));
        self.emit(&account_id, event, body);
    }

    pub fn payment(&self, id: &str) -> Option<&Payment> {
        self.payment_by_id.get(id).map(|index| &self.ledger.payments[*index])
    }

    pub fn link_with_slug(&self, slug: &str) -> Option<usize> {
        self.link_by_slug.get(slug).copied()
    }

    /// A link of any business by id or `reference_id`.
    pub fn find_link(&self, id_or_reference: &str) -> Result<usize, SandboxError> {
        let by_reference = |account: &Account| {
            self.link_by_reference.get(&(account.account_id.clone(), id_or_reference.to_owned()))?.first()
        };
        self.link_by_id
            .get(id_or_reference)
            .or_else(|| self.accounts.iter().find_map(by_reference))
            .copied()
            .ok_or_else(|| SandboxError::UnknownLink(id_or_reference.to_owned()))
    }

    fn own_link(&self, account: &Account, id: &str) -> Result<usize, WireError> {
        if !is_id("plink_", id) {
            let stripped = id.strip_prefix("plink_").unwrap_or(id);
            return Err(WireError::link(format!("invalid input [strippedId] = [{stripped}]")));
        }
        self.link_by_id
            .get(id)
            .copied()
            .filter(|index| self.ledger.links[*index].account_id == account.account_id)
            .ok_or_else(|| WireError::link("The id provided does not exist"))
    }
}

/// `prefix` and exactly 14 characters of `[A-Za-z0-9]`.
pub(super) fn is_id(prefix: &str, id: &str) -> bool {
    id.strip_prefix(prefix)
        .is_some_and(|rest| rest.len() == 14 && rest.bytes().all(|b| b.is_ascii_alphanumeric()))
}
