-- Ending a subscription, now or later; when an invoice is due; and the way from a draft to its session.

-- When it is to end. With cancelled_at it has: then that is the moment from which on it counts as ended.
alter table subscriptions add column cancel_at timestamptz;
-- Whether cancel_at is the end of the period rather than a date of the merchant's own.
alter table subscriptions add column cancel_at_period_end boolean not null default false;
alter table subscriptions add column cancelled_at timestamptz;
alter table subscriptions add column cancellation_reason text;
alter table subscriptions add constraint subscriptions_cancelled_at_set
    check ((subscription_status = 'cancelled') = (cancelled_at is not null));

-- Those that are to end, soonest first, for the worker.
create index subscriptions_due_cancellations on subscriptions (cancel_at)
    where cancel_at is not null and cancelled_at is null;

-- By when the merchant wants it paid; theirs alone, nothing here depends on it.
alter table invoices add column due_date timestamptz;

-- Which session a draft waits for.
create index checkout_sessions_by_subscription on checkout_sessions (environment_id, subscription_id);
