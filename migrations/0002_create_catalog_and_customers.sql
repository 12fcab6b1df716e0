-- What is sold and to whom.

create table customers (
    environment_id       uuid        not null references environments (id),
    id                   uuid        not null,
    external_id          text        not null,
    name                 text        not null,
    email                text,
    contact              text,
    address_line1        text,
    address_line2        text,
    address_city         text,
    address_state        text,
    address_postal_code  text,
    address_country      text,
    billing_currency     text,
    -- IANA name; billing periods are computed on this zone's calendar.
    timezone             text        not null,
    tax_treatment        text        not null,
    contact_persons      jsonb       not null,
    metadata             jsonb       not null,
    status               text        not null,
    created_at           timestamptz not null,
    updated_at           timestamptz not null,
    primary key (environment_id, id),
    constraint customers_status_known check (status in ('published', 'archived')),
    constraint customers_tax_treatment_known check (tax_treatment in ('taxable', 'exempt'))
);

create unique index customers_external_id_unique on customers (environment_id, external_id)
    where status = 'published';
create index customers_archived_by_external_id on customers (environment_id, external_id, updated_at desc)
    where status = 'archived';
create index customers_by_creation on customers (environment_id, created_at desc, id desc);

create table plans (
    environment_id  uuid        not null references environments (id),
    id              uuid        not null,
    name            text        not null,
    description     text        not null,
    lookup_key      text,
    display_order   bigint,
    metadata        jsonb       not null,
    status          text        not null,
    created_at      timestamptz not null,
    updated_at      timestamptz not null,
    primary key (environment_id, id),
    constraint plans_status_known check (status in ('published', 'archived'))
);

create unique index plans_lookup_key_unique on plans (environment_id, lookup_key)
    where status = 'published' and lookup_key is not null;
create index plans_by_creation on plans (environment_id, created_at desc, id desc);

-- Amounts are integer minor units of the currency. A price that a subscription uses never changes:
-- a critical change ends it (end_date) and inserts its successor (parent_price_id).
create table prices (
    environment_id        uuid        not null,
    id                    uuid        not null,
    plan_id               uuid        not null,
    billing_model         text        not null,
    billing_period        text        not null,
    billing_period_count  integer     not null,
    invoice_cadence       text        not null,
    currency              text        not null,
    -- FLAT_FEE: per unit. PACKAGE: per package. TIERED: null.
    amount_minor          bigint,
    tier_mode             text,
    -- [{"up_to": 10|null, "unit_amount_minor": 100, "flat_amount_minor": 0}], ascending, last up_to null.
    tiers                 jsonb,
    -- PACKAGE: units in a package, and which way a part of one is rounded.
    package_divide_by     bigint,
    package_round         text,
    -- Units billed when the subscriber names no quantity.
    min_quantity          bigint,
    trial_period_days     integer     not null,
    display_name          text        not null,
    description           text        not null,
    lookup_key            text,
    group_id              text,
    metadata              jsonb       not null,
    start_date            timestamptz not null,
    end_date              timestamptz,
    parent_price_id       uuid,
    status                text        not null,
    created_at            timestamptz not null,
    updated_at            timestamptz not null,
    primary key (environment_id, id),
    constraint prices_plan_exists foreign key (environment_id, plan_id) references plans (environment_id, id),
    constraint prices_billing_model_known check (billing_model in ('FLAT_FEE', 'PACKAGE', 'TIERED')),
    constraint prices_billing_period_known check
        (billing_period in ('DAILY', 'WEEKLY', 'MONTHLY', 'QUARTERLY', 'HALF_YEARLY', 'ANNUAL', 'ONETIME')),
    constraint prices_invoice_cadence_known check (invoice_cadence in ('ADVANCE', 'ARREAR')),
    constraint prices_onetime_in_advance check (billing_period <> 'ONETIME' or invoice_cadence = 'ADVANCE'),
    constraint prices_currency_lower_case check (currency ~ '^[a-z]{3}$'),
    constraint prices_period_count_positive check (billing_period_count >= 1),
    constraint prices_amount_not_negative check (amount_minor >= 0),
    constraint prices_min_quantity_positive check (min_quantity >= 1),
    constraint prices_model_complete check (
        case billing_model
            when 'FLAT_FEE' then amount_minor is not null and tiers is null and package_divide_by is null
            when 'PACKAGE' then amount_minor is not null and tiers is null and package_divide_by >= 1
                and package_round in ('up', 'down')
            when 'TIERED' then amount_minor is null and tiers is not null and tier_mode in ('VOLUME', 'SLAB')
        end),
    constraint prices_ends_after_start check (end_date >= start_date),
    constraint prices_status_known check (status in ('published', 'archived'))
);

create unique index prices_lookup_key_unique on prices (environment_id, lookup_key)
    where status = 'published' and lookup_key is not null and end_date is null;
create index prices_by_plan on prices (environment_id, plan_id, created_at desc);
