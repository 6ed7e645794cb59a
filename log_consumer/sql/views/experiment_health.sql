-- experiment_health: can this experiment be trusted? All checks of a rule in one row.
-- Grain: one row per rule that has an allocation, or units.
--   flag, rule
--   verdict                  ok, warning, alarm or unknown: the worst of its checks, unknown being better than a warning
--   score                    100, less 40 for each alarm and 10 for each warning; 0 at the least
--   reason                   what is wrong, in words; else that all is well, or what is not known
--   shares, crossovers, leaks, bots, late, delivery   status of each check, see checks
create or replace view experiment_health as
select
    flag,
    rule,
    case
        when bool_or(status = 'alarm') then 'alarm'
        when bool_or(status = 'warning') then 'warning'
        when bool_or(status = 'unknown') then 'unknown'
        else 'ok'
    end as verdict,
    greatest(0, 100 - 40 * count(*) filter (status = 'alarm') - 10 * count(*) filter (status = 'warning')) as score,
    coalesce(
        string_agg(reason, '; ' order by status, name) filter (status in ('alarm', 'warning')),
        string_agg(reason, '; ' order by name) filter (status = 'unknown'),
        'all is well'
    ) as reason,
    any_value(status) filter (name = 'shares') as shares,
    any_value(status) filter (name = 'crossovers') as crossovers,
    any_value(status) filter (name = 'leaks') as leaks,
    any_value(status) filter (name = 'bots') as bots,
    any_value(status) filter (name = 'late') as late,
    any_value(status) filter (name = 'delivery') as delivery
from checks
where rule is not null
group by flag, rule
order by score, flag, rule;
