-- no-transaction
-- Subscriptions that are to end, soonest first, for the worker.
create index concurrently if not exists subscriptions_due_cancellations on subscriptions (cancel_at)
    where cancel_at is not null and cancelled_at is null;
