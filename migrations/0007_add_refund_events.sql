-- Refunds tell merchants what becomes of them, and can be tried again when they failed.

alter table refunds
    -- Events of this refund so far; the next one's sequence is one more.
    add column event_count      integer not null default 0,
    -- What Razorpay knows the present try by, as idempotency key and receipt; null: by the row's own id.
    add column idempotency_key  uuid,
    -- What is asked for; null: all of amount_minor. Less when somebody gave a part of it back by hand.
    add column send_minor       bigint,
    -- Tries in a row that were refused or not answered, since it was made or tried again by hand.
    add column failure_count    integer not null default 0,
    -- When Razorpay took it.
    add column initiated_at     timestamptz,
    add column failed_at        timestamptz,
    -- When people were last told that it does not get through.
    add column alerted_at       timestamptz,
    add constraint refunds_send_within_amount check (send_minor is null or send_minor between 1 and amount_minor);

create index refunds_by_creation on refunds (environment_id, created_at desc, id desc);
create index refunds_by_session on refunds (environment_id, session_id);
