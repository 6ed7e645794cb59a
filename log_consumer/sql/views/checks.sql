-- checks: what is wrong, with which experiment? Every check of every rule, and those that concern all of them.
-- Grain: one row per check and rule; rule and flag are null for checks of everything.
--   name                     shares (srm_sequential decides, for checks are repeated; srm alone is a warning), crossovers, leaks,
--                            bots, late, delivery; of everything: delivery, duplicates, rejected
--   flag, rule
--   status                   ok, warning, alarm; or unknown: there is too little to tell
--   value                    what was measured: a p-value for shares, else a share or count
--   reason                   in words
create or replace view checks as
with
given as (from analysis_settings),
epochs as materialized (from allocation_epochs),
shares_of_epochs as materialized (from epoch_shares_of('epochs')),
touched as materialized (from touched_units_of('open_roll', 'epochs')),
-- Twice rather than kept whole: all units are many, and those with several assignments few.
counted as materialized (
    with units as (from unit_exposures_of('touched'))
    from unit_counts_of('units', 'epochs', 'shares_of_epochs')
),
crossing as (
    with units as (from unit_exposures_of('touched'))
    from units
    where is_crossover
),
last_looks as (
    select rule, arg_max(verdict, hour) as verdict, arg_max(p_value, hour) as p_value
    from srm_sequential_of('counted', 'shares_of_epochs')
    group by rule
),
tested as materialized (
    select
        tested_once.*,
        last_looks.verdict as sequential_verdict,
        last_looks.p_value as sequential_p_value,
        (unit_count + bot_count + unknown_state_count + leaked_count + incomparable_count)::bigint as whole,
        concat_ws(
            ', ',
            if(unknown_state_count > 0, format('{:,} of unknown states', unknown_state_count), null),
            if(bot_count > 0, format('{:,} bots', bot_count), null),
            if(leaked_count > 0, format('{:,} without a share', leaked_count), null),
            if(incomparable_count > 0, format('{:,} of epochs that cannot be compared', incomparable_count), null)
        ) as left_out
    from srm_of('counted', 'shares_of_epochs') as tested_once
    left join last_looks using (rule)
),
shares as (
    select
        'shares' as name, flag, rule,
        case
            when sequential_verdict = 'mismatch' then 'alarm'
            when verdict in ('mismatch', 'warning') then 'warning'
            when verdict in ('unknown', 'too_few') then 'unknown'
            else 'ok'
        end as status,
        coalesce(sequential_p_value, p_value) as value,
        case
            when sequential_verdict = 'mismatch' then
                format('units are not shared out as allocated: off by {:.2f} points of {:,} units', 100 * max_deviation, unit_count)
            when verdict in ('mismatch', 'warning') then
                format('units may not be shared out as allocated: p = {:.2g} in a single look at {:,} units', p_value, unit_count)
            when verdict = 'unknown' then 'no allocation of this rule is known'
            when verdict = 'too_few' then format('too few units to tell: {:,}', unit_count)
            when verdict = 'nothing_to_compare' then 'one assignment, so nothing to compare'
            else format('units are shared out as allocated ({:,})', unit_count)
        end || if(left_out <> '', format(' (left out: {})', left_out), '') as reason
    from tested
),
crossed as (
    select
        rule,
        count(*) filter (cause = 'same_allocation') as defect_count,
        count(*) filter (cause = 'allocation_change') as change_count,
        count(*) filter (cause = 'unknown') as unknown_count
    from crossovers_of('crossing', 'epochs')
    group by rule
),
crossover_rows as (
    select
        'crossovers' as name, flag, rule,
        case
            when defect_count < few and defect_count + unknown_count >= few then 'unknown'
            when defect_count < few then 'ok'
            when defect_count >= crossover_alarm * whole then 'alarm'
            else 'warning'
        end as status,
        defect_count / nullif(whole, 0) as value,
        format('{:,} of {:,} units were given several assignments by one allocation', defect_count, whole)
            || if(change_count > 0, format(', {:,} more after a change of it', change_count), '')
            || if(unknown_count > 0, format(', {:,} more by states that are unknown', unknown_count), '') as reason
    from (
        select
            flag, rule, whole, crossover_alarm,
            coalesce(defect_count, 0) as defect_count,
            coalesce(change_count, 0) as change_count,
            coalesce(unknown_count, 0) as unknown_count,
            greatest(crossover_min_units, least(crossover_warning, crossover_alarm) * whole) as few
        from tested
        left join crossed using (rule)
        cross join given
    )
),
leaked as (
    select rule, sum(unit_count - carried_count)::bigint as leak_count, sum(carried_count)::bigint as carried_count
    from leaks_of('counted', 'shares_of_epochs')
    group by rule
),
leak_rows as (
    select
        'leaks' as name, flag, rule,
        case
            when leak_count > 0 then 'alarm'
            when unknown_state_count > 0 and unknown_state_count = whole then 'unknown'
            else 'ok'
        end as status,
        coalesce(leak_count, 0)::double as value,
        format('{:,} units have an assignment that nobody should have', coalesce(leak_count, 0))
            || if(carried_count > 0, format(', {:,} more may have it from an earlier allocation', carried_count), '')
            || if(unknown_state_count > 0, format(', of {:,} it cannot be told: their states are unknown', unknown_state_count), '')
            as reason
    from tested
    left join leaked using (rule)
),
bot_rows as (
    select
        'bots' as name, flag, rule,
        if(bot_count >= bot_warning * (unit_count + bot_count) and bot_count > 0, 'warning', 'ok') as status,
        bot_count / nullif(unit_count + bot_count, 0) as value,
        format('{:,} of {:,} units are marked as bots', bot_count, (unit_count + bot_count)::bigint) as reason
    from tested
    cross join given
),
-- As late_exposures has it, but for the days; and when the rule was applied.
lateness as materialized (
    select
        rule,
        min(applied_at) as since,
        max(applied_at) as until,
        count(landed_at) as exposure_count,
        count(*) filter (epoch_us(landed_at) - epoch_us(applied_at) > (select epoch_us(late_after) from given)) as late_count
    from exposures
    where rule is not null
    group by rule
),
late_rows as (
    select
        'late' as name, flag, rule,
        case
            when coalesce(late_count, 0) = 0 then 'ok'
            when late_count >= late_alarm * exposure_count then 'alarm'
            when late_count >= late_warning * exposure_count then 'warning'
            else 'ok'
        end as status,
        coalesce(late_count, 0) / nullif(exposure_count, 0) as value,
        format('{:,} of {:,} exposures landed late', coalesce(late_count, 0), coalesce(exposure_count, 0)) as reason
    from tested
    left join lateness using (rule)
    cross join given
),
deliveries_by_hour as materialized (select hour, expected_count, missing_count, unconfirmed_count from delivery_health),
-- By all exposures: units come back long after the last new one. A message is sent after what it holds was applied.
spans as (
    select rule, date_trunc('hour', min(since)) as since, max(until) + interval 1 hour as until
    from (
        select rule, since, until
        from lateness
        union all
        select rule, min(applied_at), max(applied_at)
        from fallthrough_exposures
        group by rule
    )
    group by rule
),
delivered as (
    select
        tested.flag,
        tested.rule,
        coalesce(sum(expected_count), 0)::bigint as expected_count,
        coalesce(sum(missing_count), 0)::bigint as missing_count,
        coalesce(sum(unconfirmed_count), 0)::bigint as unconfirmed_count
    from tested
    left join spans using (rule)
    left join deliveries_by_hour on hour between since and until
    group by tested.flag, tested.rule
    union all
    select
        null, null, coalesce(sum(expected_count), 0)::bigint, coalesce(sum(missing_count), 0)::bigint,
        coalesce(sum(unconfirmed_count), 0)::bigint
    from deliveries_by_hour
),
delivery_rows as (
    select
        'delivery' as name, flag, rule,
        -- By what is known alone: every isolate ends, and of what it sent last none can be told from one that was idle.
        case
            when missing_count = 0 then 'ok'
            when missing_count >= missing_alarm * expected_count then 'alarm'
            else 'warning'
        end as status,
        missing_count / nullif(expected_count, 0) as value,
        format('{:,} of {:,} messages never arrived', missing_count, expected_count)
            || if(unconfirmed_count > 0, format(', and up to {:,} that isolates may have sent last', unconfirmed_count), '')
            as reason
    from delivered
    cross join given
),
duplicate_rows as (
    select
        'duplicates' as name, null as flag, null as rule,
        case
            when again = 0 then 'ok'
            when again >= duplicate_alarm * whole then 'alarm'
            when again >= duplicate_warning * whole then 'warning'
            else 'ok'
        end as status,
        again / nullif(whole, 0) as value,
        format('{:,} of {:,} deliveries were redeliveries, which are ignored', again, whole) as reason
    from (
        select coalesce(sum(duplicate_count), 0)::bigint as again, coalesce(sum(delivery_count), 0)::bigint as whole
        from duplicate_rate
    )
    cross join given
),
rejected_rows as (
    select
        'rejected' as name, null as flag, null as rule,
        if(count(*) > 0, 'alarm', 'ok') as status,
        count(*)::double as value,
        format('{:,} messages could not be loaded', count(*)) as reason
    from rejected_messages
)
select name, flag, rule, status, value, reason from shares
union all from crossover_rows
union all from leak_rows
union all from bot_rows
union all from late_rows
union all from delivery_rows
union all from duplicate_rows
union all from rejected_rows;
