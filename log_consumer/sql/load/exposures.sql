-- One row per applied flag, from the loadable messages. The lists travel with the unnested row by reference:
-- looking an index up in them is 2.5 times faster than joining unnested dictionaries.
insert into exposures
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
expanded as (
    select
        outcomes[o] as outcome,
        units[u] as targeting_key,
        resolves.id[r] as resolve_id,
        to_time(resolves.at_ms[r]) as received_at,
        origins[resolves.origin[r] + 1] as origin,
        *
    from indexed
)
select
    coalesce(to_time(applied_at_ms), received_at),
    outcome.flag,
    outcome.rule,
    outcome.variant,
    outcome.segment,
    outcome.assignment_id,
    targeting_key,
    outcome.targeting_key_selector,
    outcome.reason,
    outcome.variant is null,
    resolve_id,
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
