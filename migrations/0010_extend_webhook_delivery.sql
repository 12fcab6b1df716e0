-- Options of an endpoint, its health, the order of a subject's events, and the order in which events were committed.

alter table webhook_endpoints
    -- The merchant's own headers. Sealed, because values are credentials as a rule; names are shown.
    add column header_names           text[]      not null default '{}',
    add column headers_sealed         bytea,
    -- Deliveries under way at a time, over all processes.
    add column max_concurrency        integer     not null default 8,
    -- Requests a second; null = as fast as it answers.
    add column rate_limit_per_second  integer,
    -- Until when the requests so far take up the limit (GCRA's theoretical arrival time).
    add column paced_until            timestamptz,
    -- Why it is disabled: requested by the merchant, gone (410) or failing (for five days). Null while enabled.
    add column disabled_reason        text,
    -- Events about the endpoint itself so far; the next one's sequence.
    add column event_count            integer     not null default 0,
    add constraint webhook_endpoints_headers_complete check ((headers_sealed is null) = (header_names = '{}')),
    add constraint webhook_endpoints_max_concurrency_in_bounds check (max_concurrency between 1 and 64),
    add constraint webhook_endpoints_rate_limit_in_bounds check (rate_limit_per_second between 1 and 1000),
    add constraint webhook_endpoints_disabled_reason_known
        check (disabled_reason is null or (disabled_reason in ('requested', 'gone', 'failing') and not enabled));

-- What came of the attempts at an endpoint. A table of its own: it changes with every attempt, and the endpoint's
-- row is locked by every claim.
create table endpoint_health (
    environment_id        uuid        not null,
    endpoint_id           uuid        not null,
    delivered_count       bigint      not null,
    -- Failed attempts, not failed deliveries.
    failed_count          bigint      not null,
    last_delivered_at     timestamptz,
    last_failed_at        timestamptz,
    last_error            text,
    -- The first failure since the last success, and how many there were.
    failing_since         timestamptz,
    consecutive_failures  integer     not null,
    primary key (environment_id, endpoint_id),
    constraint endpoint_health_endpoint_exists foreign key (environment_id, endpoint_id)
        references webhook_endpoints (environment_id, id),
    constraint endpoint_health_failing_is_counted check ((failing_since is null) = (consecutive_failures = 0))
) with (fillfactor = 50);

-- The event's own, so that the claim can ask for an earlier event of the same subject.
alter table deliveries
    add column subject_id      uuid,
    add column sequence        integer,
    -- Attempts before the present schedule began: sent again by hand, it starts anew.
    add column schedule_start  integer not null default 0;

update deliveries d set subject_id = e.subject_id, sequence = e.sequence
from events e
where e.environment_id = d.environment_id and e.id = d.event_id;

alter table deliveries
    alter column subject_id set not null,
    alter column sequence set not null;

-- An event waits for the first attempt at an earlier one of its subject, at its endpoint. Without the endpoint, of which
-- a subject's events have few: the planner must not take deliveries_pending for it, which may hold a long backlog.
create index deliveries_untried on deliveries (environment_id, subject_id, sequence)
    where delivery_status = 'pending' and attempt_count = 0;
-- An event's deliveries are found by deliveries_once. Newest first, by key.
drop index deliveries_by_endpoint;
create index deliveries_by_endpoint on deliveries (environment_id, endpoint_id, created_at desc, sequence desc, id desc);

-- The transaction that wrote the event. Those of finished transactions are final in this order: whoever reads up to
-- the oldest one that still runs misses nothing that is committed later (docs/adr/0010).
alter table events
    add column xact_id bigint not null default (pg_current_xact_id()::text::bigint);
create index events_by_commit on events (environment_id, xact_id, sequence, id);
create index events_by_type on events (environment_id, event_type, xact_id, sequence, id);
drop index events_by_creation;
create index events_by_creation on events (environment_id, created_at);

-- An endpoint's events sent again since a time, a batch at a time.
create table webhook_replays (
    environment_id      uuid        not null,
    id                  uuid        not null,
    endpoint_id         uuid        not null,
    replay_status       text        not null,
    since               timestamptz not null,
    until               timestamptz not null,
    -- Only what the endpoint has not taken.
    undelivered_only    boolean     not null,
    -- The last event that was looked at.
    cursor_created_at   timestamptz not null,
    cursor_id           uuid        not null,
    replayed_count      integer     not null default 0,
    -- Null once it is over.
    next_batch_at       timestamptz,
    lease_token         uuid,
    lease_expires_at    timestamptz,
    created_at          timestamptz not null,
    updated_at          timestamptz not null,
    primary key (environment_id, id),
    constraint webhook_replays_endpoint_exists foreign key (environment_id, endpoint_id)
        references webhook_endpoints (environment_id, id),
    constraint webhook_replays_status_known check (replay_status in ('running', 'completed', 'cancelled')),
    constraint webhook_replays_running_is_due check ((replay_status = 'running') = (next_batch_at is not null)),
    constraint webhook_replays_lease_complete check ((lease_token is null) = (lease_expires_at is null))
);
create index webhook_replays_due on webhook_replays (next_batch_at) where replay_status = 'running';
-- One at a time per endpoint.
create unique index webhook_replays_one_running on webhook_replays (environment_id, endpoint_id)
    where replay_status = 'running';
create index webhook_replays_by_endpoint on webhook_replays (environment_id, endpoint_id, created_at desc, id desc);

-- Events that happened before this time were removed, unless a delivery of theirs was still to be made.
alter table environments
    add column events_removed_before timestamptz;
