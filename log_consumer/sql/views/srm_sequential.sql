-- srm_sequential: the same question as srm, for those who look every hour. The p-value is anytime-valid: over a whole
-- experiment without a defect, the chance that it is ever below alpha is at most alpha, however often somebody looks. For that
-- it is slower: it takes some 1.3 to 2 times as many units as a single look. Multinomial test with a Dirichlet mixture (Lindon
-- and Malek, arXiv 2011.03567), a factor for each allocation epoch.
-- Grain: one row per rule and hour (UTC) in which units came first.
--   flag, rule, hour
--   unit_count               units so far that are compared, as in srm
--   max_deviation            the largest difference of observed and expected share so far
--   log_e                    logarithm of how much likelier some other shares are than the expected ones
--   p_value                  the smallest so far
--   verdict                  as in srm, without warnings: ok, mismatch, too_few
create or replace view srm_sequential as
with
observed as (
    select rule, epoch_number, kind, assignment_id, hour, sum(unit_count)::bigint as unit_count
    from unit_counts
    where standing = 'counted'
    group by all
),
shares as (
    select flag, rule, epoch_number, kind, assignment_id, expected_share
    from epoch_shares
    semi join observed using (rule, epoch_number)
    where kind <> 'unassigned' and share > 0
),
grid as (
    select
        shares.*,
        hours.hour,
        sum(coalesce(observed.unit_count, 0)) over (
            partition by shares.rule, shares.epoch_number, shares.kind, shares.assignment_id
            order by hours.hour
        )::bigint as unit_count
    from shares
    join (select distinct rule, hour from observed) as hours using (rule)
    left join observed
        on observed.rule = shares.rule
        and observed.epoch_number = shares.epoch_number
        and observed.kind = shares.kind
        and observed.assignment_id is not distinct from shares.assignment_id
        and observed.hour = hours.hour
),
expected as (
    select *, expected_share * sum(unit_count) over (partition by rule, epoch_number, hour) as expected_count
    from grid
),
deviations as (
    select rule, hour, max(abs(deviation)) as max_deviation, sum(unit_count)::bigint as unit_count
    from (
        select
            rule, hour, sum(unit_count) as unit_count,
            (sum(unit_count) - sum(expected_count)) / sum(sum(unit_count)) over (partition by rule, hour) as deviation
        from expected
        group by rule, hour, kind, assignment_id
    )
    group by rule, hour
),
epochs as (
    select
        any_value(flag) as flag,
        rule,
        hour,
        if(
            count(*) > 1,
            multinomial_log_e(
                list(unit_count order by kind, assignment_id), list(expected_share order by kind, assignment_id),
                any_value(srm_concentration)
            ),
            0.0
        ) as log_e,
        count(*) as assignment_count,
        max(srm_alpha) as srm_alpha,
        max(srm_min_units) as srm_min_units,
        max(srm_min_deviation) as srm_min_deviation
    from expected
    cross join analysis_settings
    group by rule, epoch_number, hour
),
looks as (
    select
        any_value(flag) as flag,
        rule,
        hour,
        sum(log_e) as log_e,
        max(assignment_count) as assignment_count,
        any_value(srm_alpha) as srm_alpha,
        any_value(srm_min_units) as srm_min_units,
        any_value(srm_min_deviation) as srm_min_deviation
    from epochs
    group by rule, hour
)
select
    flag,
    rule,
    hour,
    unit_count,
    max_deviation,
    log_e,
    least(1.0, exp(-max(log_e) over (partition by rule order by hour))) as p_value,
    case
        when unit_count < srm_min_units then 'too_few'
        when p_value < srm_alpha and max_deviation >= srm_min_deviation then 'mismatch'
        else 'ok'
    end as verdict
from looks
join deviations using (rule, hour)
where assignment_count > 1
order by flag, rule, hour;
