-- Every experiment and its health; the worst first.
select
    health.flag,
    health.rule,
    health.verdict,
    health.score,
    health.reason,
    srm.unit_count,
    srm.assignment_count,
    looks.p_value,
    spans.first_at,
    spans.last_at
from experiment_health as health
left join srm using (rule)
left join (
    select rule, arg_max(p_value, hour) as p_value
    from srm_sequential
    group by rule
) as looks using (rule)
left join (
    select rule, min(starts_at) as first_at, max(starts_at) as last_at
    from exposures_over_time
    where grain = 'hour'
    group by rule
) as spans using (rule)
order by health.score, health.flag, health.rule;
