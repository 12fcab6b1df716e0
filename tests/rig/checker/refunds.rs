//! What merchants are told of money that goes back is what Razorpay did.

use std::collections::{HashMap, HashSet};

use super::{Case, RefundState};

pub(super) fn check(case: &mut Case<'_>) {
    let mut succeeded: HashMap<&str, usize> = HashMap::new();
    for event in case.evidence.events.iter().filter(|event| event.kind == "refund.succeeded") {
        *succeeded.entry(event.payment.as_deref().unwrap_or_default()).or_default() += 1;
    }
    let processed: HashSet<&str> = case
        .evidence
        .refunds
        .iter()
        .filter(|refund| refund.state == RefundState::Processed)
        .map(|refund| refund.payment.as_str())
        .collect();
    for payment in processed.iter().filter(|payment| !succeeded.contains_key(**payment)) {
        case.unfinished("a refund is told", payment, "given back, and no event says so");
    }
    for (payment, times) in succeeded {
        if times > 1 {
            case.broken("a refund is told", payment, format!("told {times} times"));
        }
        if !processed.contains(payment) {
            case.broken("a refund that is told has happened", payment, "Razorpay knows none");
        }
    }
}
