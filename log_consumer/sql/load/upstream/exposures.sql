-- $landed_at, $roll. One row per applied flag, from upstream's messages.
insert into exposures by name
with
requests as (select unnest(flagAssigned) as request, sent_at, worker_version, isolate, seq from loadable_upstream),
flags as (select unnest(request.flags) as applied, * from requests)
select
    applied_at(applied, sent_at) as applied_at,
    applied.flag as flag,
    nullif(applied.rule, '') as rule,
    nullif(applied.assignmentInfo.variant, '') as variant,
    nullif(applied.assignmentInfo.segment, '') as segment,
    nullif(applied.assignmentId, '') as assignment_id,
    stored_unit(nullif(applied.targetingKey, '')) as targeting_key,
    applied.targetingKeySelector as targeting_key_selector,
    -- Upstream gives no reason for the client default, nor for a unit that was missing; only the first has a rule.
    case
        when applied.assignmentInfo is not null or rule is not null then 'MATCH'
        else coalesce(applied.defaultAssignment.reason, 'UNSPECIFIED')
    end as reason,
    variant is null as is_default,
    nullif(request.resolveId, '') as resolve_id,
    request.clientInfo.client as client,
    request.clientInfo.clientCredential as client_credential,
    worker_version,
    sent_at as received_at,
    isolate,
    seq,
    $landed_at as landed_at,
    $roll as roll
from flags;
