-- What a checkout drafts and what payment makes of it.
-- `status` is the row's own life (published, archived); the other *_status columns are the business state.

create table subscriptions (
    environment_id        uuid        not null references environments (id),
    id                    uuid        not null,
    customer_id           uuid        not null,
    plan_id               uuid        not null,
    subscription_status   text        not null,
    currency              text        not null,
    billing_period        text        not null,
    billing_period_count  integer     not null,
    billing_anchor        timestamptz not null,
    timezone              text        not null,
    start_date            timestamptz not null,
    end_date              timestamptz,
    current_period_start  timestamptz not null,
    current_period_end    timestamptz not null,
    collection_method     text        not null,
    lookup_key            text,
    metadata              jsonb       not null,
    version               integer     not null,
    activated_at          timestamptz,
    status                text        not null,
    created_at            timestamptz not null,
    updated_at            timestamptz not null,
    primary key (environment_id, id),
    constraint subscriptions_customer_exists foreign key (environment_id, customer_id)
        references customers (environment_id, id),
    constraint subscriptions_plan_exists foreign key (environment_id, plan_id) references plans (environment_id, id),
    constraint subscriptions_subscription_status_known check
        (subscription_status in ('draft', 'active', 'paused', 'cancelled', 'incomplete', 'trialing')),
    constraint subscriptions_period_forward check (current_period_end > current_period_start),
    constraint subscriptions_status_known check (status in ('published', 'archived'))
);

create index subscriptions_by_creation on subscriptions (environment_id, created_at desc, id desc);
create index subscriptions_by_customer on subscriptions (environment_id, customer_id);
create index subscriptions_by_plan on subscriptions (environment_id, plan_id);

create table subscription_line_items (
    environment_id     uuid        not null,
    id                 uuid        not null,
    subscription_id    uuid        not null,
    price_id           uuid        not null,
    quantity           bigint      not null,
    display_name       text        not null,
    plan_display_name  text        not null,
    start_date         timestamptz not null,
    end_date           timestamptz,
    created_at         timestamptz not null,
    primary key (environment_id, id),
    constraint subscription_line_items_subscription_exists foreign key (environment_id, subscription_id)
        references subscriptions (environment_id, id),
    constraint subscription_line_items_price_exists foreign key (environment_id, price_id)
        references prices (environment_id, id),
    constraint subscription_line_items_quantity_positive check (quantity >= 1)
);

create index subscription_line_items_by_subscription on subscription_line_items (environment_id, subscription_id);
create index subscription_line_items_by_price on subscription_line_items (environment_id, price_id);

create table invoices (
    environment_id     uuid        not null references environments (id),
    id                 uuid        not null,
    customer_id        uuid        not null,
    subscription_id    uuid        not null,
    invoice_status     text        not null,
    payment_status     text        not null,
    currency           text        not null,
    total_minor        bigint      not null,
    amount_paid_minor  bigint      not null,
    -- Null until finalized; then INV-YYYYMM-00001 from the environment's own counter.
    invoice_number     text,
    billing_reason     text        not null,
    billing_period     text        not null,
    period_start       timestamptz not null,
    period_end         timestamptz not null,
    metadata           jsonb       not null,
    version            integer     not null,
    finalized_at       timestamptz,
    paid_at            timestamptz,
    status             text        not null,
    created_at         timestamptz not null,
    updated_at         timestamptz not null,
    primary key (environment_id, id),
    constraint invoices_customer_exists foreign key (environment_id, customer_id)
        references customers (environment_id, id),
    constraint invoices_subscription_exists foreign key (environment_id, subscription_id)
        references subscriptions (environment_id, id),
    constraint invoices_invoice_status_known check (invoice_status in ('DRAFT', 'FINALIZED', 'VOIDED', 'SKIPPED')),
    constraint invoices_payment_status_known check (payment_status in ('PENDING', 'SUCCEEDED', 'REFUNDED')),
    constraint invoices_total_positive check (total_minor > 0),
    constraint invoices_number_when_finalized check
        (invoice_status <> 'FINALIZED' or (invoice_number is not null and finalized_at is not null)),
    constraint invoices_status_known check (status in ('published', 'archived'))
);

create unique index invoices_number_unique on invoices (environment_id, invoice_number)
    where invoice_number is not null;
create index invoices_by_creation on invoices (environment_id, created_at desc, id desc);
create index invoices_by_customer on invoices (environment_id, customer_id);
create index invoices_by_subscription on invoices (environment_id, subscription_id);

create table invoice_line_items (
    environment_id             uuid        not null,
    id                         uuid        not null,
    invoice_id                 uuid        not null,
    subscription_line_item_id  uuid        not null,
    price_id                   uuid        not null,
    display_name               text        not null,
    plan_display_name          text        not null,
    quantity                   bigint      not null,
    amount_minor               bigint      not null,
    period_start               timestamptz not null,
    period_end                 timestamptz not null,
    created_at                 timestamptz not null,
    primary key (environment_id, id),
    constraint invoice_line_items_invoice_exists foreign key (environment_id, invoice_id)
        references invoices (environment_id, id),
    constraint invoice_line_items_subscription_line_exists foreign key (environment_id, subscription_line_item_id)
        references subscription_line_items (environment_id, id),
    constraint invoice_line_items_amount_not_negative check (amount_minor >= 0)
);

create index invoice_line_items_by_invoice on invoice_line_items (environment_id, invoice_id);

-- The last number given out. One row an environment, updated in the transaction that finalizes, so
-- numbers have no gap; the row's lock is held for that transaction only.
create table invoice_counters (
    environment_id  uuid   primary key references environments (id),
    last_number     bigint not null
);

create table payments (
    environment_id       uuid        not null references environments (id),
    id                   uuid        not null,
    invoice_id           uuid        not null,
    amount_minor         bigint      not null,
    currency             text        not null,
    payment_status       text        not null,
    payment_gateway      text        not null,
    -- Razorpay's payment (pay_…), once one succeeded; and its payment link (plink_…).
    gateway_payment_id   text,
    gateway_tracking_id  text,
    payment_url          text,
    error_message        text,
    metadata             jsonb       not null,
    succeeded_at         timestamptz,
    failed_at            timestamptz,
    status               text        not null,
    created_at           timestamptz not null,
    updated_at           timestamptz not null,
    primary key (environment_id, id),
    constraint payments_invoice_exists foreign key (environment_id, invoice_id)
        references invoices (environment_id, id),
    constraint payments_payment_status_known check
        (payment_status in ('INITIATED', 'PENDING', 'SUCCEEDED', 'FAILED', 'REFUNDED')),
    constraint payments_amount_positive check (amount_minor > 0),
    constraint payments_succeeded_complete check
        (payment_status <> 'SUCCEEDED' or (gateway_payment_id is not null and succeeded_at is not null)),
    constraint payments_status_known check (status in ('published', 'archived'))
);

create index payments_by_creation on payments (environment_id, created_at desc, id desc);
create index payments_by_invoice on payments (environment_id, invoice_id);

-- What the customer tried on the link. Facts: inserted, never changed.
create table payment_attempts (
    environment_id       uuid        not null,
    id                   uuid        not null,
    payment_id           uuid        not null,
    attempt_number       integer     not null,
    gateway_payment_id   text        not null,
    payment_status       text        not null,
    error_message        text,
    created_at           timestamptz not null,
    primary key (environment_id, id),
    constraint payment_attempts_payment_exists foreign key (environment_id, payment_id)
        references payments (environment_id, id),
    constraint payment_attempts_once unique (environment_id, payment_id, gateway_payment_id, payment_status),
    constraint payment_attempts_status_known check (payment_status in ('SUCCEEDED', 'FAILED'))
);

-- Each captured payment at the provider, and its one fate: applied to a session, or refunded.
create table provider_payments (
    environment_id       uuid        not null references environments (id),
    -- Razorpay's id, pay_…
    provider_payment_id  text        not null,
    session_id           uuid        not null,
    amount_minor         bigint      not null,
    currency             text        not null,
    fate                 text        not null,
    -- How it was learnt: webhook, return, poll, deadline, cancel, create.
    cause                text        not null,
    -- The inbox row, where the cause is a webhook.
    inbox_id             uuid,
    created_at           timestamptz not null,
    primary key (environment_id, provider_payment_id),
    constraint provider_payments_fate_known check (fate in ('applied', 'refund')),
    constraint provider_payments_amount_positive check (amount_minor > 0)
);

create unique index provider_payments_one_applied on provider_payments (environment_id, session_id)
    where fate = 'applied';

-- Money to give back. The row is first; the call to the provider carries its id as idempotency key.
create table refunds (
    environment_id         uuid        not null,
    id                     uuid        not null,
    provider_payment_id    text        not null,
    session_id             uuid        not null,
    connection_id          uuid        not null,
    amount_minor           bigint      not null,
    currency               text        not null,
    refund_status          text        not null,
    reason                 text        not null,
    gateway_refund_id      text,
    attempt_count          integer     not null,
    last_error             text,
    next_attempt_at        timestamptz not null,
    lease_token            uuid,
    lease_expires_at       timestamptz,
    succeeded_at           timestamptz,
    created_at             timestamptz not null,
    updated_at             timestamptz not null,
    primary key (environment_id, id),
    constraint refunds_payment_exists foreign key (environment_id, provider_payment_id)
        references provider_payments (environment_id, provider_payment_id),
    constraint refunds_connection_exists foreign key (environment_id, connection_id)
        references connections (environment_id, id),
    constraint refunds_one_per_payment unique (environment_id, provider_payment_id),
    constraint refunds_status_known check (refund_status in ('PENDING', 'PROCESSING', 'SUCCEEDED', 'FAILED')),
    constraint refunds_reason_known check
        (reason in ('late_payment', 'duplicate_payment', 'amount_mismatch', 'refunded_already'))
);

create index refunds_due on refunds (next_attempt_at) where refund_status in ('PENDING', 'PROCESSING');
