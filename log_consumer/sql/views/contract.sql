-- contract: which columns may be relied on? docs/analytics.md lists them; a change that takes one away, or what it means,
-- raises the version, one that adds some does not.
-- Grain: one row.
--   version                  of the columns of the views
create or replace view contract as
select 1 as version;
