-- Events, of which the older sessions have kept only the last; over a million deliveries; what the provider sent.

insert into events (environment_id, id, event_type, subject_id, sequence, body, created_at, xact_id)
select env, id(2 * n + sequence - 1),
    'checkout.session.' || case sequence when 1 then 'initiated' else state end,
    id, sequence, '{"id":"evt_1","type":"checkout.session.completed","data":{"object":{}}}',
    made, n - 2000000
from numbers, generate_series(1, 2) sequence
where case sequence when 1 then n > 900000 else n <= 994000 end;

-- The last event of each session, told to one of eight endpoints. Those of the last hours are pending, others were given
-- up or cancelled; some are under way.
insert into deliveries (environment_id, id, event_id, subject_id, sequence, endpoint_id, delivery_status, attempt_count,
    next_attempt_at, lease_token, lease_expires_at, last_response_code, delivered_at, created_at, updated_at)
select env, id, id(2 * n + case when n <= 994000 then 1 else 0 end), id, case when n <= 994000 then 2 else 1 end,
    id(case when n % 16 > 0 then 0 else 10 + n / 16 % 4 * 10 end + n % 8),
    status,
    case when status = 'pending' then n % 2 else 1 end,
    case when status = 'pending' then present() + (n - 999000) * interval '1 second' end,
    case when n between 997001 and 997100 then id end,
    case when n between 997001 and 997100 then present() + interval '1 minute' end,
    case when status = 'delivered' then 200 end,
    case when status = 'delivered' then made end,
    made, made
from numbers,
    lateral (select case
        when n > 997000 then 'pending' when n % 200 = 7 then 'exhausted' when n % 200 = 8 then 'cancelled' else 'delivered'
    end) s (status);

-- The first environment's last endpoint but one is behind by 50,000: both events of 25,000 sessions.
insert into deliveries (environment_id, id, event_id, subject_id, sequence, endpoint_id, delivery_status, attempt_count,
    next_attempt_at, created_at, updated_at)
select env, id(2000000 + 2 * n + sequence), id(2 * n + sequence - 1), id, sequence, id(8), 'pending', 0,
    made, made, made
from numbers, generate_series(1, 2) sequence
where n between 960000 and 986665 and n % 16 > 0;

-- The last one does not answer: 5,000 wait for their next attempt.
insert into deliveries (environment_id, id, event_id, subject_id, sequence, endpoint_id, delivery_status, attempt_count,
    next_attempt_at, last_error, created_at, updated_at)
select env, id(5000000 + n), id(2 * n), id, 1, id(9), 'pending', 3,
    present() + (n - 940100) * interval '1 second', 'timeout', made, made
from numbers
where n between 940000 and 945334 and n % 16 > 0;

insert into delivery_attempts (environment_id, id, delivery_id, attempt_number, response_code, response_body,
    duration_ms, attempted_at)
select env, id, id, 1, 200, 'ok', 20, made
from numbers
where n <= 997000;

insert into inbox (environment_id, id, connection_ids, event_type, content_hash, content, inbox_status, outcome,
    attempt_count, next_attempt_at, received_at, processed_at)
select env, id, array[id(5)], 'payment_link.paid', sha256(n::text::bytea), '{"link": "plink_1"}', status,
    case when status <> 'processed' then null when n > 800000 and n % 20 = 0 then 'foreign' else 'applied' end,
    1,
    case when status = 'waiting' then present() + (n - 999500) * interval '1 second' end,
    made,
    case when status = 'processed' then made end
from numbers,
    lateral (select case when n > 999000 then 'waiting' when n % 10000 = 1 then 'parked' else 'processed' end) s (status);
