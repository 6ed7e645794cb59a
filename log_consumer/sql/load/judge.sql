-- Fills `judged` from `decoded`. `reason` says why a message cannot be
-- loaded and is null where it can: every statement that follows relies on what is checked here, for lenient from_json
-- makes a wrong shape null without a word. The envelope's scalars are still JSON, so that "4" is not taken for 4.
insert into judged
with
opened as (
    select
        *,
        message.resolves as resolves,
        message.exposures as exposures,
        message.fallthroughs as fallthroughs,
        message.counts as counts,
        list_transform(message.origins, lambda x: x.client) as origin_clients,
        list_transform(message.schemas, lambda x: coalesce(x.client, -1)) as schema_clients,
        try_cast(message.row_count as bigint) as row_count
    from decoded
),
-- Each check by itself, over all rows: inside a `case` they would be evaluated on slices, which copies the lists.
checked as (
    select
        *,
        message.format is not distinct from '"flagedge/1"' as format_known,
        json_type(message.isolate) = 'VARCHAR' and json_type(message.state_etag) = 'VARCHAR'
            and json_type(message.worker_version) = 'VARCHAR'
            and json_type(message.seq) = 'UBIGINT' and try_cast(message.seq as bigint) is not null
            and json_type(message.sent_at_ms) = 'UBIGINT' and try_cast(message.sent_at_ms as bigint) <= last_time_ms()
            and json_type(message.row_count) = 'UBIGINT' and row_count is not null
            and json_type(message.dropped_count) = 'UBIGINT' and try_cast(message.dropped_count as bigint) is not null
            as envelope_whole,
        len(list_filter(message.clients, lambda x: x.client is null or x.client_credential is null)) = 0
            and len(list_filter(message.outcomes, lambda x: x.flag is null or x.kind is null)) = 0
            and list_count(message.units) = len(message.units)
            as dictionaries_whole,
        same_lengths(len(resolves.id), len(resolves.at_ms), len(resolves.origin))
            and same_lengths(len(exposures.resolve), len(exposures.outcome), len(exposures.unit))
            and len(exposures.resolve) = coalesce(len(exposures.applied_at_ms), len(exposures.resolve))
            and same_lengths(len(fallthroughs.exposure), len(fallthroughs.outcome), len(fallthroughs.unit))
            and same_lengths(len(counts.client), len(counts.outcome), len(counts.count))
            as columns_even,
        row_count = len(resolves.id) + len(exposures.resolve) + len(fallthroughs.exposure) + len(counts.count)
            as rows_all_there,
        indexes_within(origin_clients, 0, message.clients)
            and indexes_within(resolves.origin, 0, message.origins)
            and indexes_within(exposures.resolve, 0, resolves.id)
            and indexes_within(exposures.outcome, 0, message.outcomes)
            and indexes_within(exposures.unit, -1, message.units)
            and indexes_within(fallthroughs.exposure, 0, exposures.resolve)
            and indexes_within(fallthroughs.outcome, 0, message.outcomes)
            and indexes_within(fallthroughs.unit, -1, message.units)
            and indexes_within(counts.client, 0, message.clients)
            and indexes_within(counts.outcome, 0, message.outcomes)
            and coalesce(indexes_within(schema_clients, 0, message.clients), true)
            as indexes_in_range,
        list_count(resolves.id) = len(resolves.id)
            and times_within(resolves.at_ms)
            and coalesce(times_within(exposures.applied_at_ms), true)
            and list_count(counts.count) = len(counts.count)
            as values_sane
    from opened
),
reasoned as (
    select
        *,
        case
            when message is null then 'not JSON'
            when not format_known then 'unknown format'
            when not coalesce(envelope_whole, false) then 'envelope key missing or of wrong type'
            when not coalesce(dictionaries_whole, false) then 'dictionary missing, or an entry without its keys'
            when not coalesce(columns_even, false) then 'column missing or of another length'
            when not coalesce(rows_all_there, false) then 'row_count does not come out'
            when not coalesce(indexes_in_range, false) then 'index out of its dictionary'
            when not coalesce(values_sane, false) then 'value of wrong type or out of range'
        end as reason
    from checked
)
select
    delivery,
    message_id,
    lease_id,
    bytes,
    reason,
    message.isolate ->> '$' as isolate,
    try_cast(message.seq as bigint) as seq,
    if(reason is null, make_timestamp_ms(message.sent_at_ms::bigint), null) as sent_at,
    message.state_etag ->> '$' as state_etag,
    message.worker_version ->> '$' as worker_version,
    row_count,
    try_cast(message.dropped_count as bigint) as dropped_count
from reasoned;
