-- A row that a session drafts is changed once or twice, and never where an index looks. With a little room on its page
-- the new version stays there, and the indexes are left alone. Rows that are there already stay as they are.
alter table payments set (fillfactor = 90);
