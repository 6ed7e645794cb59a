-- One row per rule that an exposure passed through, from the loadable messages.
insert into fallthrough_exposures
with
indexed as (
    select
        unnest(fallthroughs.exposure) + 1 as e,
        unnest(fallthroughs.outcome) + 1 as o,
        unnest(fallthroughs.unit) + 1 as u,
        generate_subscripts(fallthroughs.exposure, 1) as i,
        *
    from loadable
),
expanded as (
    select
        exposures.resolve[e] + 1 as r,
        outcomes[o] as outcome,
        origins[resolves.origin[r] + 1] as origin,
        to_time(resolves.at_ms[exposures.resolve[e] + 1]) as received_at,
        *
    from indexed
)
select
    coalesce(to_time(exposures.applied_at_ms[e]), received_at) as applied_at,
    outcome.flag,
    outcome.rule,
    outcome.segment,
    outcome.assignment_id,
    units[u] as targeting_key,
    outcome.targeting_key_selector,
    -- How many before it passed the same exposure. A window would say the same and cost three times the statement.
    len(list_filter(fallthroughs.exposure[:i - 1], lambda x: x = e - 1)),
    resolves.id[r] as resolve_id,
    clients[origin.client + 1].client,
    clients[origin.client + 1].client_credential,
    origin.source,
    origin.sdk,
    origin.sdk_version,
    origin.country,
    origin.is_bot,
    state_etag,
    worker_version,
    received_at,
    isolate,
    seq
from expanded;
