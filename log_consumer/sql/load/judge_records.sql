-- Fills `judged` from the deployment records in `decoded`.
insert into judged
with checked as (
    select
        *,
        json_type(isolate) = 'VARCHAR' and json_type(state_etag) = 'VARCHAR'
            and json_type(worker_version) = 'VARCHAR'
            and json_type(seq) = 'UBIGINT' and is_count(try_cast(seq as bigint))
            and json_type(sent_at_ms) = 'UBIGINT' and try_cast(sent_at_ms as bigint) <= last_time_ms()
            and json_type(row_count) = 'UBIGINT'
            as envelope_whole,
        list_of_objects(changes, '$[*].flag') and list_of_objects(allocations, '$[*].share')
            and coalesce(
                len(list_filter(json_extract(allocations, '$[*].share'), lambda x: try_cast(x as double) is null)), 0
            ) = 0
            and (deployment is null or json_type(deployment, '$.outcome') = 'VARCHAR')
            as rows_whole,
        try_cast(row_count as bigint)
            = if(deployment is null, 0, 1)
            + coalesce(json_array_length(changes), 0) + coalesce(json_array_length(allocations), 0)
            as rows_all_there
    from decoded
    where form = 'record'
),
reasoned as (
    select
        *,
        case
            when not coalesce(envelope_whole, false) then 'envelope key missing or of wrong type'
            when not coalesce(rows_whole, false) then 'deployment record with a key missing or of wrong type'
            when not coalesce(rows_all_there, false) then 'row_count does not come out'
        end as reason
    from checked
)
select
    delivery,
    message_id,
    lease_id,
    bytes,
    reason,
    format ->> '$' as format,
    isolate ->> '$' as isolate,
    try_cast(seq as bigint) as seq,
    if(reason is null, make_timestamp_ms(sent_at_ms::bigint), null) as sent_at,
    state_etag ->> '$' as state_etag,
    worker_version ->> '$' as worker_version,
    try_cast(row_count as bigint) as row_count,
    0 as dropped_count
from reasoned;
