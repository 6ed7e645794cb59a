-- How often each variant was given and each rule was met, from upstream's messages: upstream counts the two apart, so
-- which rule gave which variant is not known. The client is known where a message is of one.
insert into resolve_counts by name
with
decisions as (
    select
        unnest(flagResolveInfo) as info,
        if(len(clientResolveInfo) = 1, clientResolveInfo[1], null) as counted,
        sent_at, isolate, seq
    from loadable_upstream
),
variants as (select unnest(info.variantResolveInfo) as given, * from decisions),
rules as (
    select
        unnest(from_json(info.ruleResolveInfo, '[{
            "rule": "VARCHAR",
            "assignmentResolveInfo": [{"assignmentId": "VARCHAR", "count": "BIGINT"}]}]')) as met,
        *
    from decisions
    where info.ruleResolveInfo is not null
),
assignments as (select unnest(met.assignmentResolveInfo) as assigned, * from rules),
counted_rows as (
    select
        if(coalesce(given.variant, '') = '', 'no_match', 'match') as kind,
        null as rule,
        nullif(given.variant, '') as variant,
        null as assignment_id,
        given.count as resolve_count,
        info.flag as flag, counted, sent_at, isolate, seq
    from variants
    union all by name
    select
        'rule' as kind,
        met.rule as rule,
        nullif(assigned.assignmentId, '') as assignment_id,
        to_count(assigned.count) as resolve_count,
        info.flag as flag, counted, sent_at, isolate, seq
    from assignments
)
select
    * exclude (counted),
    counted.client as client,
    counted.clientCredential as client_credential
from counted_rows;
