-- Events that cannot be settled are parked with a reason; those that concern nothing of ours go after 15 days.

alter table inbox
    -- Claims that ended in a failure or did not end, as opposed to those that only came too early or met a database
    -- that was away. Raised by the claim, so that a process which dies at the event counts too.
    add column failure_count integer not null default 0,
    -- What the last try failed of.
    add column last_error text;

create index inbox_parked on inbox (received_at) where inbox_status = 'parked';
create index inbox_removable on inbox (received_at)
    where inbox_status = 'processed' and outcome in ('foreign', 'ignored');

-- What metrics and doctor count all the time, however many sessions there are: those that are open, by deadline, and
-- those whose link still has to be cancelled.
create index checkout_sessions_open on checkout_sessions (expires_at)
    where checkout_status in ('initiated', 'pending');
create index checkout_sessions_closing on checkout_sessions (updated_at) where link_state = 'closing';
