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
