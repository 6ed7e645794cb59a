-- srm: do the assignments of a rule have as many units as they should (sample ratio mismatch)? Pearson's chi-square test on
-- units by their first exposure, not on exposures; expected counts by allocation epoch. Look at it once, at the end; to look
-- at it again and again, take srm_sequential.
-- Grain: one row per rule that has an allocation, or units.
--   flag, rule
--   assignment_count         assignments that are compared
--   unit_count               units that are
--   bot_count, unknown_state_count, leaked_count, incomparable_count   units left out, see unit_counts
--   crossover_count          units that were given several assignments; they are compared, by the first
--   chi2, degrees_of_freedom, p_value   null where there is nothing to compare
--   max_deviation            the largest difference of observed and expected share
--   verdict                  ok, warning, mismatch; or too_few, nothing_to_compare (one assignment), unknown (no allocation)
create or replace view srm as
with
tested as (
    select
        any_value(flag) as flag,
        rule,
        if(sum(unit_count) > 0, count(*) filter (expected_count > 0), count(*)) as assignment_count,
        sum(unit_count)::bigint as compared_count,
        sum((unit_count - expected_count) ** 2 / expected_count) filter (expected_count > 0) as chi2,
        min(expected_count) filter (expected_count > 0) as min_expected,
        max(abs(deviation)) as max_deviation
    from variant_shares
    group by rule
),
standing as (
    select
        any_value(flag) as flag,
        rule,
        coalesce(sum(unit_count) filter (standing = 'bot'), 0)::bigint as bot_count,
        coalesce(sum(unit_count) filter (standing = 'unknown_state'), 0)::bigint as unknown_state_count,
        coalesce(sum(unit_count) filter (standing in ('outside', 'zero_share')), 0)::bigint as leaked_count,
        coalesce(sum(unit_count) filter (standing = 'incomparable'), 0)::bigint as incomparable_count,
        coalesce(sum(crossover_count) filter (standing = 'counted'), 0)::bigint as crossover_count
    from unit_counts
    group by rule
),
joined as (
    select
        coalesce(tested.flag, standing.flag) as flag,
        rule,
        coalesce(assignment_count, 0) as assignment_count,
        coalesce(compared_count, 0) as unit_count,
        coalesce(bot_count, 0) as bot_count,
        coalesce(unknown_state_count, 0) as unknown_state_count,
        coalesce(leaked_count, 0) as leaked_count,
        coalesce(incomparable_count, 0) as incomparable_count,
        coalesce(crossover_count, 0) as crossover_count,
        if(assignment_count > 1 and compared_count > 0, chi2, null) as chi2,
        if(assignment_count > 1 and compared_count > 0, assignment_count - 1, null) as degrees_of_freedom,
        chi_square_p(
            if(assignment_count > 1 and compared_count > 0, chi2, null), coalesce(assignment_count, 1) - 1
        ) as p_value,
        max_deviation,
        min_expected
    from tested
    full join standing using (rule)
)
select
    joined.* exclude (min_expected),
    srm_verdict(
        assignment_count, unit_count, min_expected, p_value, max_deviation, srm_min_units, srm_min_expected,
        srm_min_deviation, srm_alpha, srm_warning_alpha
    ) as verdict
from joined
cross join analysis_settings
order by flag, rule;
