-- What POSTs with an Idempotency-Key came to, for a week (docs/adr/0012).

create table idempotency_keys (
    environment_id    uuid        not null references environments (id),
    key               text        not null,
    -- SHA-256 of method, path, query and body: the same key with another request is refused.
    fingerprint       bytea       not null,
    -- The id of what the request makes: however often it runs, it makes that once.
    reserved_id       uuid        not null,
    -- Held while the request runs.
    lease_token       uuid,
    lease_expires_at  timestamptz,
    -- The answer; its body sealed, because some show secrets. Null until there is one that stays.
    answer_status     smallint,
    answer_type       text,
    answer_sealed     bytea,
    created_at        timestamptz not null,
    primary key (environment_id, key),
    constraint idempotency_keys_key_length check (length(key) between 1 and 255),
    constraint idempotency_keys_lease_complete check ((lease_token is null) = (lease_expires_at is null)),
    constraint idempotency_keys_answer_complete check ((answer_status is null) = (answer_sealed is null)),
    constraint idempotency_keys_answer_is_final check (answer_status is null or lease_token is null)
-- Room for the answer beside the row that waits for it: its update leaves the indexes alone.
) with (fillfactor = 50);
-- The oldest are removed first.
create index idempotency_keys_by_creation on idempotency_keys (created_at);
