-- Provider events whose signature was verified, stored before they are acknowledged.

create table inbox (
    environment_id   uuid        not null references environments (id),
    id               uuid        not null,
    -- The accounts under whose secret the signature verified; several share one after an account was connected anew.
    connection_ids   uuid[]      not null,
    event_type       text        not null,
    -- SHA-256 of the signed content that makes two events the same: type and entity ids with their states.
    -- The event-id header is not signed and is not used.
    content_hash     bytea       not null,
    -- An allow-list of the payload's fields (inbox::receive); no card, VPA, e-mail or phone.
    content          jsonb       not null,
    inbox_status     text        not null,
    -- What it did: applied, already_applied, refund, recorded, foreign, unknown_type …
    outcome          text,
    attempt_count    integer     not null,
    next_attempt_at  timestamptz,
    lease_token      uuid,
    lease_expires_at timestamptz,
    received_at      timestamptz not null,
    processed_at     timestamptz,
    primary key (environment_id, id),
    constraint inbox_content_once unique (environment_id, content_hash),
    -- waiting: matches no session yet, or failed; looked at again. parked: given up, kept for people.
    constraint inbox_status_known check (inbox_status in ('waiting', 'processed', 'parked')),
    constraint inbox_waiting_is_due check ((inbox_status = 'waiting') = (next_attempt_at is not null))
);

create index inbox_due on inbox (next_attempt_at) where inbox_status = 'waiting';
