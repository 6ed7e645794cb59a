-- One row per message, client and outcome, from the loadable messages.
insert into resolve_counts by name
with
indexed as (
    select
        unnest(counts.client) + 1 as c,
        unnest(counts.outcome) + 1 as o,
        unnest(counts.count) as resolve_count,
        *
    from loadable
)
select
    sent_at,
    clients[c].client as client,
    clients[c].client_credential as client_credential,
    flag,
    case reason when 'MATCH' then 'match' when 'FALLTHROUGH' then 'fallthrough' else 'no_match' end as kind,
    nullif(reason, 'FALLTHROUGH') as reason,
    rule,
    variant,
    assignment_id,
    resolve_count,
    state_etag,
    isolate,
    seq
from with_outcome('indexed');
