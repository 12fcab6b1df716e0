-- no-transaction
-- Which session a draft waits for.
create index concurrently if not exists checkout_sessions_by_subscription
    on checkout_sessions (environment_id, subscription_id);
