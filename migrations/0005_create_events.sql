-- What merchants are told. Events and deliveries are inserted in the transaction that changes the subject.

create table webhook_endpoints (
    environment_id              uuid        not null references environments (id),
    id                          uuid        not null,
    url                         text        not null,
    description                 text        not null,
    -- Empty = all.
    event_types                 text[]      not null,
    enabled                     boolean     not null,
    secret_sealed               bytea       not null,
    -- After a rotation the old secret keeps signing until this time.
    previous_secret_sealed      bytea,
    previous_secret_expires_at  timestamptz,
    deleted_at                  timestamptz,
    created_at                  timestamptz not null,
    updated_at                  timestamptz not null,
    primary key (environment_id, id),
    constraint webhook_endpoints_previous_secret_expires
        check ((previous_secret_sealed is null) = (previous_secret_expires_at is null))
);

create index webhook_endpoints_by_creation on webhook_endpoints (environment_id, created_at desc, id desc)
    where deleted_at is null;

create table events (
    environment_id  uuid        not null references environments (id),
    id              uuid        not null,
    event_type      text        not null,
    -- What it is about (a session's id), and its place among that subject's events, from 1 without gaps.
    subject_id      uuid        not null,
    sequence        integer     not null,
    -- The exact bytes that are signed and sent on every attempt.
    body            bytea       not null,
    created_at      timestamptz not null,
    primary key (environment_id, id),
    constraint events_sequence_once unique (environment_id, subject_id, sequence)
);

create index events_by_creation on events (environment_id, created_at desc, sequence desc, id desc);

create table deliveries (
    environment_id      uuid        not null,
    id                  uuid        not null,
    event_id            uuid        not null,
    endpoint_id         uuid        not null,
    delivery_status     text        not null,
    attempt_count       integer     not null,
    -- Null once nothing more will be sent.
    next_attempt_at     timestamptz,
    lease_token         uuid,
    lease_expires_at    timestamptz,
    last_response_code  integer,
    last_error          text,
    delivered_at        timestamptz,
    created_at          timestamptz not null,
    updated_at          timestamptz not null,
    primary key (environment_id, id),
    constraint deliveries_event_exists foreign key (environment_id, event_id) references events (environment_id, id),
    constraint deliveries_endpoint_exists foreign key (environment_id, endpoint_id)
        references webhook_endpoints (environment_id, id),
    constraint deliveries_once unique (environment_id, event_id, endpoint_id),
    -- exhausted: every attempt of the schedule failed. cancelled: the endpoint was disabled or deleted first.
    constraint deliveries_status_known check (delivery_status in ('pending', 'delivered', 'exhausted', 'cancelled')),
    constraint deliveries_pending_is_due check ((delivery_status = 'pending') = (next_attempt_at is not null)),
    constraint deliveries_lease_complete check ((lease_token is null) = (lease_expires_at is null)),
    constraint deliveries_lease_of_pending check (lease_token is null or delivery_status = 'pending')
);

-- The claim goes from endpoint to endpoint and takes each one's first due rows: one endpoint's backlog, however
-- long, costs the others nothing.
create index deliveries_pending on deliveries (environment_id, endpoint_id, next_attempt_at)
    where delivery_status = 'pending';
-- How many are under way at an endpoint.
create index deliveries_leased on deliveries (environment_id, endpoint_id) where lease_token is not null;
create index deliveries_by_endpoint on deliveries (environment_id, endpoint_id, created_at desc);

-- One row per request that was sent. Facts: inserted, never changed.
create table delivery_attempts (
    environment_id   uuid        not null,
    id               uuid        not null,
    delivery_id      uuid        not null,
    attempt_number   integer     not null,
    -- The receiver's status; null when there was no answer.
    response_code    integer,
    -- First KiB of the answer's body.
    response_body    text,
    error            text,
    duration_ms      bigint      not null,
    attempted_at     timestamptz not null,
    primary key (environment_id, id),
    constraint delivery_attempts_delivery_exists foreign key (environment_id, delivery_id)
        references deliveries (environment_id, id),
    constraint delivery_attempts_number_once unique (environment_id, delivery_id, attempt_number)
);
