//! The life of a session: the state machine, pure. Every change of a session's status is decided here.
//!
//! ```text
//! initiated ──> pending ──> completed | failed | expired
//!     └──────────────────────────^ (the last three never change)
//! ```

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::Serialize;

use crate::{http::Named, kit::money::Money};

crate::define_ids! {
    /// A checkout session; at the same time its link's `reference_id` at the provider.
    SessionId = "chk";
}

impl Named for SessionId {
    const NOUN: &'static str = "checkout session";
}

/// Where a session is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "CheckoutStatus")]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Drafted; the link is not made, or not known to be.
    Initiated,
    /// The customer can pay.
    Pending,
    /// Paid: the subscription is active.
    Completed,
    /// The provider refused or cancelled the link.
    Failed,
    /// The time ran out, or the merchant cancelled.
    Expired,
}

impl Status {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Initiated, Self::Pending, Self::Completed, Self::Failed, Self::Expired];

    /// As in the tables and on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Initiated => "initiated",
            Self::Pending => "pending",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Expired => "expired",
        }
    }

    /// Whether it never changes again.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Expired)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that is none of the known ones.
#[derive(Debug, thiserror::Error)]
#[error("must be one of initiated, pending, completed, failed, expired")]
pub struct UnknownStatus;

impl FromStr for Status {
    type Err = UnknownStatus;

    fn from_str(text: &str) -> Result<Self, UnknownStatus> {
        Self::ALL.into_iter().find(|status| status.as_str() == text).ok_or(UnknownStatus)
    }
}

/// What is known of the payment link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// Not made, or not known to be.
    None,
    /// Payable.
    Open,
    /// We are cancelling it at the provider.
    Closing,
    /// The provider confirmed that nobody can pay on it.
    Closed,
}

impl LinkState {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::None, Self::Open, Self::Closing, Self::Closed];

    /// As in the table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Open => "open",
            Self::Closing => "closing",
            Self::Closed => "closed",
        }
    }

    /// Reads the table's word.
    pub fn from_column(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// The part of a session that decisions depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Its status.
    pub status: Status,
    /// Its link's state.
    pub link_state: LinkState,
    /// Its link at the provider, once known.
    pub link_id: Option<String>,
    /// What the customer owes.
    pub amount: Money,
}

/// Something that is true of the world, however it was learnt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// The provider made the link.
    LinkCreated {
        /// `plink_…`
        link_id: String,
    },
    /// The provider refused to make the link.
    LinkRejected,
    /// The provider holds a link under our reference that is not what we asked for.
    LinkMismatched {
        /// `plink_…`
        link_id: String,
    },
    /// A payment on the link was captured.
    Paid {
        /// What was captured.
        amount: Money,
        /// Whether all of it has gone back already, at the provider.
        refunded: bool,
    },
    /// A try to pay did not succeed.
    AttemptFailed,
    /// The merchant cancelled or deleted the session.
    CancelledByMerchant,
    /// The link was cancelled at the provider, by whomever.
    LinkCancelled,
    /// The link expired at the provider.
    LinkExpired,
    /// The deadline has passed and the provider says unpaid, or did not answer for ten minutes.
    DeadlineUnpaid,
}

/// Why captured money goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefundReason {
    /// The session had ended unpaid.
    LatePayment,
    /// The session was paid already.
    DuplicatePayment,
    /// Not the amount or not the currency that was owed.
    AmountMismatch,
    /// It went back at the provider before we heard of it; nothing is left to send.
    RefundedAlready,
}

impl RefundReason {
    /// As in the table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LatePayment => "late_payment",
            Self::DuplicatePayment => "duplicate_payment",
            Self::AmountMismatch => "amount_mismatch",
            Self::RefundedAlready => "refunded_already",
        }
    }
}

/// What follows from a fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The status changes, with an event, and everything drafted follows.
    Become(Status),
    /// Nothing left to do.
    AlreadyApplied,
    /// Kept as a fact; the status stays.
    Record,
    /// The captured money is given back in full.
    Refund(RefundReason),
    /// That link must not stay payable.
    CancelLink,
    /// Cannot be: a bug, or a request that comes too late.
    Illegal,
}

impl Decision {
    /// A word for metrics and the inbox.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Become(_) => "applied",
            Self::AlreadyApplied => "already_applied",
            Self::Record => "recorded",
            Self::Refund(_) => "refund",
            Self::CancelLink => "cancel_link",
            Self::Illegal => "illegal",
        }
    }
}

/// The product of state and fact.
///
/// A payment that was recorded before is filtered out by its unique id before this is asked: `Paid` here
/// always means money that is not accounted for yet.
pub fn decide(state: &State, fact: &Fact) -> Decision {
    use Decision::{AlreadyApplied, Become, CancelLink, Illegal, Record, Refund};
    use Status::{Completed, Expired, Failed, Initiated, Pending};

    match (fact, state.status) {
        (Fact::LinkCreated { .. }, Initiated) => Become(Pending),
        (Fact::LinkCreated { link_id }, Pending | Completed) if state.link_id.as_ref() == Some(link_id) => {
            AlreadyApplied
        }
        // Completed before our own commit of the link: its payment named it.
        (Fact::LinkCreated { .. }, Completed) if state.link_id.is_none() => Record,
        // Confirmed closed already, or another than ours: in both cases nobody may pay on it.
        (Fact::LinkCreated { link_id }, Failed | Expired)
            if state.link_state == LinkState::Closed && state.link_id.as_ref() == Some(link_id) =>
        {
            AlreadyApplied
        }
        (Fact::LinkCreated { .. }, Pending | Completed | Failed | Expired) => CancelLink,

        (Fact::LinkRejected | Fact::LinkMismatched { .. }, Initiated) => Become(Failed),
        (Fact::LinkMismatched { link_id }, Failed | Expired) if state.link_id.as_ref() != Some(link_id) => {
            CancelLink
        }
        (Fact::LinkRejected | Fact::LinkMismatched { .. }, Failed | Expired) => AlreadyApplied,
        (Fact::LinkRejected | Fact::LinkMismatched { .. }, Pending | Completed) => Illegal,

        (Fact::Paid { refunded: true, .. }, _) => Refund(RefundReason::RefundedAlready),
        (Fact::Paid { amount, .. }, _) if *amount != state.amount => Refund(RefundReason::AmountMismatch),
        (Fact::Paid { .. }, Initiated | Pending) => Become(Completed),
        (Fact::Paid { .. }, Completed) => Refund(RefundReason::DuplicatePayment),
        (Fact::Paid { .. }, Failed | Expired) => Refund(RefundReason::LatePayment),

        // The customer may try again on the same link.
        (Fact::AttemptFailed, _) => Record,

        (Fact::CancelledByMerchant, Initiated | Pending) => Become(Expired),
        (Fact::CancelledByMerchant, Completed) => Illegal,
        (Fact::CancelledByMerchant, Failed | Expired) => AlreadyApplied,

        // Our own doing at the deadline or on cancel: whoever cancels also ends the session.
        (Fact::LinkCancelled, Initiated | Pending) if state.link_state == LinkState::Closing => Record,
        (Fact::LinkCancelled, Initiated | Pending) => Become(Failed),
        (Fact::LinkExpired, Initiated | Pending) => Become(Expired),
        (Fact::LinkCancelled | Fact::LinkExpired, Completed) => Illegal,
        (Fact::LinkCancelled | Fact::LinkExpired, Failed | Expired) => AlreadyApplied,

        (Fact::DeadlineUnpaid, Initiated | Pending) => Become(Expired),
        (Fact::DeadlineUnpaid, Completed | Failed | Expired) => AlreadyApplied,
    }
}

/// Who or what brought a fact; on record with every transition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is its column's word")]
pub enum Cause {
    Create,
    Webhook,
    Return,
    Poll,
    Deadline,
    Cancel,
    Delete,
    Reconcile,
}

impl Cause {
    /// As in the tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Webhook => "webhook",
            Self::Return => "return",
            Self::Poll => "poll",
            Self::Deadline => "deadline",
            Self::Cancel => "cancel",
            Self::Delete => "delete",
            Self::Reconcile => "reconcile",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    fn inr(minor: i64) -> Money {
        Money::new(minor, "INR".parse().expect("a currency"))
    }

    fn facts() -> Vec<(&'static str, Fact)> {
        vec![
            ("LinkCreated, ours", Fact::LinkCreated { link_id: "plink_1".into() }),
            ("LinkCreated, another", Fact::LinkCreated { link_id: "plink_2".into() }),
            ("LinkRejected", Fact::LinkRejected),
            ("LinkMismatched, ours", Fact::LinkMismatched { link_id: "plink_1".into() }),
            ("LinkMismatched, another", Fact::LinkMismatched { link_id: "plink_2".into() }),
            ("Paid", Fact::Paid { amount: inr(49_900), refunded: false }),
            ("Paid, gone back", Fact::Paid { amount: inr(49_900), refunded: true }),
            ("Paid, other amount", Fact::Paid { amount: inr(100), refunded: false }),
            (
                "Paid, other currency",
                Fact::Paid {
                    amount: Money::new(49_900, "USD".parse().expect("a currency")),
                    refunded: false,
                },
            ),
            ("AttemptFailed", Fact::AttemptFailed),
            ("CancelledByMerchant", Fact::CancelledByMerchant),
            ("LinkCancelled", Fact::LinkCancelled),
            ("LinkExpired", Fact::LinkExpired),
            ("DeadlineUnpaid", Fact::DeadlineUnpaid),
        ]
    }

    /// The table of the design, all of it: a change of any cell is seen in review.
    #[test]
    fn the_whole_product_of_state_and_fact() {
        let mut table = String::new();
        for (name, fact) in facts() {
            writeln!(table, "{name}").expect("writing to a string");
            for status in Status::ALL {
                for link_state in LinkState::ALL {
                    let link_id = (link_state != LinkState::None).then(|| "plink_1".to_owned());
                    let state = State { status, link_state, link_id, amount: inr(49_900) };
                    let decision = decide(&state, &fact);
                    writeln!(table, "  {status:<9} link {:<7} -> {decision:?}", link_state.as_str())
                        .expect("as above");
                }
            }
        }
        insta::assert_snapshot!(table);
    }

    #[test]
    fn terminal_states_never_change() {
        for status in Status::ALL.into_iter().filter(|status| status.is_terminal()) {
            for link_state in LinkState::ALL {
                for (name, fact) in facts() {
                    let state =
                        State { status, link_state, link_id: Some("plink_1".into()), amount: inr(49_900) };
                    assert!(!matches!(decide(&state, &fact), Decision::Become(_)), "{status} {name}");
                }
            }
        }
    }

    #[test]
    fn words_read_back() {
        for status in Status::ALL {
            assert_eq!(status.as_str().parse::<Status>().ok(), Some(status));
        }
        for state in LinkState::ALL {
            assert_eq!(LinkState::from_column(state.as_str()), Some(state));
        }
        assert!("cancelled".parse::<Status>().is_err());
    }
}
