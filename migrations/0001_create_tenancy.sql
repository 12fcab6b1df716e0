-- Who may call, in which environment, and with which Razorpay account.
-- Rules of the schema (docs/adr/0002): every table that belongs to a tenant has the primary key
-- (environment_id, id); foreign keys carry environment_id; no triggers, no serial ids, no now().

create table tenants (
    id          uuid        primary key,
    name        text        not null,
    created_at  timestamptz not null
);

create table environments (
    id                   uuid        primary key,
    tenant_id            uuid        not null references tenants (id),
    mode                 text        not null,
    -- Lifetime of a session in seconds; null = the service's default.
    session_ttl_seconds  integer,
    created_at           timestamptz not null,
    constraint environments_mode_known check (mode in ('test', 'live')),
    constraint environments_one_per_mode unique (tenant_id, mode)
);

-- A key's text is sk_{mode}_{lookup_id}{secret}{checksum}; only a keyed hash of it is kept.
create table api_keys (
    environment_id  uuid        not null references environments (id),
    id              uuid        not null,
    name            text        not null,
    -- Public part of the key, 12 random base62 characters: the one global look-up, because a request
    -- carries nothing else that names its environment.
    lookup_id       text        not null,
    last_four       text        not null,
    hash            bytea       not null,
    created_at      timestamptz not null,
    revoked_at      timestamptz,
    primary key (environment_id, id),
    constraint api_keys_lookup_id_unique unique (lookup_id)
);

-- A Razorpay account. Secrets are sealed (kit::secret) with table, column, environment and id as
-- associated data, so a ciphertext moved to another row does not open.
create table connections (
    environment_id                      uuid        not null references environments (id),
    id                                  uuid        not null,
    name                                text        not null,
    provider_type                       text        not null,
    key_id                              text        not null,
    secret_key_sealed                   bytea       not null,
    webhook_secret_sealed               bytea,
    -- Razorpay signs retries of old events with the old secret, for up to 15 days.
    previous_webhook_secret_sealed      bytea,
    previous_webhook_secret_expires_at  timestamptz,
    metadata                            jsonb       not null,
    status                              text        not null,
    created_at                          timestamptz not null,
    updated_at                          timestamptz not null,
    primary key (environment_id, id),
    constraint connections_provider_known check (provider_type in ('razorpay')),
    constraint connections_status_known check (status in ('published', 'archived')),
    constraint connections_previous_secret_expires
        check ((previous_webhook_secret_sealed is null) = (previous_webhook_secret_expires_at is null))
);

create unique index connections_one_published on connections (environment_id, provider_type)
    where status = 'published';
