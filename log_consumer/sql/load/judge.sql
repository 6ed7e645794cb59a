-- Fills `judged` from `decoded`, but for what judge_upstream.sql and judge_records.sql see to. `reason` says why a message cannot be loaded and is null where it can: every statement
-- that follows relies on what is checked here, for lenient from_json makes a wrong shape null without a word. The
-- envelope's scalars are still JSON, so that "4" is not taken for 4.
insert into judged
with
-- Messages with a fall-through that names no rule. Unnested, for zipping lists copies them.
ruleless as (
    select distinct delivery
    from (
        select
            delivery,
            unnest(outcomes.rule) as rule,
            reasons[unnest(outcomes.reason) + 1] as reason
        from decoded
        where form = 'flag_log'
    )
    where rule = -1 and reason = 'FALLTHROUGH'
),
-- Each check by itself, over all rows: inside a `case` they would be evaluated on slices, which copies the lists.
checked as (
    select
        *,
        json_type(isolate) = 'VARCHAR' and json_type(state_etag) = 'VARCHAR'
            and json_type(worker_version) = 'VARCHAR'
            and json_type(seq) = 'UBIGINT' and is_count(try_cast(seq as bigint))
            and json_type(sent_at_ms) = 'UBIGINT' and try_cast(sent_at_ms as bigint) <= last_time_ms()
            and json_type(row_count) = 'UBIGINT' and is_count(try_cast(row_count as bigint))
            and json_type(dropped_count) = 'UBIGINT' and is_count(try_cast(dropped_count as bigint))
            as envelope_whole,
        len(list_filter(clients, lambda x: x.client is null or x.client_credential is null)) = 0
            and without_nulls(units) and without_nulls(flags) and without_nulls(selectors)
            and without_nulls(rules.rule) and without_nulls(reasons)
            as dictionaries_whole,
        same_lengths(len(rules.flag), len(rules.rule), len(rules.segment)) and len(rules.flag) = len(rules.selector)
            and same_lengths(len(outcomes.flag), len(outcomes.rule), len(outcomes.reason))
            and same_lengths(len(outcomes.flag), len(outcomes.variant), len(outcomes.assignment_id))
            and same_lengths(len(resolves.id), len(resolves.at_ms), len(resolves.origin))
            and same_lengths(len(exposures.resolve), len(exposures.outcome), len(exposures.unit))
            and len(exposures.resolve) = coalesce(len(exposures.applied_at_ms), len(exposures.resolve))
            and same_lengths(len(fallthroughs.exposure), len(fallthroughs.outcome), len(fallthroughs.unit))
            and same_lengths(len(counts.client), len(counts.outcome), len(counts.count))
            as columns_even,
        try_cast(row_count as bigint)
            = len(resolves.id) + len(exposures.resolve) + len(fallthroughs.exposure) + len(counts.count)
            as rows_all_there,
        indexes_within(list_transform(origins, lambda x: x.client), 0, clients)
            and indexes_within(rules.flag, 0, flags)
            and indexes_within(rules.selector, 0, selectors)
            and indexes_within(outcomes.flag, 0, flags)
            and indexes_within(outcomes.rule, -1, rules.rule)
            and indexes_within(outcomes.reason, 0, reasons)
            and indexes_within(resolves.origin, 0, origins)
            and indexes_within(exposures.resolve, 0, resolves.id)
            and indexes_within(exposures.outcome, 0, outcomes.flag)
            and indexes_within(exposures.unit, -1, units)
            and indexes_within(fallthroughs.exposure, 0, exposures.resolve)
            and indexes_within(fallthroughs.outcome, 0, outcomes.flag)
            and indexes_within(fallthroughs.unit, -1, units)
            and indexes_within(counts.client, 0, clients)
            and indexes_within(counts.outcome, 0, outcomes.flag)
            and coalesce(indexes_within(list_transform(schemas, lambda x: coalesce(x.client, -1)), 0, clients), true)
            as indexes_in_range,
        delivery not in (from ruleless) as fallthroughs_ruled,
        without_nulls(resolves.id)
            and times_within(resolves.at_ms)
            and coalesce(times_within(exposures.applied_at_ms), true)
            and without_nulls(counts.count)
            and (len(counts.count) = 0 or (is_count(list_min(counts.count)) and is_count(list_max(counts.count))))
            and is_count(coalesce(telemetry.resolve_count, 0)) and is_count(coalesce(telemetry.error_count, 0))
            and buckets_sane(telemetry.latency.buckets)
            as values_sane
    from decoded
    where form is null or form = 'flag_log'
),
reasoned as (
    select
        *,
        case
            when not is_json then 'not JSON'
            when form is null then 'unknown format'
            when not coalesce(envelope_whole, false) then 'envelope key missing or of wrong type'
            when not coalesce(dictionaries_whole, false) then 'dictionary missing, or an entry without its keys'
            when not coalesce(columns_even, false) then 'column missing or of another length'
            when not coalesce(rows_all_there, false) then 'row_count does not come out'
            when not coalesce(indexes_in_range, false) then 'index out of its dictionary'
            when not fallthroughs_ruled then 'fall-through without a rule'
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
    format ->> '$' as format,
    isolate ->> '$' as isolate,
    try_cast(seq as bigint) as seq,
    if(reason is null, make_timestamp_ms(sent_at_ms::bigint), null) as sent_at,
    state_etag ->> '$' as state_etag,
    worker_version ->> '$' as worker_version,
    try_cast(row_count as bigint) as row_count,
    try_cast(dropped_count as bigint) as dropped_count
from reasoned;
