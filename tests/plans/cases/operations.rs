use super::{Case, case};

/// What the provider sends, and what is measured.
pub const CASES: &[Case] = &[
    case(
        "inbox.insert",
        "id(1), id(9000001), array[id(5)], 'payment_link.paid', '\\x00', '{}', present(), present()",
    ),
    case(
        "inbox.insert",
        "id(1), id(9000001), array[id(5)], 'payment_link.paid', sha256('500001'), '{}', present(), present()",
    ),
    case("inbox.claim_due_any_scope", "present(), present() + interval '1 minute', id(1), 8"),
    case("inbox.lock_leased", "id(1), id(999009), id(1)"),
    case("inbox.mark_processed", "id(1), id(999009), 'processed', 'applied', present()"),
    case("inbox.park", "id(1), id(999009), id(1), 'gave_up', null, present()"),
    case("inbox.put_back", "id(1), id(999009), id(1), present(), null"),
    // All that waits.
    case("inbox.release_any_scope", "ids(9000001, 9000008)").up_to(1_500, 500),
    // 500 events.
    case("inbox.list_removable_any_scope", "present() - interval '15 days', 500").up_to(600, 1_000),
    case("inbox.list_removable_any_scope", "present() - interval '1 year', 500"),
    case("inbox.delete_removable_any_scope", "array_fill(id(1), array[500]), ids(900000, 900499)")
        .up_to(1_100, 4_000),
    // All that waits or was given up: work for people, which they keep short.
    case("inbox.list_any_scope", "null, 50").up_to(1_500, 1_500),
    case("inbox.list_any_scope", "'parked', 50").up_to(1_500, 1_500),
    case("inbox.list_parked_any_scope", ""),
    // All that is under way is counted: 6,000 open sessions, 58,000 pending deliveries.
    case("metrics.read_any_scope", "present()").up_to(80_000, 40_000),
];
