-- What has to be written: rows that are not there, and all rows of units that have one which is there otherwise (is_stale).
create temp table rolled as
with judged as (
    select *, bool_or(is_changed and is_known) over (partition by rule, targeting_key) as is_stale
    from touched_units
    where stored_row is null
)
select * exclude (is_changed, is_known, stored_row)
from judged
where is_changed or is_stale;
