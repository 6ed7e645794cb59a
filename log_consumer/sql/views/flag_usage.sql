-- flag_usage: which flags does nobody use any more?
-- Grain: one row per flag that was resolved, applied or allocated.
--   flag
--   resolve_count, last_resolved_at   decisions, and the last (UTC)
--   exposure_count, last_applied_at   applied flags, and the last (UTC)
--   verdict                  used; never_resolved; not_resolved (for stale_days of analysis_settings); never_applied; not_applied
--                            (for as long, although it is resolved)
create or replace view flag_usage as
with
resolved as (
    select flag, sum(resolve_count) filter (kind in ('match', 'no_match'))::bigint as resolve_count, max(sent_at) as last_resolved_at
    from resolve_counts
    group by flag
),
applied as (
    select flag, count(*) as exposure_count, max(applied_at) as last_applied_at
    from exposures
    group by flag
),
known as (
    select flag from resolved
    union
    select flag from applied
    union
    select flag from allocations
)
select
    flag,
    coalesce(resolve_count, 0) as resolve_count,
    last_resolved_at,
    coalesce(exposure_count, 0) as exposure_count,
    last_applied_at,
    case
        when last_resolved_at is null and last_applied_at is null then 'never_resolved'
        when coalesce(last_resolved_at, last_applied_at) < as_of - to_days(stale_days) then 'not_resolved'
        when last_applied_at is null then 'never_applied'
        when last_applied_at < as_of - to_days(stale_days) then 'not_applied'
        else 'used'
    end as verdict
from known
left join resolved using (flag)
left join applied using (flag)
cross join (select as_of, stale_days from analysis_settings)
order by flag;
