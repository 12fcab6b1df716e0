-- What metrics count all the time, however many refunds there are: those that only a person can settle.

create index refunds_failed on refunds (created_at) where refund_status = 'FAILED';
