-- The core. A session, its link at the provider, and when to look at it next.

create table checkout_sessions (
    environment_id     uuid        not null references environments (id),
    id                 uuid        not null,
    customer_id        uuid        not null,
    subscription_id    uuid        not null,
    invoice_id         uuid        not null,
    payment_id         uuid        not null,
    connection_id      uuid        not null,
    action             text        not null,
    payment_provider   text        not null,
    checkout_status    text        not null,
    amount_minor       bigint      not null,
    currency           text        not null,
    idempotency_key    text,
    success_url        text,
    failure_url        text,
    cancel_url         text,
    metadata           jsonb       not null,
    -- The payment link. Its reference_id at the provider is the session's own id, saved by being the
    -- primary key before the call is made.
    link_id            text,
    link_url           text,
    -- none: not made, or not known to be. open: payable. closing: to be cancelled at the provider.
    -- closed: the provider confirmed that nobody can pay on it.
    link_state         text        not null,
    -- Events of this session so far; the next one's sequence is one more.
    event_count        integer     not null,
    failure_reason     text,
    expires_at         timestamptz not null,
    completed_at       timestamptz,
    cancelled_at       timestamptz,
    -- When the worker looks at it next; null = no longer.
    check_at           timestamptz,
    -- When the provider was last asked on behalf of a reader: polls share one read per window.
    checked_at         timestamptz,
    check_count        integer     not null,
    lease_token        uuid,
    lease_expires_at   timestamptz,
    deleted_at         timestamptz,
    created_at         timestamptz not null,
    updated_at         timestamptz not null,
    primary key (environment_id, id),
    constraint checkout_sessions_customer_exists foreign key (environment_id, customer_id)
        references customers (environment_id, id),
    constraint checkout_sessions_subscription_exists foreign key (environment_id, subscription_id)
        references subscriptions (environment_id, id),
    constraint checkout_sessions_invoice_exists foreign key (environment_id, invoice_id)
        references invoices (environment_id, id),
    constraint checkout_sessions_payment_exists foreign key (environment_id, payment_id)
        references payments (environment_id, id),
    constraint checkout_sessions_connection_exists foreign key (environment_id, connection_id)
        references connections (environment_id, id),
    constraint checkout_sessions_action_known check (action in ('create_subscription')),
    constraint checkout_sessions_provider_known check (payment_provider in ('razorpay')),
    constraint checkout_sessions_status_known check
        (checkout_status in ('initiated', 'pending', 'completed', 'failed', 'expired')),
    constraint checkout_sessions_link_state_known check (link_state in ('none', 'open', 'closing', 'closed')),
    constraint checkout_sessions_link_complete check (link_state <> 'open' or (link_id is not null and link_url is not null)),
    constraint checkout_sessions_amount_positive check (amount_minor > 0),
    constraint checkout_sessions_completed_at_set check ((checkout_status = 'completed') = (completed_at is not null)),
    constraint checkout_sessions_pending_has_link check (checkout_status <> 'pending' or link_id is not null)
);

create unique index checkout_sessions_open_key on checkout_sessions (environment_id, idempotency_key)
    where idempotency_key is not null and checkout_status in ('initiated', 'pending');
create unique index checkout_sessions_link on checkout_sessions (environment_id, link_id) where link_id is not null;
create index checkout_sessions_by_creation on checkout_sessions (environment_id, created_at desc, id desc);
create index checkout_sessions_by_customer on checkout_sessions (environment_id, customer_id);
create index checkout_sessions_due on checkout_sessions (check_at) where check_at is not null;

-- Every change of a session's state and what caused it. Inserted with the change, never changed.
create table session_transitions (
    environment_id  uuid        not null,
    session_id      uuid        not null,
    sequence        integer     not null,
    from_status     text        not null,
    to_status       text        not null,
    -- webhook, return, poll, deadline, create, cancel, delete, reconcile
    cause           text        not null,
    inbox_id        uuid,
    created_at      timestamptz not null,
    primary key (environment_id, session_id, sequence),
    constraint session_transitions_session_exists foreign key (environment_id, session_id)
        references checkout_sessions (environment_id, id)
);
