-- How many messages are left in `decoded`, and how many rows they hold by table, without opening a single row.
with held as (
    select
        len(exposures.outcome) as exposures,
        len(fallthroughs.outcome) as fallthroughs,
        len(counts.outcome) as counts,
        0 as deployments, 0 as changes, 0 as allocations
    from decoded
    where form = 'flag_log'
    union all
    select
        list_sum(list_transform(upstream.flagAssigned, lambda x: len(x.flags))),
        list_sum(
            list_transform(
                upstream.flagAssigned,
                lambda x: list_sum(list_transform(x.flags, lambda f: json_array_length(f.fallthroughAssignments)))
            )
        ),
        list_sum(
            list_transform(
                upstream.flagResolveInfo,
                lambda x: len(x.variantResolveInfo)
                    + coalesce(len(json_extract(x.ruleResolveInfo, '$[*].assignmentResolveInfo[*]')), 0)
            )
        ),
        0, 0, 0
    from decoded
    where form = 'upstream'
    union all
    select 0, 0, 0, if(deployment is null, 0, 1), json_array_length(changes), json_array_length(allocations)
    from decoded
    where form = 'record'
)
select
    count(*),
    coalesce(sum(exposures), 0)::bigint,
    coalesce(sum(fallthroughs), 0)::bigint,
    coalesce(sum(counts), 0)::bigint,
    coalesce(sum(deployments), 0)::bigint,
    coalesce(sum(changes), 0)::bigint,
    coalesce(sum(allocations), 0)::bigint
from held;
