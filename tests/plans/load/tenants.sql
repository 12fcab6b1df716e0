-- What a million sessions belong to, and functions that name them. A row's number says which row of another table it
-- goes with; each table's ids are its own, so all take them from one function.

create function id(n bigint) returns uuid
    immutable parallel safe language sql
    return ('01900000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid;

-- The environment of a row: fifteen sixteenths of everything belong to the first of five. A sixth is empty.
create function env(n bigint) returns uuid
    immutable parallel safe language sql
    return id(case when n % 16 > 0 then 1 else 2 + n / 16 % 4 end);

-- One of the environment's 20 plans.
create function plan(n bigint) returns uuid
    immutable parallel safe language sql
    return id(100 * case when n % 16 > 0 then 1 else 2 + n / 16 % 4 end + n % 20);

-- One of the environment's customers.
create function customer(n bigint) returns uuid
    immutable parallel safe language sql
    return id(n % 64 + 64 * (n * 7919 % 1562));

-- The present, for as long as the database is kept.
do $$
begin
    execute format('create function present() returns timestamptz immutable parallel safe language sql return %L::timestamptz', now());
end
$$;

create function ids(first bigint, last bigint) returns uuid[]
    stable language sql
    return (select array_agg(id(n)) from generate_series(first, last) n);

-- When a session was made: over the last 92 days.
create function made(n bigint) returns timestamptz
    immutable parallel safe language sql
    return present() - (1000001 - n) * interval '8 seconds';

create function numbered(prefix text, first bigint, last bigint) returns text[]
    stable language sql
    return (select array_agg(prefix || n) from generate_series(first, last) n);

-- One value as often as there are ids.
create function each(value text, ids uuid[]) returns text[]
    immutable language sql
    return array_fill(value, array[cardinality(ids)]);

-- A million sessions: the last 6,000 are open, of the others three fifths are paid.
create unlogged table numbers as
select n, id(n), env(n), plan(n), customer(n), made(n),
    case when n > 999950 then 'initiated' when n > 994000 then 'pending' when n % 5 < 3 then 'completed' else 'expired' end as state
from generate_series(1, 1000000) n
-- An index is built faster over what is in its order.
order by n % 16 = 0, n / 16 % 4 * (n % 16 = 0)::int, n;

insert into tenants (id, name, created_at) select id(n), 'Tenant ' || n, present() from generate_series(1, 6) n;

insert into environments (id, tenant_id, mode, name, created_at)
select id(n), id(n), 'test', 'Test', present() from generate_series(1, 6) n;

insert into api_keys (environment_id, id, name, lookup_id, last_four, hash, created_at, revoked_at)
select id(1 + n % 5), id(n), 'Key', 'lookup' || lpad(n::text, 6, '0'), '0000', '\x00', present(),
    case when n > 20 then present() end
from generate_series(1, 200) n;

insert into connections (environment_id, id, name, provider_type, key_id, secret_key_sealed, webhook_secret_sealed,
    metadata, status, created_at, updated_at)
select id(1 + n % 5), id(n), 'Razorpay', 'razorpay', 'rzp_test_' || n, '\x00', '\x00', '{}',
    case when n <= 5 then 'published' else 'archived' end, present(), present()
from generate_series(1, 10) n;

insert into plans (environment_id, id, name, description, lookup_key, metadata, status, created_at, updated_at)
select id(e), id(100 * e + n), 'Pro', '', 'plan_' || n, '{}', 'published', present(), present()
from generate_series(1, 5) e, generate_series(0, 19) n;

insert into prices (environment_id, id, plan_id, billing_model, billing_period, billing_period_count, invoice_cadence,
    currency, amount_minor, trial_period_days, display_name, description, metadata, start_date, status, created_at,
    updated_at)
select environment_id, id, id, 'FLAT_FEE', 'MONTHLY', 1, 'ADVANCE', 'inr', 49900, 0, 'Pro', '', '{}',
    present() - interval '1 year', 'published', present(), present()
from plans;

insert into customers (environment_id, id, external_id, name, timezone, tax_treatment, contact_persons, metadata,
    status, created_at, updated_at)
select env(n), id(n), 'user_' || n, 'Customer ' || n, 'UTC', 'taxable', '[]', '{}',
    case when n % 100 = 99 then 'archived' else 'published' end,
    made(10 * n), made(10 * n)
from generate_series(0, 99967) n;

insert into invoice_counters (environment_id, last_number) select id(n), 1000000 from generate_series(1, 5) n;

-- Ten endpoints of the first environment, as many of each other one.
insert into webhook_endpoints (environment_id, id, url, description, event_types, enabled, secret_sealed, created_at,
    updated_at)
select id(1 + n / 10), id(n), 'https://app.example.com/' || n, '', '{}', true, '\x00', present(), present()
from generate_series(0, 49) n;

insert into endpoint_health (environment_id, endpoint_id, delivered_count, failed_count, last_delivered_at,
    consecutive_failures)
select environment_id, id, 100000, 0, present(), 0 from webhook_endpoints;

insert into webhook_replays (environment_id, id, endpoint_id, replay_status, since, until, undelivered_only,
    cursor_created_at, cursor_id, next_batch_at, created_at, updated_at)
select environment_id, id, id, 'running', made(500000), present(), true, made(600000), id(0), present(), present(), present()
from webhook_endpoints;

insert into idempotency_keys (environment_id, key, fingerprint, reserved_id, answer_status, answer_type, answer_sealed,
    created_at)
select env(n), 'key_' || n, sha256(n::text::bytea), id(n), 201, 'application/json', '\x00',
    present() - (200001 - n) * interval '3 seconds'
from generate_series(1, 200000) n;

create function version(session uuid) returns bigint
    stable language sql
    begin atomic
        select xmin::text::bigint from checkout_sessions where environment_id = id(1) and id = session;
    end;
