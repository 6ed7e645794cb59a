-- $landed_at, $roll. One row per rule that an exposure passed through, from the loadable messages.
insert into fallthrough_exposures by name
with
indexed as (
    select
        unnest(fallthroughs.exposure) + 1 as e,
        exposures.resolve[e] + 1 as r,
        unnest(fallthroughs.outcome) + 1 as o,
        unnest(fallthroughs.unit) + 1 as u,
        generate_subscripts(fallthroughs.exposure, 1) as i,
        *
    from loadable
),
decided as (from with_outcome('indexed'))
select
    coalesce(to_time(exposures.applied_at_ms[e]), received_at) as applied_at,
    flag,
    rule,
    segment,
    assignment_id,
    units[u] as targeting_key,
    targeting_key_selector,
    -- How many before it passed the same exposure. A window would say the same and cost three times the statement.
    len(list_filter(fallthroughs.exposure[:i - 1], lambda x: x = e - 1)) as position,
    $landed_at as landed_at,
    $roll as roll,
    unnest(request)
from with_request('decided');
