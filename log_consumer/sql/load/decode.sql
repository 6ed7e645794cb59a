-- $1: the raw text of a pull response. Makes the temporary table `delivered`: one row per message, decoded once, in
-- the order of the response; `delivery` is its 0-based number there.
-- Source: docs/log-format.md (the message), Cloudflare's queue API (the envelope and the coding of bodies).
--
-- `reason` is null where the message can be loaded, for every statement that follows relies on what is checked here.
-- `try` makes a malformed body a null of its own row. Lenient from_json makes a wrong shape null without a word, so
-- every key and every length is looked at; the envelope's scalars are decoded as JSON, so that "4" is not taken for 4.
create or replace temp table delivered as
with
pull as (
    select
        -- A result without messages would look like an empty queue; it becomes one row without an id.
        unnest(coalesce(envelope.result.messages, [null])) as message,
        generate_subscripts(coalesce(envelope.result.messages, [null]), 1) - 1 as delivery
    from (
        select from_json($1, '{"result": {"messages": [{
            "id": "VARCHAR", "body": "VARCHAR", "timestamp_ms": "DOUBLE", "attempts": "DOUBLE", "lease_id": "VARCHAR",
            "metadata": {"CF-Content-Type": "VARCHAR"}}]}}') as envelope
    )
),
received as (
    select
        delivery,
        message.id as message_id,
        message.lease_id as lease_id,
        try_cast(message.attempts as integer) as attempts,
        try(make_timestamp_ms(message.timestamp_ms::bigint)) as queued_at,
        coalesce(message.metadata."CF-Content-Type", 'json') as content_type,
        message.body as body
    from pull
),
plain as (
    select
        *,
        -- text comes plain; json and bytes come as base64, or (seen) as they are.
        case content_type when 'text' then body else coalesce(try(decode(from_base64(body))), body) end as plain
    from received
),
unpacked as (
    select
        * exclude (plain),
        -- A json body may be a JSON string that holds the JSON.
        case when plain[1] = '"' then try(from_json(plain, '"VARCHAR"')) else plain end as text
    from plain
),
decoded as (
    select *, coalesce(decode_message(text), decode_message(without_lone_surrogates(text))) as message
    from unpacked
),
parsed as (
    select
        *,
        message.resolves as resolves,
        message.exposures as exposures,
        message.fallthroughs as fallthroughs,
        message.counts as counts,
        try_cast(message.row_count as bigint) as row_count
    from decoded
),
checked as (
    select
        *,
        case
            when message is null then 'not a JSON object'
            when message.format is distinct from '"flagedge/1"' then 'unknown format'
            when json_type(message.isolate) is distinct from 'VARCHAR'
                or json_type(message.state_etag) is distinct from 'VARCHAR'
                or json_type(message.worker_version) is distinct from 'VARCHAR'
                or json_type(message.seq) is distinct from 'UBIGINT' or try_cast(message.seq as bigint) is null
                or json_type(message.sent_at_ms) is distinct from 'UBIGINT'
                or not coalesce(try_cast(message.sent_at_ms as bigint) <= last_time_ms(), false)
                or json_type(message.row_count) is distinct from 'UBIGINT' or row_count is null
                or json_type(message.dropped_count) is distinct from 'UBIGINT'
                or try_cast(message.dropped_count as bigint) is null
                then 'envelope key missing or of wrong type'
            when message.clients is null or message.origins is null or message.units is null
                or message.outcomes is null
                then 'dictionary missing or of wrong type'
            when len(list_filter(message.clients, lambda x: x.client is null or x.client_credential is null)) > 0
                or len(list_filter(message.outcomes, lambda x: x.flag is null or x.kind is null)) > 0
                or list_count(message.units) < len(message.units)
                then 'dictionary entry without its keys'
            when not same_lengths([
                    len(resolves.id), len(resolves.at_ms), len(resolves.origin),
                    list_count(resolves.id), list_count(resolves.at_ms), list_count(resolves.origin)])
                or not same_lengths([
                    len(exposures.resolve), len(exposures.outcome), len(exposures.unit),
                    list_count(exposures.resolve), list_count(exposures.outcome), list_count(exposures.unit)])
                or len(exposures.applied_at_ms) <> len(exposures.resolve)
                or list_count(exposures.applied_at_ms) <> len(exposures.resolve)
                or not same_lengths([
                    len(fallthroughs.exposure), len(fallthroughs.outcome), len(fallthroughs.unit),
                    list_count(fallthroughs.exposure), list_count(fallthroughs.outcome),
                    list_count(fallthroughs.unit)])
                or not same_lengths([
                    len(counts.client), len(counts.outcome), len(counts.count),
                    list_count(counts.client), list_count(counts.outcome), list_count(counts.count)])
                then 'column missing, of wrong type or of another length'
            when row_count <> len(resolves.id) + len(exposures.resolve) + len(fallthroughs.exposure)
                + len(counts.count)
                then 'row_count does not come out'
            when not indexes_within(list_transform(message.origins, lambda x: coalesce(x.client, -1)), 0, message.clients)
                or not indexes_within(resolves.origin, 0, message.origins)
                or not indexes_within(exposures.resolve, 0, resolves.id)
                or not indexes_within(exposures.outcome, 0, message.outcomes)
                or not indexes_within(exposures.unit, -1, message.units)
                or not indexes_within(fallthroughs.exposure, 0, exposures.resolve)
                or not indexes_within(fallthroughs.outcome, 0, message.outcomes)
                or not indexes_within(fallthroughs.unit, -1, message.units)
                or not indexes_within(counts.client, 0, message.clients)
                or not indexes_within(counts.outcome, 0, message.outcomes)
                or not indexes_within(list_transform(message.schemas, lambda x: coalesce(x.client, -1)), 0, message.clients)
                then 'index out of its dictionary'
            when list_min(resolves.at_ms) < 0 or list_max(resolves.at_ms) > last_time_ms()
                or list_min(exposures.applied_at_ms) < 0 or list_max(exposures.applied_at_ms) > last_time_ms()
                then 'time out of range'
        end as reason
    from parsed
)
select
    delivery, message_id, lease_id, attempts, queued_at, content_type, reason,
    if(reason is not null, body, null) as rejected_body,
    strlen(text) as bytes,
    message.isolate ->> '$' as isolate,
    try_cast(message.seq as bigint) as seq,
    if(reason is null, make_timestamp_ms(message.sent_at_ms::bigint), null) as sent_at,
    message.state_etag ->> '$' as state_etag,
    message.worker_version ->> '$' as worker_version,
    row_count,
    try_cast(message.dropped_count as bigint) as dropped_count,
    message.clients as clients, message.origins as origins, message.units as units, message.outcomes as outcomes,
    resolves, exposures, fallthroughs, counts,
    message.schemas as schemas, message.telemetry as telemetry
from checked;
