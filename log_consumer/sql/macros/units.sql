-- The views about units and shares, each as a macro of what it reads, which is named: so that `checks` works out once what
-- several of them read. What they say is described in the views of the same names.

create or replace macro epoch_shares_of(epochs) as table
with
recorded as (
    select *
    from allocations
    qualify record_id = first_value(record_id) over (partition by rule, state_etag order by allocated_at, record_id)
),
summed as (
    select rule, state_etag, kind, assignment_id, any_value(variant) as variant, sum(share) as share
    from recorded
    group by rule, state_etag, kind, assignment_id
)
select
    flag,
    epochs.rule,
    epoch_number,
    first_state_etag,
    began_at,
    is_comparable,
    kind,
    variant,
    assignment_id,
    share,
    if(kind = 'unassigned', null, share / nullif(visible_share, 0)) as expected_share
from query_table(epochs) as epochs
join summed on summed.rule = epochs.rule and summed.state_etag = epochs.first_state_etag
where epochs.state_etag = epochs.first_state_etag
order by flag, epochs.rule, epoch_number, kind, assignment_id;

create or replace macro unit_exposures_of(touched_ones) as table
-- Kept, or it would be worked out twice, and thought to be more than it is.
with touched as materialized (from query_table(touched_ones))
select * exclude (is_known, is_changed, stored_row)
from touched
where stored_row is null
union all by name
select *
from exposed_units
-- By the number of the row, which costs a fifth of comparing names.
where rowid not in (select stored_row from touched where stored_row is not null);

create or replace macro unit_counts_of(units, epochs, shares_of_epochs) as table
with
-- By a number for its four names, which is half the work.
counted as (
    select
        hash(rule, kind, assignment_id, state_etag) as label,
        date_trunc('hour', first_applied_at) as hour,
        coalesce(is_bot, false) as is_bot,
        coalesce(source = 'apply', false) as is_by_token,
        any_value(flag) as flag,
        any_value(rule) as rule,
        any_value(kind) as kind,
        any_value(variant) as variant,
        any_value(assignment_id) as assignment_id,
        any_value(state_etag) as state_etag,
        count(*) filter (is_first) as unit_count,
        count(*) filter (is_first and is_crossover) as crossover_count,
        count(*) filter (not is_first) as further_count
    from query_table(units)
    group by all
),
states as (select distinct state_etag, true as is_state from allocations)
select
    counted.flag,
    counted.rule,
    counted.kind,
    counted.variant,
    counted.assignment_id,
    counted.state_etag,
    epochs.epoch_number,
    counted.hour,
    counted.is_bot,
    counted.is_by_token,
    case
        when is_state is null then 'unknown_state'
        when shares.share is null then 'outside'
        when shares.share = 0 then 'zero_share'
        when counted.is_bot then 'bot'
        when not epochs.is_comparable then 'incomparable'
        else 'counted'
    end as standing,
    counted.unit_count,
    counted.crossover_count,
    counted.further_count
from counted
left join states using (state_etag)
left join query_table(epochs) as epochs using (rule, state_etag)
left join query_table(shares_of_epochs) as shares
    on shares.rule = counted.rule
    and shares.epoch_number = epochs.epoch_number
    and shares.kind = counted.kind
    and shares.assignment_id is not distinct from counted.assignment_id;

create or replace macro share_cells_of(counts, shares_of_epochs) as table
-- What ratio_tests_of reads, and more: each epoch's assignments that have a share in it, also those without units.
with
observed as (
    select rule, epoch_number, kind, assignment_id, sum(unit_count)::bigint as unit_count
    from query_table(counts)
    where standing = 'counted'
    group by all
)
select
    shares.flag,
    shares.rule,
    shares.epoch_number,
    shares.kind,
    shares.variant,
    shares.assignment_id,
    shares.expected_share,
    coalesce(observed.unit_count, 0)::bigint as unit_count,
    {'flag': shares.flag, 'rule': shares.rule} as subject,
    {'kind': shares.kind, 'assignment_id': shares.assignment_id} as assignment
from query_table(shares_of_epochs) as shares
left join observed
    on observed.rule = shares.rule
    and observed.epoch_number = shares.epoch_number
    and observed.kind = shares.kind
    and observed.assignment_id is not distinct from shares.assignment_id
where shares.kind <> 'unassigned' and shares.share > 0;

create or replace macro variant_shares_of(counts, shares_of_epochs) as table
with
cells as (
    select *, expected_share * sum(unit_count) over (partition by rule, epoch_number) as expected_count
    from share_cells_of(counts, shares_of_epochs)
),
expected as (
    select
        any_value(flag) as flag,
        rule,
        kind,
        assignment_id,
        any_value(variant) as variant,
        sum(unit_count)::bigint as unit_count,
        coalesce(sum(expected_count), 0) as expected_count
    from cells
    group by rule, kind, assignment_id
),
summed as (select *, sum(unit_count) over (partition by rule) as rule_count, unit_count / nullif(rule_count, 0) as p from expected)
select
    flag,
    rule,
    kind,
    variant,
    assignment_id,
    unit_count,
    expected_count,
    p as observed_share,
    expected_count / nullif(rule_count, 0) as expected_share,
    wilson_bound(p, rule_count, -1.959963984540054) as low_share,
    wilson_bound(p, rule_count, 1.959963984540054) as high_share,
    p - expected_count / nullif(rule_count, 0) as deviation
from summed
order by flag, rule, kind, assignment_id;

create or replace macro srm_of(counts, shares_of_epochs) as table
with
cells as (from share_cells_of(counts, shares_of_epochs)),
tested as (
    select subject.flag, subject.rule, tests.* exclude (subject, unit_count), unit_count as compared_count
    from ratio_tests_of('cells') as tests
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
    from query_table(counts)
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
        chi2,
        degrees_of_freedom,
        p_value,
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

create or replace macro srm_sequential_of(counts, shares_of_epochs) as table
with
observed as (
    select rule, epoch_number, kind, assignment_id, hour, sum(unit_count)::bigint as unit_count
    from query_table(counts)
    where standing = 'counted'
    group by all
),
shares as (
    select flag, rule, epoch_number, kind, assignment_id, expected_share
    from query_table(shares_of_epochs)
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

create or replace macro leaks_of(counts, shares_of_epochs) as table
with
given as (
    select rule, kind, assignment_id, min(epoch_number) as since
    from query_table(shares_of_epochs)
    where share > 0
    group by all
)
select
    any_value(counted.flag) as flag,
    counted.rule,
    counted.kind,
    any_value(counted.variant) as variant,
    counted.assignment_id,
    counted.epoch_number,
    counted.standing,
    sum(counted.unit_count + counted.further_count)::bigint as unit_count,
    coalesce(
        sum(if(counted.is_by_token, counted.unit_count + counted.further_count, counted.further_count)) filter (
            given.since < counted.epoch_number or counted.epoch_number is null and given.since is not null
        ),
        0
    )::bigint as carried_count,
    min(counted.hour) as first_hour,
    max(counted.hour) as last_hour
from query_table(counts) as counted
left join given
    on given.rule = counted.rule
    and given.kind = counted.kind
    and given.assignment_id is not distinct from counted.assignment_id
where counted.standing in ('zero_share', 'outside')
group by counted.rule, counted.kind, counted.assignment_id, counted.epoch_number, counted.standing
order by flag, counted.rule, counted.epoch_number, counted.assignment_id;

create or replace macro crossovers_of(units, epochs) as table
with
given_by_epoch as (
    select
        any_value(units.flag) as flag,
        units.rule,
        units.targeting_key,
        epochs.epoch_number,
        coalesce(units.assignment_id, '') as assignment_id,
        min(units.first_applied_at) as first_applied_at
    from query_table(units) as units
    left join query_table(epochs) as epochs using (rule, state_etag)
    where units.is_crossover
    group by units.rule, units.targeting_key, epochs.epoch_number, coalesce(units.assignment_id, '')
),
by_epoch as (
    select
        any_value(flag) as flag,
        rule,
        targeting_key,
        epoch_number,
        count(*) as assignment_count,
        list({'at': first_applied_at, 'assignment_id': assignment_id}) as given
    from given_by_epoch
    group by rule, targeting_key, epoch_number
),
by_unit as (
    select
        any_value(flag) as flag,
        rule,
        targeting_key,
        coalesce(max(assignment_count) filter (epoch_number is not null), 0) as most_in_epoch,
        count(*) filter (epoch_number is null) > 0 as is_unknown,
        list_sort(flatten(list(given))) as given
    from by_epoch
    group by rule, targeting_key
)
select
    flag,
    rule,
    targeting_key,
    list_transform(given, lambda each: each.assignment_id) as assignment_ids,
    given[1].at as first_applied_at,
    list_filter(given, lambda each: each.assignment_id <> given[1].assignment_id)[1].at as crossed_at,
    case
        when most_in_epoch > 1 then 'same_allocation'
        when is_unknown then 'unknown'
        else 'allocation_change'
    end as cause
from by_unit
order by flag, rule, crossed_at, targeting_key;
