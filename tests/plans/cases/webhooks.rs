use super::{Case, case};

/// Events and their deliveries. Endpoint 8 has a backlog of 50,000, endpoint 9 does not answer, the others are up to date.
pub const CASES: &[Case] = &[
    // Of 50 endpoints, those that have something pending.
    case(
        "webhooks.lock_due_endpoints_any_scope",
        "present(), 5, '1 minute', 256, present() - interval '1 second', false",
    )
    .up_to(1_000, 1_500),
    case(
        "webhooks.lock_due_endpoints_any_scope",
        "present(), 5, '1 minute', 256, present() - interval '1 second', true",
    )
    .up_to(1_000, 1_500),
    // 16 places with up to 16 deliveries each, of which most are found, locked and changed.
    case(
        "webhooks.claim_deliveries_any_scope",
        "array[id(1), id(1)], array[id(8), id(1)], present(), 16, ids(9000001, 9000016), present() + interval '1 minute',
        '1 minute', 5, 16",
    )
    .up_to(5_000, 10_000),
    case(
        "webhooks.finish_deliveries",
        "array_fill(id(1), array[15]), ids(997009, 997023), ids(997009, 997023), each('delivered', ids(1, 15)),
        array_fill(null::timestamptz, array[15]), array_fill(200, array[15]), array_fill(null::text, array[15]),
        array_fill(present(), array[15]), ids(9000001, 9000015), each('ok', ids(1, 15)), array_fill(20::bigint, array[15]),
        array_fill(present(), array[15]), present(), 10",
    ),
    case("webhooks.release_deliveries_any_scope", "ids(997009, 997023), null"),
    case("webhooks.release_deliveries_any_scope", "ids(997009, 997009), ids(997001, 997015)"),
    case("webhooks.cancel_claimed_delivery", "id(1), id(997009), id(997009), present()"),
    // 5,000 at a time.
    case("webhooks.cancel_pending_deliveries", "id(1), id(8), present(), 5000").up_to(20_000, 200_000),
    case("webhooks.count_due", "id(1), id(8), present(), 200"),
    case("webhooks.restart_delivery", "id(1), id(500001), present()"),
    case("webhooks.find_delivery", "id(1), id(500001)"),
    case("webhooks.find_place", "id(1), id(500001)"),
    case("webhooks.list_attempts", "id(1), id(500001), 1000, 50"),
    case("webhooks.list_deliveries_of_event", "id(1), id(1000003)"),
    case("webhooks.list_deliveries", "id(1), id(1), null, null, null, null, null, 50").list(),
    case("webhooks.list_deliveries", "id(1), id(1), null, null, made(500000), 2, id(500000), 50").list(),
    case("webhooks.list_deliveries", "id(1), id(1), 'delivered', null, null, null, null, 50").list().up_to(1_000, 1_500),
    case("webhooks.list_deliveries", "id(1), id(1), 'pending', null, null, null, null, 50").list().up_to(1_000, 1_500),
    case("webhooks.list_deliveries", "id(1), id(8), 'pending', null, null, null, null, 50").list(),
    case("webhooks.list_deliveries", "id(1), id(7), 'exhausted', null, null, null, null, 50").list(),
    case("webhooks.list_deliveries", "id(1), id(1), 'exhausted', null, null, null, null, 50").list(),
    case("webhooks.list_deliveries", "id(1), id(1), null, id(1000003), null, null, null, 50").list(),
    case(
        "webhooks.insert_event_with_deliveries",
        "id(1), id(9000001), id(9000001), 'refund.succeeded', 1, '\\x00', present(), ids(9000001, 9000020), null",
    ),
    case("webhooks.find_event_body", "id(1), id(1000003)"),
    case("webhooks.find_position", "id(1), id(1000003)"),
    // A thousand events.
    case("webhooks.find_position_at", "id(1), made(500000)").up_to(1_500, 400),
    case("webhooks.list_bodies_after", "id(1), null, null, -1500000, 0, id(0), null, 50").list(),
    case("webhooks.list_bodies_after", "id(1), 'checkout.session.completed', null, -1500000, 0, id(0), null, 50").list(),
    case("webhooks.list_bodies_after", "id(1), null, id(500001), -3000000, 0, id(0), null, 50").list(),
    case("webhooks.list_bodies_after", "id(1), null, null, -1500000, 0, id(0), made(500000), 50").list(),
    case("webhooks.list_bodies_before", "id(1), null, null, 9223372036854775807, 0, id(0), 50").list(),
    case("webhooks.list_bodies_before", "id(1), 'checkout.session.expired', null, 0, 0, id(0), 50").list(),
    case("webhooks.list_bodies_before", "id(1), null, id(500001), 0, 0, id(0), 50").list(),
    // 500 events of each environment.
    case("webhooks.list_removable_any_scope", "present() - interval '30 days', 500").up_to(6_000, 20_000),
    case("webhooks.list_removable_any_scope", "present() - interval '1 year', 500"),
    case("webhooks.lock_removable_deliveries", "id(1), ids(1000000, 1000499)").up_to(2_000, 6_000),
    case("webhooks.delete_attempts", "id(1), ids(500000, 500499)").up_to(2_000, 6_000),
    case("webhooks.delete_deliveries", "id(1), ids(3920003, 3920502)").up_to(2_000, 10_000),
    case("webhooks.delete_events", "id(1), ids(1800002, 1800501)").up_to(2_000, 8_000),
    case("webhooks.mark_events_removed", "id(1), present()"),
    case("webhooks.claim_due_replays_any_scope", "present(), present() + interval '1 minute', id(1), 4"),
    case("webhooks.release_replays_any_scope", "ids(9000001, 9000004)"),
    // 100 events, most with a delivery.
    case(
        "webhooks.make_due",
        "id(1), id(3), made(400000), present(), made(500000), id(0), '{}', 100, present(), false, ids(9000001, 9000100)",
    )
    .up_to(1_000, 4_000),
    case(
        "webhooks.make_due",
        "id(1), id(3), made(400000), present(), made(500000), id(0), '{checkout.session.completed}', 100, present(), true,
        ids(9000001, 9000100)",
    )
    .up_to(1_500, 4_000),
    case(
        "webhooks.finish_batch",
        "id(1), id(1), id(1), 'running', present(), id(1), 100, present(), present()",
    ),
    case("webhooks.find_replay", "id(1), id(1)"),
    case("webhooks.insert_replay", "id(1), id(9000001), id(1), present(), present(), true, id(0), present()"),
    case("webhooks.list_replays", "id(1), id(1), 50"),
    case("webhooks.count_endpoints", "id(1)"),
    case("webhooks.count_event", "id(1), id(1)"),
    case("webhooks.find_endpoint", "id(1), id(1)"),
    case("webhooks.find_secret", "id(1), id(1)"),
    case("webhooks.forget_failures", "id(1), id(1)"),
    case(
        "webhooks.insert_endpoint",
        "id(1), id(9000001), 'https://a.example', '', '{}', true, null, '{}', null, 8, null, '\\x00', present()",
    ),
    case("webhooks.list_endpoints", "id(1), 50, 0"),
    case("webhooks.list_statistics", "id(1), ids(0, 9)"),
    case("webhooks.lock_endpoint", "id(1), id(1)"),
    case("webhooks.lock_failing", "id(1), id(9), present(), 10"),
    case("webhooks.mark_endpoint_deleted", "id(1), id(1), present()"),
    case("webhooks.mark_endpoint_disabled", "id(1), id(1), 'https://app.example.com/1', 'gone', present()"),
    case("webhooks.rotate_secret", "id(1), id(1), '\\x00', present(), present()"),
    case(
        "webhooks.update_endpoint",
        "id(1), id(1), null, 'Ours', null, true, null, null, null, false, null, present()",
    ),
    case("webhooks.list_sealed_any_scope", ""),
];
