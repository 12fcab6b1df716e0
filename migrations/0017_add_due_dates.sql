-- By when the merchant wants it paid; theirs alone, nothing here depends on it.
alter table invoices add column due_date timestamptz;
