-- A tenant may have several environments of a mode, so they need names.
-- From here on a migration changes one table: one that holds a table and waits for the next meets requests that took
-- them the other way round.

-- Null = the first one of its mode, called Test or Live.
alter table environments add column name text;
-- Null = never.
alter table environments add column updated_at timestamptz;

alter table environments drop constraint environments_one_per_mode;

-- A tenant's environments, as they are listed.
create index environments_of_tenant on environments (tenant_id, created_at, id);

-- The bounds of CHECKOUTD_SESSION_TTL_SECONDS. The column could be set by SQL only, and nothing checked it.
update environments set session_ttl_seconds = greatest(1, least(86400, session_ttl_seconds))
where session_ttl_seconds not between 1 and 86400;

alter table environments add constraint environments_session_ttl_in_bounds
    check (session_ttl_seconds between 1 and 86400);
