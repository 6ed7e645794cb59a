-- What the view touched_units says. What it reads is named, so that `checks` works out the epochs once.
-- Names are long and few, so rows carry hashes of them until they are few themselves: to copy names costs most of a roll.

-- Tells an assignment of a state from others. Kinds may have one id, and several variants none.
create or replace macro assignment_label(rule, kind, variant, assignment_id, state_etag) as
    if(
        assignment_id <> '',
        hash(rule, kind, assignment_id, state_etag),
        hash(rule, kind, variant, assignment_id, state_etag)
    );

-- `open` says which exposures landed: those that agree with a row of it in all of its columns.
create or replace macro touched_units_of(open, epochs) as table
with
-- Rows that were entered before it was known which epoch their state is of. As if they had landed now, they find their place.
misplaced_rows as materialized (
    select exposed_units.rowid as stored_row
    from exposed_units
    semi join (
        select rule, state_etag from query_table(epochs) where state_etag <> first_state_etag
    ) as followers using (rule, state_etag)
),
misplaced as not materialized (from exposed_units where rowid in (from misplaced_rows)),
landed as not materialized (
    select
        *,
        assignment_label(rule, kind, variant, assignment_id, state_etag) as label,
        hash(client, sdk, sdk_version, country, source, is_bot) as origin
    from (
        select
            flag, rule, targeting_key, targeting_key_selector,
            if(variant is null, 'client_default', 'variant') as kind,
            variant, assignment_id, state_etag, client, sdk, sdk_version, country, source, is_bot, applied_at
        from exposures
        natural semi join query_table(open)
        where rule is not null and targeting_key is not null
        union all by name
        select
            flag, rule, targeting_key, targeting_key_selector, 'fallthrough' as kind,
            null as variant, assignment_id, state_etag, client, sdk, sdk_version, country, source, is_bot, applied_at
        from fallthrough_exposures
        natural semi join query_table(open)
        where targeting_key is not null
        union all by name
        select
            flag, rule, targeting_key, targeting_key_selector, kind,
            variant, assignment_id, state_etag, client, sdk, sdk_version, country, source, is_bot, first_applied_at as applied_at
        from misplaced
    )
),
origins as (
    select
        origin,
        any_value(client) as client,
        any_value(sdk) as sdk,
        any_value(sdk_version) as sdk_version,
        any_value(country) as country,
        any_value(source) as source,
        any_value(is_bot) as is_bot
    from landed
    group by origin
),
-- By state as it landed; an epoch stands for all of its states.
labels as (
    select
        named.* replace (coalesce(first_state_etag, state_etag) as state_etag),
        assignment_label(rule, kind, variant, assignment_id, coalesce(first_state_etag, state_etag)) as epoch_label,
        hash(rule) as rule_label
    from (
        select
            label,
            any_value(flag) as flag,
            any_value(rule) as rule,
            any_value(targeting_key_selector) as targeting_key_selector,
            any_value(kind) as kind,
            any_value(variant) as variant,
            any_value(assignment_id) as assignment_id,
            any_value(state_etag) as state_etag
        from landed
        group by label
    ) as named
    left join (select rule, state_etag, first_state_etag from query_table(epochs)) using (rule, state_etag)
),
epoch_labels as (select distinct on (epoch_label) * exclude (label, rule_label) from labels order by label),
landed_firsts as (
    select
        epoch_label,
        targeting_key,
        any_value(rule_label) as rule_label,
        min(applied_at) as first_applied_at,
        arg_min(origin, applied_at) as origin
    from landed
    join (select label, epoch_label, rule_label from labels) using (label)
    group by epoch_label, targeting_key
),
-- Semi joins, so that what landed is sorted and exposed_units only passes by: other joins sort all of it. By one number, so
-- that little is held; should two units share it, news still compares the keys. What is misplaced has no label of these.
met as (
    select epoch_label, targeting_key, first_applied_at
    from (
        select
            assignment_label(rule, kind, variant, assignment_id, state_etag) as epoch_label, targeting_key, first_applied_at
        from exposed_units
    )
    where hash(epoch_label, targeting_key) in (select hash(epoch_label, targeting_key) from landed_firsts)
),
news as (
    select landed_firsts.*
    from landed_firsts
    anti join met
        on met.epoch_label = landed_firsts.epoch_label
        and met.targeting_key = landed_firsts.targeting_key
        and met.first_applied_at <= landed_firsts.first_applied_at
),
misplaced_units as (select distinct hash(rule) as rule_label, targeting_key from misplaced),
changing as (
    select rule_label, targeting_key from news
    union all
    select rule_label, targeting_key from misplaced_units
),
known as (
    select
        exposed_units.*,
        exposed_units.rowid as stored_row,
        assignment_label(exposed_units.rule, kind, variant, assignment_id, state_etag) as epoch_label,
        hash(exposed_units.rule) as rule_label
    from exposed_units
    semi join changing
        on changing.rule_label = hash(exposed_units.rule) and changing.targeting_key = exposed_units.targeting_key
),
in_place as (from known anti join misplaced_rows using (stored_row)),
-- What landed takes the place of a known row of the same kind, which is later.
firsts as (
    select
        epoch_label, rule_label, news.targeting_key, news.first_applied_at, news.origin,
        replaced.targeting_key is not null as is_known,
        null::boolean as was_first,
        null::boolean as was_crossover,
        true as is_news
    from news
    left join (select epoch_label, targeting_key from in_place) as replaced using (epoch_label, targeting_key)
    union all by name
    select
        epoch_label, rule_label, targeting_key, first_applied_at, true as is_known, is_first as was_first,
        is_crossover as was_crossover, false as is_news
    from in_place
    anti join news using (epoch_label, targeting_key)
),
-- Most units have one row; only the others need sorting.
repeated as (select rule_label, targeting_key from firsts group by rule_label, targeting_key having count(*) > 1),
sorted as (
    select
        epoch_label,
        targeting_key,
        row_number() over (unit order by first_applied_at, assignment_id, state_etag, kind, variant) = 1 as is_first,
        min(coalesce(assignment_id, '')) over unit <> max(coalesce(assignment_id, '')) over unit as is_crossover
    from (
        select rule_label, epoch_label, targeting_key, first_applied_at, assignment_id, state_etag, kind, variant
        from news
        semi join repeated using (rule_label, targeting_key)
        join epoch_labels using (epoch_label)
        union all
        select rule_label, epoch_label, targeting_key, first_applied_at, assignment_id, state_etag, kind, variant
        from in_place
        semi join repeated using (rule_label, targeting_key)
        anti join news using (epoch_label, targeting_key)
    )
    window unit as (partition by rule_label, targeting_key)
),
placed as (
    select
        firsts.* replace (is_known or misplaced_units.targeting_key is not null as is_known),
        misplaced_units.targeting_key is not null as is_misplaced,
        coalesce(sorted.is_first, true) as is_first,
        coalesce(sorted.is_crossover, false) as is_crossover
    from firsts
    left join sorted using (epoch_label, targeting_key)
    left join misplaced_units using (rule_label, targeting_key)
)
select
    flag, rule, targeting_key, targeting_key_selector, kind, variant, assignment_id, first_applied_at, state_etag,
    client, sdk, sdk_version, country, source, is_bot, is_first, is_crossover, is_known,
    true as is_changed, null::bigint as stored_row
from placed
join epoch_labels using (epoch_label)
join origins using (origin)
where is_news
union all by name
select
    known.* exclude (epoch_label, rule_label, is_first, is_crossover, stored_row),
    placed.is_first,
    placed.is_crossover,
    true as is_known,
    is_misplaced or placed.was_first <> placed.is_first or placed.was_crossover <> placed.is_crossover as is_changed
from known
join placed using (epoch_label, targeting_key)
where not placed.is_news
union all by name
select known.* exclude (epoch_label, rule_label), true as is_known, false as is_changed
from known;
