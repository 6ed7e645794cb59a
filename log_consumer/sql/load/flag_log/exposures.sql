-- $landed_at, $roll. One row per applied flag, from the loadable messages.
insert into exposures by name
with
indexed as (
    select
        unnest(exposures.resolve) + 1 as r,
        unnest(exposures.outcome) + 1 as o,
        unnest(exposures.unit) + 1 as u,
        unnest(exposures.applied_at_ms) as applied_at_ms,
        *
    from loadable
),
decided as (from with_outcome('indexed'))
select
    coalesce(to_time(applied_at_ms), received_at) as applied_at,
    flag,
    rule,
    variant,
    segment,
    assignment_id,
    units[u] as targeting_key,
    targeting_key_selector,
    reason,
    variant is null as is_default,
    $landed_at as landed_at,
    $roll as roll,
    unnest(request)
from with_request('decided');
