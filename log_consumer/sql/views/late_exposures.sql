-- late_exposures: how long does it take until an exposure is in the tables, and whose do not come in time? An analysis that
-- ran before they landed has not seen them. Without rows that were loaded before landing was recorded.
-- Grain: one row per rule and day (UTC) of application; rule is null where none matched.
--   flag, rule, day
--   exposure_count           applied flags
--   late_count               of these, landed later than late_after of analysis_settings
--   mean_delay_s, max_delay_s   from application to landing
create or replace view late_exposures as
select
    flag,
    rule,
    date_trunc('day', applied_at)::timestamp as day,
    count(*) as exposure_count,
    count(*) filter (landed_at - applied_at > late_after) as late_count,
    avg(date_diff('millisecond', applied_at, landed_at)) / 1000 as mean_delay_s,
    max(date_diff('millisecond', applied_at, landed_at)) / 1000 as max_delay_s
from exposures
cross join (select late_after from analysis_settings)
where landed_at is not null
group by all
order by flag, rule, day;
