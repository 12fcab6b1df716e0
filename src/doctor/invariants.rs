//! The invariants that SQL can tell, and the queues that must not stand still. Each is a query for what breaks it;
//! a test breaks every one. `is distinct from`, because a comparison with null hides a row.

use super::{
    Holds::{After, Always},
    Rule,
    Severity::{Fail, Warn},
};

const fn invariant(name: &'static str, prefix: &'static str, text: &'static str, sql: &'static str) -> Rule {
    Rule { name, text, sql, prefix, holds: Always, severity: Fail }
}

/// What is true of the rows, always.
///
/// Not here, because rows do not tell: I7 and half of I1 (the provider's books), I10 (what was answered), I19 (what a
/// stale lease did not do), I22 (logs), I23 (what readers saw).
pub const INVARIANTS: &[Rule] = &[
    invariant(
        "I1", "", "every captured payment is applied or goes back, and never both",
        "select f.provider_payment_id from provider_payments f
         left join refunds r on r.environment_id = f.environment_id and r.provider_payment_id = f.provider_payment_id
         where (f.fate = 'refund') <> (r.id is not null) or (f.fate = 'applied') = (r.id is not null)
            or r.session_id is distinct from case when r.id is not null then f.session_id end",
    ),
    invariant(
        "I2", "chk", "completed means active (or cancelled since), finalized, paid and succeeded, and nothing else does",
        "select s.id::text from checkout_sessions s
         left join subscriptions u on u.environment_id = s.environment_id and u.id = s.subscription_id
         left join invoices i on i.environment_id = s.environment_id and i.id = s.invoice_id
         left join payments p on p.environment_id = s.environment_id and p.id = s.payment_id
         where case when s.checkout_status = 'completed' then u.subscription_status in ('active', 'cancelled')
                else u.subscription_status = 'draft' end is not true
            or (s.checkout_status = 'completed') is distinct from (i.invoice_status = 'FINALIZED')
            or (s.checkout_status = 'completed') is distinct from (i.payment_status = 'SUCCEEDED')
            or (s.checkout_status = 'completed') is distinct from (i.amount_paid_minor = i.total_minor)
            or (s.checkout_status = 'completed') is distinct from (p.payment_status = 'SUCCEEDED')",
    ),
    invariant(
        "I3", "chk", "exactly one applied payment per completed session, none otherwise; the payment names it",
        "select s.id::text from checkout_sessions s
         join payments p on p.environment_id = s.environment_id and p.id = s.payment_id
         left join lateral (select count(*) as count, max(f.provider_payment_id) as id from provider_payments f
            where f.environment_id = s.environment_id and f.session_id = s.id and f.fate = 'applied') f on true
         where f.count <> case when s.checkout_status = 'completed' then 1 else 0 end
            or (f.count = 1 and f.id is distinct from p.gateway_payment_id)",
    ),
    invariant(
        "I4", "chk", "transitions start where the last one ended, and none leaves a terminal state",
        "select t.session_id::text || ' ' || t.sequence from (
            select *, lag(to_status, 1, 'initiated') over (partition by environment_id, session_id order by sequence) as before
            from session_transitions) t
         where t.from_status <> t.before or t.from_status in ('completed', 'failed', 'expired')",
    ),
    invariant(
        "I5", "chk", "one event per transition, without gaps, and the last one tells the session's state",
        "select s.id::text from checkout_sessions s
         join environments v on v.id = s.environment_id
         left join lateral (select count(*) as count, coalesce(max(e.sequence), 0) as last from events e
            where e.environment_id = s.environment_id and e.subject_id = s.id) e on true
         left join lateral (select count(*) as count, coalesce(max(t.sequence), 0) as last,
                coalesce((array_agg(t.to_status order by t.sequence desc))[1], 'initiated') as status
            from session_transitions t where t.environment_id = s.environment_id and t.session_id = s.id) t on true
            -- Of what is older than events are kept, some or all are removed.
         where ((s.event_count <> e.count or s.event_count <> e.last) and s.created_at < v.events_removed_before is not true)
            or s.event_count <> t.count or s.event_count <> t.last
            or s.checkout_status <> t.status
            or exists (select 1 from events e join session_transitions t
                on t.environment_id = e.environment_id and t.session_id = e.subject_id and t.sequence = e.sequence
                where e.environment_id = s.environment_id and e.subject_id = s.id
                and e.event_type <> 'checkout.session.' || case t.to_status when 'pending' then 'initiated' else t.to_status end)",
    ),
    invariant(
        "I5.refunds", "refund", "a refund's events have no gap, and the last one tells its state",
        "select r.id::text || ' ' || r.refund_status from refunds r
         join environments v on v.id = r.environment_id
         left join lateral (select count(*) as told, coalesce(max(e.sequence), 0) as last,
                array_agg(e.event_type order by e.sequence) as types from events e
             where e.environment_id = r.environment_id and e.subject_id = r.id) e on true
         where r.created_at < v.events_removed_before is not true and (r.event_count <> e.told or r.event_count <> e.last
            or (r.refund_status = 'SUCCEEDED') is distinct from (e.types[e.last] = 'refund.succeeded')
            or (r.refund_status = 'FAILED' and e.types[e.last] is distinct from 'refund.failed')
            or e.types[1] is distinct from case r.reason when 'late_payment' then 'payment.late' else 'refund.created' end
            or (select count(*) from unnest(e.types) as type where type in ('refund.created', 'refund.succeeded'))
                <> case r.refund_status when 'SUCCEEDED' then 2 else 1 end)",
    ),
    invariant(
        "I6", "chk", "the link of an ended session is not payable, as far as we know",
        "select s.id::text || ' ' || s.checkout_status from checkout_sessions s
         where s.checkout_status in ('completed', 'failed', 'expired') and s.link_state = 'open'
            or s.checkout_status = 'pending' and s.link_state not in ('open', 'closing')
            or s.checkout_status = 'completed' and s.link_state = 'none'",
    ),
    invariant(
        "I8", "chk", "session, invoice, lines, payment and applied money agree, and are above zero",
        "select s.id::text from checkout_sessions s
         left join invoices i on i.environment_id = s.environment_id and i.id = s.invoice_id
         left join payments p on p.environment_id = s.environment_id and p.id = s.payment_id
         left join provider_payments f on f.environment_id = s.environment_id and f.session_id = s.id and f.fate = 'applied'
         where s.amount_minor <= 0
            or (i.total_minor, i.currency) is distinct from (s.amount_minor, s.currency)
            or (p.amount_minor, p.currency) is distinct from (s.amount_minor, s.currency)
            or f.amount_minor <> s.amount_minor or f.currency <> s.currency
            or i.total_minor is distinct from (select sum(l.amount_minor) from invoice_line_items l
                where l.environment_id = i.environment_id and l.invoice_id = i.id)",
    ),
    invariant(
        "I9", "", "at most one open session per idempotency key",
        "select 'in environment ' || environment_id || ': ' || count(*) || ' sessions' from checkout_sessions
         where idempotency_key is not null and checkout_status in ('initiated', 'pending')
         group by environment_id, idempotency_key having count(*) > 1",
    ),
    invariant(
        "I11", "chk", "drafts follow the session",
        "select s.id::text from checkout_sessions s
         left join subscriptions u on u.environment_id = s.environment_id and u.id = s.subscription_id
         left join invoices i on i.environment_id = s.environment_id and i.id = s.invoice_id
         left join payments p on p.environment_id = s.environment_id and p.id = s.payment_id
         cross join lateral (select case when s.checkout_status in ('failed', 'expired') then 'archived' else 'published' end
            as status) as wanted
         where u.status is distinct from wanted.status or i.status is distinct from wanted.status
            or p.status is distinct from wanted.status
            or (s.checkout_status in ('initiated', 'pending') and (u.subscription_status <> 'draft' or i.invoice_status <> 'DRAFT'))",
    ),
    invariant(
        "I12", "chk", "completed is told at most once",
        "select subject_id::text from events where event_type = 'checkout.session.completed'
         group by environment_id, subject_id having count(*) > 1",
    ),
    invariant(
        "I14", "chk", "expired only by the deadline, a cancel, or the provider's own expiry",
        "select t.session_id::text from session_transitions t
         join checkout_sessions s on s.environment_id = t.environment_id and s.id = t.session_id
         where t.to_status = 'expired' and s.cancelled_at is null and t.created_at < s.expires_at
            and coalesce(s.failure_reason, '') not like '%payment_link.expired%'",
    ),
    invariant(
        "I15", "chk", "every transition and every captured payment has a cause on record",
        "select t.session_id::text || ' ' || t.sequence from session_transitions t
         left join inbox i on i.environment_id = t.environment_id and i.id = t.inbox_id
         where (t.cause = 'webhook') <> (i.id is not null)
         union all
         select f.session_id::text || ' ' || f.provider_payment_id from provider_payments f
         left join inbox i on i.environment_id = f.environment_id and i.id = f.inbox_id
         where (f.cause = 'webhook' or f.inbox_id is not null) and i.id is null",
    ),
    invariant(
        "I16", "evt", "one delivery for every endpoint that wanted the event, made with it",
        "select d.event_id::text || ' ' || d.id from deliveries d
         join events e on e.environment_id = d.environment_id and e.id = d.event_id
         where d.created_at <> e.created_at
         union all
         select e.id::text || ' ' || w.id from events e
         join webhook_endpoints w on w.environment_id = e.environment_id
         where w.enabled and w.deleted_at is null
            -- Both times are from before their commits: an event that did not see the endpoint may bear a later one.
            and w.created_at < e.created_at - interval '10 seconds' and w.updated_at < e.created_at - interval '10 seconds'
            and (w.event_types = '{}' or e.event_type = any (w.event_types))
            -- Made for one endpoint alone.
            and e.event_type <> 'webhook.endpoint.test'
            and not exists (select 1 from deliveries d
                where d.environment_id = e.environment_id and d.event_id = e.id and d.endpoint_id = w.id)",
    ),
    invariant(
        "I17", "dlv", "delivered means that the receiver said 2xx; exhausted, that every attempt was made or it said 410",
        "select d.id::text || ' ' || d.delivery_status from deliveries d
         left join lateral (select a.response_code, a.attempt_number from delivery_attempts a
            where a.environment_id = d.environment_id and a.delivery_id = d.id
            order by a.attempt_number desc limit 1) as final on true
         where (d.delivery_status = 'delivered' and final.response_code between 200 and 299 is not true)
            -- Sent again by hand, it may have been taken before.
            or (d.delivery_status in ('pending', 'exhausted') and d.attempt_count > d.schedule_start
                and final.response_code between 200 and 299)
            or (d.delivery_status = 'exhausted' and final.attempt_number - d.schedule_start is distinct from 10
                and final.response_code is distinct from 410)",
    ),
    invariant(
        "I18", "dlv", "attempts are numbered without gaps",
        "select d.id::text from deliveries d
         left join lateral (select count(*) as count, coalesce(max(a.attempt_number), 0) as last from delivery_attempts a
            where a.environment_id = d.environment_id and a.delivery_id = d.id) a on true
         where d.attempt_count <> a.count or d.attempt_count <> a.last",
    ),
    invariant(
        "I21", "", "what a row names is there, in the same environment",
        "select 'provider payment ' || f.provider_payment_id from provider_payments f
         where not exists (select 1 from checkout_sessions s where s.environment_id = f.environment_id and s.id = f.session_id)
         union all
         select 'refund ' || r.id from refunds r
         where not exists (select 1 from checkout_sessions s where s.environment_id = r.environment_id and s.id = r.session_id)
         union all
         select 'inbox ' || i.id from inbox i
         where cardinality(i.connection_ids) = 0 or exists (select 1 from unnest(i.connection_ids) as named (id)
            where not exists (select 1 from connections c where c.environment_id = i.environment_id and c.id = named.id))",
    ),
    invariant(
        "I21.events",
        "evt",
        "every event is about a session, a refund or an endpoint of its environment",
        "select e.id::text || ' ' || e.event_type from events e
         where not exists (select 1 from checkout_sessions s where s.environment_id = e.environment_id and s.id = e.subject_id)
            and not exists (select 1 from refunds r where r.environment_id = e.environment_id and r.id = e.subject_id)
            and not exists (select 1 from webhook_endpoints w where w.environment_id = e.environment_id and w.id = e.subject_id)",
    ),
    invariant(
        "I24", "", "at most one refund per captured payment, over the same money",
        "select r.provider_payment_id from refunds r
         join provider_payments f on f.environment_id = r.environment_id and f.provider_payment_id = r.provider_payment_id
         group by r.environment_id, r.provider_payment_id, f.amount_minor, f.currency
         having count(*) > 1 or sum(r.amount_minor) <> f.amount_minor or min(r.currency) <> f.currency
            or max(coalesce(r.send_minor, 0)) > f.amount_minor",
    ),
    invariant(
        "cancellations", "subs", "what was active is cancelled at the moment that was asked for, and says so",
        "select u.id::text || ' ' || u.subscription_status from subscriptions u
         where (u.subscription_status = 'cancelled') is distinct from (u.cancelled_at is not null)
            or ((u.cancelled_at is not null or u.cancel_at is not null)
                and (u.activated_at is null or u.status <> 'published' or u.subscription_status not in ('active', 'cancelled')))
            or u.cancelled_at <> u.cancel_at or u.cancelled_at > u.updated_at
            or (u.cancel_at_period_end and u.cancel_at is distinct from u.current_period_end)",
    ),
    invariant(
        "invoices", "env", "invoice numbers have no gap",
        "select i.environment_id::text from invoices i
         left join invoice_counters c on c.environment_id = i.environment_id
         where i.invoice_status = 'FINALIZED'
         group by i.environment_id, c.last_number
         having c.last_number is distinct from count(*)
            or c.last_number is distinct from max(split_part(i.invoice_number, '-', 3)::bigint)
            or count(distinct split_part(i.invoice_number, '-', 3)) <> count(*)",
    ),
    Rule {
        name: "I13",
        text: "nothing is stuck: open sessions end within 13 minutes of their deadline, provider events within 13",
        sql: "select s.id::text from checkout_sessions s
             where s.checkout_status in ('initiated', 'pending') and s.expires_at < $1
             union all
             select 'inbox ' || id from inbox where inbox_status = 'waiting' and received_at < $1",
        prefix: "chk",
        // The last try may start just before the tenth minute is over; then a wait of at most 54 s, and calls.
        holds: After(13 * 60),
        severity: Fail,
    },
];

const fn queue(
    name: &'static str,
    prefix: &'static str,
    seconds: i64,
    severity: super::Severity,
    text: &'static str,
    sql: &'static str,
) -> Rule {
    let holds = if seconds == 0 { Always } else { After(seconds) };
    Rule { name, text, sql, prefix, holds, severity }
}

/// What should be done by now, and what only people can do.
pub const QUEUES: &[Rule] = &[
    queue(
        "refunds.failed", "refund", 0, Fail, "no refund needs a person",
        "select id::text from refunds where refund_status = 'FAILED'",
    ),
    queue(
        "refunds.late", "refund", 24 * 3600, Fail, "refunds get through within a day",
        "select id::text || ' ' || refund_status from refunds
         where refund_status in ('PENDING', 'PROCESSING') and created_at < $1",
    ),
    queue(
        "links.closing", "chk", 3600, Warn, "links of ended sessions are confirmed dead within an hour",
        "select id::text from checkout_sessions where link_state = 'closing' and updated_at < $1
            and checkout_status in ('completed', 'failed', 'expired')",
    ),
    queue(
        "sessions.unwatched", "chk", 0, Fail, "every open session, and every link that is to close, is looked at again",
        "select id::text from checkout_sessions where check_at is null
            and (checkout_status in ('initiated', 'pending') or link_state = 'closing')",
    ),
    queue(
        "cancellations.due", "subs", 600, Fail, "subscriptions end within ten minutes of when they were to",
        "select id::text from subscriptions where cancel_at is not null and cancelled_at is null and cancel_at < $1",
    ),
    queue(
        "inbox.parked", "inbox", 0, Warn, "no provider event was given up (checkoutd inbox list)",
        "select id::text || ' ' || coalesce(outcome, '') from inbox where inbox_status = 'parked'",
    ),
    queue(
        "deliveries.due", "dlv", 600, Warn, "due deliveries are sent within ten minutes",
        "select id::text from deliveries
         where delivery_status = 'pending' and next_attempt_at < $1 and (lease_expires_at is null or lease_expires_at < $1)",
    ),
    queue(
        "events.order", "env", 0, Fail, "the event log goes on behind its last event (docs/operations.md, backups)",
        "select v.id::text || ' ' || last.xact_id
         from environments v
         cross join lateral (
            select xact_id from events e where e.environment_id = v.id order by xact_id desc limit 1
         ) last
         where last.xact_id >= pg_snapshot_xmax(pg_current_snapshot())::text::bigint",
    ),
    queue(
        "webhooks.missing", "env", 86_400, Warn,
        "Razorpay's webhooks arrive: not every payment of the last day had to be found by reading",
        // Five minutes for the webhook, which may come later than a read.
        "select environment_id::text || ' ' || count(*) || ' paid' from provider_payments
         where fate = 'applied' and created_at > $1 and created_at < $1 + interval '1 day' - interval '5 minutes'
         group by environment_id having bool_and(inbox_id is null)",
    ),
];
