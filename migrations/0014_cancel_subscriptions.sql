-- Ending a subscription, now or later.

-- When it is to end. With cancelled_at it has: then that is the moment from which on it counts as ended.
alter table subscriptions add column cancel_at timestamptz;
-- Whether cancel_at is the end of the period rather than a date of the merchant's own.
alter table subscriptions add column cancel_at_period_end boolean not null default false;
alter table subscriptions add column cancelled_at timestamptz;
alter table subscriptions add column cancellation_reason text;
-- The rows that are there are looked at by the next migration, which lets requests go on.
alter table subscriptions add constraint subscriptions_cancelled_at_set
    check ((subscription_status = 'cancelled') = (cancelled_at is not null)) not valid;
