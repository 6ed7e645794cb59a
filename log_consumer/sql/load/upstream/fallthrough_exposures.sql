-- $landed_at, $roll. One row per rule that an exposure passed through, from upstream's messages.
insert into fallthrough_exposures by name
with
requests as (select unnest(flagAssigned) as request, sent_at, worker_version, isolate, seq from loadable_upstream),
flags as (select unnest(request.flags) as applied, * from requests),
passages as (
    select
        unnest(passed) as passage,
        generate_subscripts(passed, 1) - 1 as position,
        *
    from (
        select
            from_json(applied.fallthroughAssignments, '[{
                "rule": "VARCHAR", "assignmentId": "VARCHAR", "targetingKey": "VARCHAR",
                "targetingKeySelector": "VARCHAR"}]') as passed,
            *
        from flags
        where applied.fallthroughAssignments is not null
    )
)
select
    applied_at(applied, sent_at) as applied_at,
    applied.flag as flag,
    passage.rule as rule,
    nullif(passage.assignmentId, '') as assignment_id,
    stored_unit(nullif(passage.targetingKey, '')) as targeting_key,
    passage.targetingKeySelector as targeting_key_selector,
    position,
    nullif(request.resolveId, '') as resolve_id,
    request.clientInfo.client as client,
    request.clientInfo.clientCredential as client_credential,
    worker_version,
    sent_at as received_at,
    isolate,
    seq,
    $landed_at as landed_at,
    $roll as roll
from passages;
