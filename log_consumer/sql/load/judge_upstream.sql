-- Fills `judged` from what `decoded` holds in upstream's form. What is not looked at here is shown to be there by
-- upstream_whole().
insert into judged
with
requests as (
    select delivery, unnest(upstream.flagAssigned) as request
    from decoded
    where form = 'upstream'
),
flags as (select delivery, unnest(request.flags) as applied from requests),
decisions as (
    select delivery, unnest(upstream.flagResolveInfo) as info
    from decoded
    where form = 'upstream'
),
seen as (
    select delivery, unnest(upstream.clientResolveInfo) as client
    from decoded
    where form = 'upstream'
),
odd as (
    select delivery
    from requests
    where request is null
    union all
    select delivery
    from flags
    where applied.flag is null
        or (applied.assignmentInfo is null) = (applied.defaultAssignment is null)
        or (applied.applyTime is not null and to_finite_time(applied.applyTime) is null)
        or not list_of_objects(applied.fallthroughAssignments, '$[*].rule')
    union all
    select delivery
    from decisions
    where info.flag is null
        or info.variantResolveInfo is null
        or len(list_filter(info.variantResolveInfo, lambda x: not coalesce(is_count(x.count), false))) > 0
        or not list_of_objects(info.ruleResolveInfo, '$[*].rule')
    union all
    select delivery
    from seen
    where client.clientCredential is null or not list_of_objects(client.schema, '$[*].schema')
)
select
    delivery,
    message_id,
    lease_id,
    bytes,
    if(delivery in (from odd), 'upstream flag log with a key missing or of wrong type', null) as reason,
    'upstream' as format,
    digest as isolate,
    0 as seq,
    queued_at as sent_at,
    null as state_etag,
    upstream.telemetryData ->> '$.sdk.version' as worker_version,
    null as row_count,
    0 as dropped_count
from decoded
where form = 'upstream';
