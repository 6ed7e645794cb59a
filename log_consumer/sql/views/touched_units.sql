-- touched_units: what becomes of the units to whom something new happened since the last roll? What is known of them and
-- what landed, as one. unit_exposures adds everybody else; a roll writes what is_changed.
-- Grain: one row per unit, rule, assignment and allocation epoch, of units with a row that exposed_units lacks or has later.
--   is_known                 exposed_units has a row in its place
--   is_changed               which is another, or there is none
--   other columns            as in exposed_units
create or replace view touched_units as
with
landed as (
    select
        flag, rule, targeting_key, targeting_key_selector,
        if(variant is null, 'client_default', 'variant') as kind,
        variant, assignment_id, state_etag, client, sdk, sdk_version, country, source, is_bot, applied_at
    from exposures
    semi join open_roll using (roll)
    where rule is not null and targeting_key is not null
    union all by name
    select
        flag, rule, targeting_key, targeting_key_selector, 'fallthrough' as kind,
        null as variant, assignment_id, state_etag, client, sdk, sdk_version, country, source, is_bot, applied_at
    from fallthrough_exposures
    semi join open_roll using (roll)
    where targeting_key is not null
),
landed_firsts as (
    select
        rule,
        targeting_key,
        assignment_id,
        coalesce(first_state_etag, state_etag) as state_etag,
        min(applied_at) as first_applied_at,
        any_value(flag) as flag,
        any_value(targeting_key_selector) as targeting_key_selector,
        any_value(kind) as kind,
        any_value(variant) as variant,
        arg_min(
            {
                'client': client, 'sdk': sdk, 'sdk_version': sdk_version, 'country': country, 'source': source,
                'is_bot': is_bot
            },
            applied_at
        ) as origin
    from landed
    left join (select rule, state_etag, first_state_etag from allocation_epochs) using (rule, state_etag)
    group by rule, targeting_key, assignment_id, coalesce(first_state_etag, state_etag)
),
news as (
    select * exclude (origin), unnest(origin)
    from landed_firsts
    where not exists (
        from exposed_units as known
        where known.rule = landed_firsts.rule
            and known.targeting_key = landed_firsts.targeting_key
            and known.assignment_id is not distinct from landed_firsts.assignment_id
            and known.state_etag is not distinct from landed_firsts.state_etag
            and known.first_applied_at <= landed_firsts.first_applied_at
    )
),
known as (from exposed_units semi join news using (rule, targeting_key)),
-- What landed takes the place of a known row of the same kind, which is later.
replaced as (
    select known.rule, known.targeting_key, known.assignment_id, known.state_etag
    from known
    join news
        on known.rule = news.rule
        and known.targeting_key = news.targeting_key
        and known.assignment_id is not distinct from news.assignment_id
        and known.state_etag is not distinct from news.state_etag
),
firsts as (
    select
        *,
        exists (
            from replaced
            where replaced.rule = news.rule
                and replaced.targeting_key = news.targeting_key
                and replaced.assignment_id is not distinct from news.assignment_id
                and replaced.state_etag is not distinct from news.state_etag
        ) as is_known,
        null::boolean as was_first,
        null::boolean as was_crossover
    from news
    union all by name
    select * exclude (is_first, is_crossover), true as is_known, is_first as was_first, is_crossover as was_crossover
    from known
    where not exists (
        from replaced
        where replaced.rule = known.rule
            and replaced.targeting_key = known.targeting_key
            and replaced.assignment_id is not distinct from known.assignment_id
            and replaced.state_etag is not distinct from known.state_etag
    )
),
-- Most units have one row; only the others need sorting.
repeated as (select rule, targeting_key from firsts group by rule, targeting_key having count(*) > 1),
placed as (
    select *, true as is_first, false as is_crossover
    from firsts
    anti join repeated using (rule, targeting_key)
    union all by name
    select
        *,
        row_number() over (unit order by first_applied_at, assignment_id, state_etag) = 1 as is_first,
        min(coalesce(assignment_id, '')) over unit <> max(coalesce(assignment_id, '')) over unit as is_crossover
    from firsts
    semi join repeated using (rule, targeting_key)
    window unit as (partition by rule, targeting_key)
)
select
    * exclude (was_first, was_crossover),
    was_first is distinct from is_first or was_crossover is distinct from is_crossover as is_changed
from placed;
