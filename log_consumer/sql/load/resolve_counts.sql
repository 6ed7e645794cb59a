-- One row per message, client and outcome, from the loadable messages.
insert into resolve_counts
with
indexed as (
    select
        unnest(counts.client) + 1 as c,
        unnest(counts.outcome) + 1 as o,
        unnest(counts.count) as resolve_count,
        *
    from loadable
),
expanded as (
    select clients[c] as client, outcomes[o] as outcome, * from indexed
)
select
    sent_at,
    client.client,
    client.client_credential,
    outcome.flag,
    outcome.kind,
    outcome.reason,
    outcome.rule,
    outcome.variant,
    outcome.assignment_id,
    resolve_count,
    state_etag,
    isolate,
    seq
from expanded;
