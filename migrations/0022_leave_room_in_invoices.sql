-- For the same reason as in payments (0020). An invoice that gets its number is indexed anew all the same.
alter table invoices set (fillfactor = 90);
