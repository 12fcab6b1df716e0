use super::{Case, case};

/// Sessions, and the keys that make requests repeatable.
pub const CASES: &[Case] = &[
    case("checkout.find_offer", "id(1), 'user_65', null, 'plan_1', present()"),
    case("checkout.find_offer", "id(1), 'nobody', id(101), null, present()"),
    case(
        "checkout.insert_draft",
        "id(1), id(9000001), id(65), id(101), 'inr', 'MONTHLY', 1, present(), 'UTC', null,
        present() + interval '1 month', 'send_invoice', null, '{}', present(), id(9000001), 49900, 'Pro',
        ids(9000001, 9000002), array[id(101), id(102)], '{1,1}', '{Pro,Pro}', ids(9000001, 9000002), '{100,100}',
        id(9000001), id(9000001), id(5), 'order', null, null, null, '{}', present() + interval '1 day', present()",
    ),
    case(
        "checkout.mark_pending",
        "id(1), id(999961), id(9000001), 'checkout.session.initiated', 2, '\\x00', present(), ids(9000001, 9000020),
        null, 'plink_new', 'https://rzp.io/i/new', present() + interval '1 minute', 'initiated',
        version(id(999961)), 'create', null",
    ),
    case(
        "checkout.mark_completed",
        "id(1), id(999001), id(9000001), 'checkout.session.completed', 3, '\\x00', present(), ids(9000001, 9000020),
        null, 'plink_999001', 'closed', present(), 'pending', 'pay_new', 'INV-', id(9000001), 'webhook', id(9000001)",
    ),
    case(
        "checkout.complete_at_once",
        "id(1), id(999001), id(9000001), 'checkout.session.completed', 3, '\\x00', present(), ids(9000001, 9000020),
        null, 'plink_999001', 'closed', present(), 'pending', 'pay_new', 'INV-', id(9000001), 'webhook', id(9000001),
        version(id(999001)), array[id(5)], 'payment_link.paid', '\\x00', '{}', 49900, 'inr'",
    ),
    case(
        "checkout.mark_ended",
        "id(1), id(999001), id(9000001), 'checkout.session.expired', 3, '\\x00', present(), ids(9000001, 9000020),
        null, 'expired', 'expired', null, 'plink_999001', 'closed', present(), 'pending', 'deadline', null,
        version(id(999001))",
    ),
    case(
        "checkout.mark_link",
        "id(1), id(999001), 'plink_999001', 'https://rzp.io/i/1', 'open', null, present(), present(), false,
        version(id(999001))",
    ),
    case("checkout.touch", "id(1), id(999001), present()"),
    case("checkout.mark_deleted", "id(1), id(500001), present()"),
    case("checkout.find", "id(1), id(500001)"),
    case("checkout.find_any_scope", "id(1), id(500001)"),
    case("checkout.lock", "id(1), id(999001)"),
    case("checkout.find_by_link", "id(1), 'plink_500001', null"),
    case("checkout.find_by_link", "id(1), 'plink_unknown', id(999001)"),
    case("checkout.find_by_subscription", "id(1), id(500001)"),
    case("checkout.find_open_by_key", "id(1), 'order_999004'"),
    case("checkout.find_open_by_key", "id(1), 'order_500004'"),
    case("checkout.find_open_by_payment", "id(1), id(999001)"),
    case("checkout.find_open_by_payment", "id(1), id(500001)"),
    case("checkout.list", "id(1), null, null, null, null, 50, 0").list(),
    case("checkout.list", "id(2), null, null, null, null, 50, 0").list(),
    // Behind the 6,000 that are open.
    case("checkout.list", "id(1), 'completed', null, null, null, 50, 0").list().up_to(8_000, 1_000),
    case("checkout.list", "id(1), 'pending', null, null, null, 50, 0").list(),
    case("checkout.list", "id(1), null, customer(500001), null, null, 50, 0").list(),
    case("checkout.list", "id(1), 'completed', customer(500001), null, null, 50, 0").list(),
    case("checkout.list", "id(1), null, null, made(500000), made(500100), 50, 0").list(),
    // A thousand sessions, each with its payment.
    case("checkout.list", "id(1), null, null, null, null, 1000, 0").list().up_to(2_500, 8_000),
    // The wire has a total, so what matches is counted, and without a filter that is all.
    case("checkout.count", "id(1), null, customer(500001), null, null").list(),
    case("checkout.count", "id(1), null, null, made(500000), made(500100)").list(),
    case("checkout.claim_poll", "id(1), id(999001), present(), present()"),
    case("checkout.look_at", "id(1), id(999001), present()"),
    // A thousand is due: 16 are changed.
    case("checkout.claim_due_any_scope", "present(), present() + interval '1 minute', id(1), 16").up_to(500, 1_000),
    case("checkout.finish_check", "id(1), id(999001), id(1), present(), true"),
    // All that will be looked at: 6,000 open sessions, and those that ended in the last six hours.
    case("checkout.release_any_scope", "ids(9000001, 9000016)").up_to(12_000, 2_000),
    case(
        "http.claim_idempotency_key",
        "id(1), 'new', '\\x00', id(9000001), id(1), present(), present(), present() - interval '7 days'",
    ),
    case(
        "http.claim_idempotency_key",
        "id(1), 'key_100001', '\\x00', id(9000001), id(1), present(), present(), present() - interval '7 days'",
    ),
    case("http.free_idempotency_key", "id(1), 'key_100001', id(1)"),
    case("http.release_idempotency_key", "id(1), 'key_100001', id(1)"),
    case("http.lock_idempotency_lease", "id(1), 'key_100001', id(1)"),
    case("http.store_idempotent_answer", "id(1), 'key_100001', id(1), 201::smallint, 'application/json', '\\x00'"),
    case(
        "http.delete_idempotent_answer_any_scope",
        "id(100001), present() - 100000 * interval '3 seconds' - interval '1 minute',
        present() - 100000 * interval '3 seconds' + interval '1 minute'",
    ),
    // 500 keys.
    case("http.list_removable_idempotency_keys_any_scope", "present() - interval '3 days', present(), 500")
        .up_to(600, 400),
    case(
        "http.delete_removable_idempotency_keys_any_scope",
        "array_fill(id(1), array[500]), numbered('key_', 1, 500), present() - interval '3 days', present()",
    )
    .up_to(1_500, 4_000),
];
