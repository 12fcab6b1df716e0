-- For the same reason as in payments (0020).
alter table subscriptions set (fillfactor = 90);
