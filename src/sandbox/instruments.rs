//! What a payer pays with: Razorpay's test cards and UPI ids, and what each of them leads to.

use serde::Serialize;

/// What a payment was attempted with. Card numbers are not kept, only what Razorpay shows of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "method", rename_all = "lowercase")]
pub enum Instrument {
    /// A test card.
    Card {
        /// `Visa`, `MasterCard`, …
        network: &'static str,
        /// The last four digits.
        last4: String,
        /// Issued outside India.
        international: bool,
    },
    /// A UPI id.
    Upi {
        /// The virtual payment address, `name@provider`.
        vpa: String,
    },
}

/// Why an attempt failed, in Razorpay's terms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// `BAD_REQUEST_ERROR` or `GATEWAY_ERROR`.
    pub code: &'static str,
    /// The text that the payer sees.
    pub description: &'static str,
    /// Who failed: customer, bank, gateway, …
    pub source: &'static str,
    /// Where in the payment: `payment_authentication` or `payment_authorization`.
    pub step: &'static str,
    /// The machine-readable cause.
    pub reason: &'static str,
}

pub(super) const DECLINED: Failure = Failure {
    code: "BAD_REQUEST_ERROR",
    description: "Your payment didn't go through as it was declined by the bank. Try another payment method or \
                  contact your bank.",
    source: "bank",
    step: "payment_authorization",
    reason: "payment_failed",
};

pub(super) const CANCELLED_BY_PAYER: Failure = Failure {
    code: "BAD_REQUEST_ERROR",
    description: "Your payment has been cancelled. Try again or complete the payment later.",
    source: "customer",
    step: "payment_authentication",
    reason: "payment_cancelled",
};

const TIMED_OUT: Failure = Failure {
    code: "BAD_REQUEST_ERROR",
    description: "Your payment was not completed on time. Try again after some time.",
    source: "customer",
    step: "payment_authentication",
    reason: "payment_timed_out",
};

const INSUFFICIENT_FUND: Failure = Failure {
    code: "BAD_REQUEST_ERROR",
    description: "Your payment could not be completed due to insufficient account balance. Try again with \
                  another card or payment method.",
    source: "customer",
    step: "payment_authorization",
    reason: "insufficient_fund",
};

const CARD_DECLINED: Failure = Failure {
    code: "BAD_REQUEST_ERROR",
    description: "Your payment could not be completed as this card was declined by the bank. Try again with \
                  another card or payment method.",
    source: "issuer",
    step: "payment_authorization",
    reason: "card_declined",
};

const GATEWAY_TROUBLE: Failure = Failure {
    code: "GATEWAY_ERROR",
    description: "Your payment could not be completed due to a temporary technical issue. Try again later.",
    source: "gateway",
    step: "payment_authorization",
    reason: "gateway_technical_error",
};

const AUTHENTICATION_FAILED: Failure = Failure {
    code: "BAD_REQUEST_ERROR",
    description: "Your payment could not be completed as the authentication failed. Try again.",
    source: "customer",
    step: "payment_authentication",
    reason: "authentication_failed",
};

const INTERNATIONAL_REFUSED: Failure = Failure {
    code: "BAD_REQUEST_ERROR",
    description: "International cards are not allowed for this merchant. Use a card issued in India.",
    source: "business",
    step: "payment_initiation",
    reason: "international_transaction_not_allowed",
};

/// One row of Razorpay's table of test cards.
pub(super) struct TestCard {
    pub number: &'static str,
    pub network: &'static str,
    pub international: bool,
    pub failure: Option<&'static Failure>,
}

const fn card(network: &'static str, number: &'static str) -> TestCard {
    TestCard { number, network, international: false, failure: None }
}

const fn failing(number: &'static str, failure: &'static Failure) -> TestCard {
    TestCard { number, network: "Visa", international: false, failure: Some(failure) }
}

pub(super) const TEST_CARDS: [TestCard; 17] = [
    card("Visa", "4100 2800 0000 1007"),
    card("MasterCard", "5555 5100 0008 1006"),
    card("MasterCard", "5180 2872 0009 1001"),
    card("RuPay", "6527 6589 0000 1005"),
    card("Diners Club", "3608 280009 1007"),
    card("American Express", "3402 560004 01007"),
    card("Visa", "4718 6091 0820 4366"),
    card("MasterCard", "5104 0155 5555 5558"),
    TestCard { international: true, ..card("MasterCard", "5555 5555 5555 4444") },
    TestCard { international: true, ..card("Visa", "4012 8888 8888 1881") },
    failing("4100 2800 0009 0000", &TIMED_OUT),
    failing("4100 2800 0008 0001", &INSUFFICIENT_FUND),
    failing("4100 2800 0007 0002", &CANCELLED_BY_PAYER),
    failing("4100 2800 0006 0003", &CARD_DECLINED),
    failing("4100 2800 0002 0007", &GATEWAY_TROUBLE),
    failing("4100 2800 0000 0009", &AUTHENTICATION_FAILED),
    TestCard { international: true, ..failing("4111 1111 1111 1111", &INTERNATIONAL_REFUSED) },
];

/// An instrument and what paying with it leads to: success unless there is a failure.
pub(super) type Verdict = (Instrument, Option<Failure>);

/// Recognises a test card, whatever its spacing. No other number is taken: real cards have no place here.
pub(super) fn find_card(number: &str) -> Option<Verdict> {
    let digits = digits_of(number);
    let card = TEST_CARDS.iter().find(|card| digits_of(card.number) == digits)?;
    let instrument = Instrument::Card {
        network: card.network,
        last4: digits[digits.len() - 4..].to_owned(),
        international: card.international,
    };
    Some((instrument, card.failure.cloned()))
}

fn digits_of(number: &str) -> String {
    number.chars().filter(|c| !matches!(c, ' ' | '-')).collect()
}

/// A UPI id: `failure@razorpay` fails, every other well-formed one pays.
pub(super) fn find_upi(vpa: &str) -> Option<Verdict> {
    let vpa = vpa.trim();
    let (name, provider) = vpa.split_once('@')?;
    let plain = |s: &str| !s.is_empty() && s.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if !plain(name) || !plain(provider) {
        return None;
    }
    let failure = (vpa == "failure@razorpay").then(|| DECLINED.clone());
    Some((Instrument::Upi { vpa: vpa.to_owned() }, failure))
}
