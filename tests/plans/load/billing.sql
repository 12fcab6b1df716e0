-- A million sessions with what they sell: most are over, 6,000 are open.

insert into subscriptions (environment_id, id, customer_id, plan_id, subscription_status, currency, billing_period,
    billing_period_count, billing_anchor, timezone, start_date, current_period_start, current_period_end,
    collection_method, metadata, version, activated_at, cancel_at, cancelled_at, status, created_at, updated_at)
select env, id, customer, plan,
    case when state <> 'completed' then 'draft' when n % 100 = 1 then 'cancelled' else 'active' end,
    'inr', 'MONTHLY', 1, made, 'UTC', made, made, made + interval '1 month', 'send_invoice', '{}', 1,
    case when state = 'completed' then made end,
    -- A hundredth was cancelled; as many are going to be, and some of these are due.
    case
        when state = 'completed' and n % 100 = 1 then made
        when state = 'completed' and n % 100 = 2 then present() + (n - 10000) * interval '1 second'
    end,
    case when state = 'completed' and n % 100 = 1 then made end,
    case when state = 'expired' then 'archived' else 'published' end,
    made, made
from numbers;

insert into subscription_line_items (environment_id, id, subscription_id, price_id, quantity, display_name,
    plan_display_name, start_date, created_at)
select env, id, id, plan, 1, 'Pro', 'Pro', made, made
from numbers;

insert into invoices (environment_id, id, customer_id, subscription_id, invoice_status, payment_status, currency,
    total_minor, amount_paid_minor, invoice_number, billing_reason, billing_period, period_start, period_end, metadata,
    version, finalized_at, paid_at, status, created_at, updated_at)
select env, id, customer, id,
    case when state = 'completed' then 'FINALIZED' else 'DRAFT' end,
    case when state = 'completed' then 'SUCCEEDED' else 'PENDING' end,
    'inr', 49900, case when state = 'completed' then 49900 else 0 end,
    case when state = 'completed' then 'INV-202611-' || n end,
    'SUBSCRIPTION_CREATE', 'MONTHLY', made, made + interval '1 month', '{}', 1,
    case when state = 'completed' then made end,
    case when state = 'completed' then made end,
    case when state = 'expired' then 'archived' else 'published' end,
    made, made
from numbers;

insert into invoice_line_items (environment_id, id, invoice_id, subscription_line_item_id, price_id, display_name,
    plan_display_name, quantity, amount_minor, period_start, period_end, created_at)
select env, id, id, id, plan, 'Pro', 'Pro', 1, 49900, made, made + interval '1 month', made
from numbers;

insert into payments (environment_id, id, invoice_id, amount_minor, currency, payment_status, payment_gateway,
    gateway_payment_id, gateway_tracking_id, payment_url, metadata, succeeded_at, status, created_at, updated_at)
select env, id, id, 49900, 'inr',
    case when state = 'completed' then 'SUCCEEDED' else 'INITIATED' end, 'razorpay',
    case when state = 'completed' then 'pay_' || n end,
    'plink_' || n, 'https://rzp.io/i/' || n, '{}',
    case when state = 'completed' then made end,
    case when state = 'expired' then 'archived' else 'published' end,
    made, made
from numbers;

insert into checkout_sessions (environment_id, id, customer_id, subscription_id, invoice_id, payment_id, connection_id,
    action, payment_provider, checkout_status, amount_minor, currency, idempotency_key, metadata, link_id, link_url,
    link_state, event_count, expires_at, completed_at, check_at, check_count, deleted_at, created_at, updated_at)
select env, id, customer, id, id, id, id(case when n % 16 > 0 then 5 else 1 + n / 16 % 4 end),
    'create_subscription', 'razorpay', state, 49900, 'inr', case when n % 4 = 0 then 'order_' || n end, '{}',
    case when state <> 'initiated' then 'plink_' || n end,
    case when state <> 'initiated' then 'https://rzp.io/i/' || n end,
    case
        when state = 'initiated' then 'none'
        when state = 'pending' then 'open'
        -- Links that are being cancelled.
        when n > 993000 and state = 'expired' then 'closing'
        else 'closed'
    end,
    case when state = 'initiated' then 1 else 2 end,
    -- 300 of those that are open are past their time.
    made + case when n between 994001 and 994300 then interval '1 hour' else interval '1 day' end,
    case when state = 'completed' then made end,
    -- A sixth of those that are open is due.
    case
        when n > 994000 and n % 6 = 0 then present() - n % 600 * interval '1 second'
        when n > 994000 then present() + n % 900 * interval '1 second'
        when n > 990000 then present() + n % 9000 * interval '1 second'
    end,
    0, case when n < 990000 and n % 50 = 0 then made end, made, made
from numbers;

insert into session_transitions (environment_id, session_id, sequence, from_status, to_status, cause, created_at)
select env, id, sequence, case sequence when 1 then 'initiated' else 'pending' end,
    case sequence when 1 then 'pending' else state end, 'webhook', made
from numbers, generate_series(1, 2) sequence
where state <> 'initiated' and (sequence = 1 or state <> 'pending');

insert into payment_attempts (environment_id, id, payment_id, attempt_number, gateway_payment_id, payment_status,
    created_at)
select env, id, id, 1, 'pay_' || n, 'SUCCEEDED', made
from numbers
where state = 'completed';

insert into provider_payments (environment_id, provider_payment_id, session_id, amount_minor, currency, fate, cause,
    inbox_id, created_at)
select env, 'pay_' || n, id, 49900, 'inr', 'applied', 'webhook', id, made
from numbers
where state = 'completed';

-- One of fifty was paid twice.
insert into provider_payments (environment_id, provider_payment_id, session_id, amount_minor, currency, fate, cause,
    inbox_id, created_at)
select env, 'pay_again_' || n, id, 49900, 'inr', 'refund', 'webhook', id, made
from numbers where n % 50 = 0;

insert into refunds (environment_id, id, provider_payment_id, session_id, connection_id, amount_minor, currency,
    refund_status, reason, gateway_refund_id, attempt_count, next_attempt_at, succeeded_at, created_at, updated_at)
select env, id, 'pay_again_' || n, id, id(case when n % 16 > 0 then 5 else 1 + n / 16 % 4 end), 49900, 'inr',
    case when n > 990000 then 'PENDING' when n % 2000 = 0 then 'FAILED' else 'SUCCEEDED' end,
    'duplicate_payment', 'rfnd_' || n, 1,
    present() + (n - 995000) * interval '1 second',
    case when n <= 990000 and n % 2000 > 0 then made end,
    made, made
from numbers where n % 50 = 0;
