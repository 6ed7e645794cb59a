-- srm_by: where does a mismatch come from? The test of srm for each part of the units: a client, an SDK, a country, a source,
-- bots, an allocation epoch. Bots are left out but for their own part.
-- Grain: one row per rule, dimension and value.
--   flag, rule
--   dimension                client, sdk, country, source, bot or epoch
--   value                    null where it is not known
--   assignment_count, unit_count, chi2, degrees_of_freedom, p_value, max_deviation   as in srm, of these units
--   corrected_p_value        times the number of values of the dimension (Bonferroni)
--   verdict                  as in srm, by the corrected p-value
create or replace view srm_by as
with
counted as (
    select
        rule, kind, assignment_id, state_etag, client,
        concat_ws(' ', sdk, sdk_version) as sdk,
        country, source,
        coalesce(is_bot, false) as is_bot,
        count(*) as unit_count
    from unit_exposures
    where is_first
    group by all
),
compared as (
    select counted.*, epochs.epoch_number
    from counted
    join allocation_epochs as epochs using (rule, state_etag)
    join epoch_shares as shares
        on shares.rule = counted.rule
        and shares.epoch_number = epochs.epoch_number
        and shares.kind = counted.kind
        and shares.assignment_id is not distinct from counted.assignment_id
    where shares.share > 0 and epochs.is_comparable
),
spread as (
    select
        rule, kind, assignment_id, epoch_number, unit_count, is_bot,
        unnest([
            {'dimension': 'client', 'value': client},
            {'dimension': 'sdk', 'value': nullif(sdk, '')},
            {'dimension': 'country', 'value': nullif(country, '')},
            {'dimension': 'source', 'value': source},
            {'dimension': 'bot', 'value': if(is_bot, 'bot', 'no bot')},
            {'dimension': 'epoch', 'value': epoch_number::varchar}
        ], recursive := true)
    from compared
),
observed as (
    select rule, dimension, value, epoch_number, kind, assignment_id, sum(unit_count)::bigint as unit_count
    from spread
    where not is_bot or dimension = 'bot'
    group by all
),
cells as (
    select
        {
            'flag': shares.flag, 'rule': totals.rule, 'dimension': totals.dimension, 'value': totals.value
        } as subject,
        totals.epoch_number,
        {'kind': shares.kind, 'assignment_id': shares.assignment_id} as assignment,
        shares.expected_share,
        coalesce(observed.unit_count, 0) as unit_count
    from (select distinct rule, dimension, value, epoch_number from observed) as totals
    join epoch_shares as shares using (rule, epoch_number)
    left join observed
        on observed.rule = totals.rule
        and observed.dimension = totals.dimension
        and observed.value is not distinct from totals.value
        and observed.epoch_number = totals.epoch_number
        and observed.kind = shares.kind
        and observed.assignment_id is not distinct from shares.assignment_id
    where shares.kind <> 'unassigned' and shares.share > 0
),
tested as (
    select unnest(subject), tests.* exclude (subject)
    from ratio_tests_of('cells') as tests
    where degrees_of_freedom > 0
),
corrected as (
    select *, least(1.0, p_value * count(*) over (partition by rule, dimension)) as corrected_p_value
    from tested
)
select
    corrected.* exclude (min_expected),
    srm_verdict(
        assignment_count, unit_count, min_expected, corrected_p_value, max_deviation, srm_min_units, srm_min_expected,
        srm_min_deviation, srm_alpha, srm_warning_alpha
    ) as verdict
from corrected
cross join analysis_settings
order by flag, rule, dimension, value nulls last;
