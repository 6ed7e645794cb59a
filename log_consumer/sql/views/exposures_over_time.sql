-- exposures_over_time: how fast does an experiment fill, and does it still run?
-- Grain: one row per rule, assignment and hour or day in which something was applied or units came first.
--   flag, rule, kind, assignment_id
--   grain                    hour, or day (which begins at day_begins of analysis_settings, at any minute)
--   starts_at                UTC; its beginning
--   exposure_count           applied flags
--   new_unit_count           units whose first exposure to the rule this was
--   cumulative_unit_count    all of them until the end of it
create or replace view exposures_over_time as
with
-- Hours and days are made of them, so that rows are counted once.
pieces as (
    select flag, rule, kind, assignment_id, piece, sum(exposure_count)::bigint as exposure_count, sum(unit_count)::bigint as unit_count
    from (
        select
            flag, rule, if(variant is null, 'client_default', 'variant') as kind, assignment_id,
            hour_piece(applied_at) as piece,
            count(*) as exposure_count, 0 as unit_count
        from exposures
        where rule is not null
        group by all
        union all
        select flag, rule, 'fallthrough', assignment_id, hour_piece(applied_at), count(*), 0
        from fallthrough_exposures
        group by all
        union all
        -- One of the two is left out before the query runs.
        select flag, rule, kind, assignment_id, hour, 0, unit_count
        from unit_counts
        where day_cut_us() = 0
        union all
        select flag, rule, kind, assignment_id, hour_piece(first_applied_at), 0, count(*) filter (is_first)
        from unit_exposures
        where day_cut_us() <> 0
        group by all
    )
    group by all
),
both_grains as (
    select *, 'hour' as grain, date_trunc('hour', piece) as starts_at
    from pieces
    union all
    select *, 'day', day_of(piece)
    from pieces
),
summed as (
    select
        flag, rule, kind, assignment_id, grain, starts_at,
        sum(exposure_count)::bigint as exposure_count,
        sum(unit_count)::bigint as new_unit_count
    from both_grains
    group by all
)
select
    *,
    sum(new_unit_count) over (
        partition by rule, kind, assignment_id, grain order by starts_at
    )::bigint as cumulative_unit_count
from summed
order by flag, rule, grain, starts_at, kind, assignment_id;
