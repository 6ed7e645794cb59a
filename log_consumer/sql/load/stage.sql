-- What a connection needs before it loads: the words that the other files are written in, as temporary macros, and the
-- tables that a batch passes through. Made once; a batch empties the tables instead of making them, so that the
-- statements that read them can name them. What stored_unit() and stored_units() mean is said before (sql/privacy/).

-- A message's text as a struct; null when it is not JSON. The envelope's scalars stay JSON.
create or replace temp macro decode_message(text) as try(from_json(text, '{
    "format": "JSON", "isolate": "JSON", "seq": "JSON", "sent_at_ms": "JSON", "state_etag": "JSON",
    "worker_version": "JSON", "row_count": "JSON", "dropped_count": "JSON",
    "clients": [{"client": "VARCHAR", "client_credential": "VARCHAR"}],
    "origins": [{"client": "INTEGER", "source": "VARCHAR", "sdk": "VARCHAR", "sdk_version": "VARCHAR",
                 "country": "VARCHAR", "is_bot": "BOOLEAN"}],
    "units": ["VARCHAR"], "flags": ["VARCHAR"], "selectors": ["VARCHAR"], "reasons": ["VARCHAR"],
    "rules": {"flag": ["INTEGER"], "rule": ["VARCHAR"], "segment": ["VARCHAR"], "selector": ["INTEGER"]},
    "outcomes": {"flag": ["INTEGER"], "rule": ["INTEGER"], "reason": ["INTEGER"], "variant": ["VARCHAR"],
                 "assignment_id": ["VARCHAR"]},
    "resolves": {"id": ["VARCHAR"], "at_ms": ["BIGINT"], "origin": ["INTEGER"]},
    "exposures": {"resolve": ["INTEGER"], "outcome": ["INTEGER"], "unit": ["INTEGER"], "applied_at_ms": ["BIGINT"]},
    "fallthroughs": {"exposure": ["INTEGER"], "outcome": ["INTEGER"], "unit": ["INTEGER"]},
    "counts": {"client": ["INTEGER"], "outcome": ["INTEGER"], "count": ["BIGINT"]},
    "schemas": [{"client": "INTEGER", "schema": "JSON", "semantic_types": "JSON"}],
    "telemetry": {"resolve_count": "BIGINT", "error_count": "BIGINT",
                  "latency": {"sum_us": "BIGINT", "count": "BIGINT", "buckets": "JSON"}},
    "deployment": "JSON", "changes": "JSON", "allocations": "JSON"}'));

-- The same of upstream's WriteFlagLogsRequest. Lists that are seldom there stay JSON, so that one of a wrong shape is not
-- mistaken for none.
create or replace temp macro decode_upstream(text) as try(from_json(text, '{
    "flagAssigned": [{
        "resolveId": "VARCHAR", "clientInfo": {"client": "VARCHAR", "clientCredential": "VARCHAR"},
        "flags": [{
            "flag": "VARCHAR", "targetingKey": "VARCHAR", "targetingKeySelector": "VARCHAR", "rule": "VARCHAR",
            "assignmentId": "VARCHAR", "applyTime": "VARCHAR",
            "assignmentInfo": {"segment": "VARCHAR", "variant": "VARCHAR"},
            "defaultAssignment": {"reason": "VARCHAR"}, "fallthroughAssignments": "JSON"}]}],
    "flagResolveInfo": [{
        "flag": "VARCHAR", "variantResolveInfo": [{"variant": "VARCHAR", "count": "BIGINT"}],
        "ruleResolveInfo": "JSON"}],
    "clientResolveInfo": [{"client": "VARCHAR", "clientCredential": "VARCHAR", "schema": "JSON"}],
    "telemetryData": "JSON"}'));

-- JavaScript writes half a surrogate pair as \udxxx, which is no valid text and fails the whole message: one visitor's
-- odd targeting key would cost the rows of all others. Such halves become U+FFFD. The pattern eats escaped backslashes
-- and whole pairs first and marks each with a control character, which JSON text cannot hold; what carries the mark
-- alone was a half.
create or replace temp macro without_lone_surrogates(text) as replace(
    regexp_replace(
        regexp_replace(
            text,
            '(\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})|\\u[dD][89a-fA-F][0-9a-fA-F]{2}',
            '\1' || chr(1), 'g'),
        '(\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})' || chr(1), '\1', 'g'),
    chr(1), chr(65533));

-- A JSON value is absent, or a list whose every entry has what `path` names.
create or replace temp macro list_of_objects(value, path) as
    coalesce(json_type(value), 'NULL') = 'NULL'
    or (json_type(value) = 'ARRAY' and len(json_extract(value, path)) = json_array_length(value));

create or replace temp macro same_lengths(one, other, third) as one = other and one = third;

-- No entry of a column is null; true for an empty column.
create or replace temp macro without_nulls(entries) as list_count(entries) = len(entries);

-- Every index is a number from `low` to the end of the dictionary; true for an empty column.
create or replace temp macro indexes_within(indexes, low, dictionary) as
    without_nulls(indexes)
    and (len(indexes) = 0 or (list_min(indexes) >= low and list_max(indexes) < len(dictionary)));

-- Every time is a number of milliseconds in the years 1970 to 9999; true for an empty column.
create or replace temp macro times_within(times) as
    without_nulls(times) and (len(times) = 0 or (list_min(times) >= 0 and list_max(times) <= last_time_ms()));

-- Epoch milliseconds as a timestamp. `try`, because DuckDB may look at rows that were deleted already.
create or replace temp macro to_time(ms) as try(make_timestamp_ms(ms));

-- The last millisecond of the year 9999.
create or replace temp macro last_time_ms() as 253402300799999;

-- The greatest whole number that JavaScript counts to: a sum of some of them is still a number here.
create or replace temp macro last_count() as 9007199254740991;
create or replace temp macro is_count(value) as value between 0 and last_count();
-- least() and greatest() pass over nulls.
create or replace temp macro to_count(value) as least(greatest(coalesce(value, 0), 0), last_count())::bigint;

-- Buckets of latencies end here: e^640 microseconds, about the last that a double holds.
create or replace temp macro last_bucket() as 5000;

-- Latencies by bucket: absent, or an object whose keys are numbers of buckets.
create or replace temp macro buckets_sane(buckets) as
    coalesce(json_type(buckets), 'NULL') = 'NULL'
    or (
        json_type(buckets) = 'OBJECT'
        and len(list_filter(json_keys(buckets), lambda x: not coalesce(try_cast(x as integer) <= last_bucket(), false))) = 0
    );

-- A time of RFC 3339 in the microseconds of the tables; null for anything else, also for a time without end.
create or replace temp macro to_finite_time(text) as
    if(isfinite(try_cast(text as timestamp)), try_cast(text as timestamp), null);

-- A name in full: what stands behind a slash (47, which is quicker to see than '/') is whole, anything else continues
-- `prefix`.
create or replace temp macro full_name(name, prefix) as
    if(ascii(name) = 47, substring(name, 2), prefix || name);

-- The messages that the ledger took as new, from the JSON text that goes back to DuckDB: [["isolate", seq], …].
create or replace temp macro claimed(keys) as table
select key ->> 0 as isolate, (key ->> 1)::bigint as seq
from (select unnest(from_json(keys, '["JSON"]')) as key);

-- What the answers to pulls deliver; `answers` names a relation of (number, text). Fails when one is not JSON; one that
-- has no list of messages is a row of nulls, for no row at all would look like an empty queue. An answer holds 100
-- messages at the most.
create or replace temp macro pulled(answers) as table
select
    delivery,
    message.id as message_id,
    message.lease_id as lease_id,
    try_cast(message.attempts as integer) as attempts,
    try(make_timestamp_ms(message.timestamp_ms::bigint)) as queued_at,
    coalesce(message.metadata."CF-Content-Type", 'json') as content_type,
    message.body as body
from (
    select unnest(messages) as message, number * 1_000_000 + generate_subscripts(messages, 1) as delivery
    from (
        select
            number,
            coalesce(from_json(text, '{"result": {"messages": [{
                "id": "VARCHAR", "body": "VARCHAR", "timestamp_ms": "DOUBLE", "attempts": "DOUBLE",
                "lease_id": "VARCHAR", "metadata": {"CF-Content-Type": "VARCHAR"}}]}}').result.messages, [null])
                as messages
        from query_table(answers)
    )
);

-- One row per message, numbered by `delivery` in the order of the answers. `form` is the one it is decoded in; then a
-- column for every key of ours and one for all of upstream's, null where the message is of another form or not JSON.
create or replace temp table decoded as
select
    0::bigint as delivery, ''::varchar as message_id, ''::varchar as lease_id, 0::bigint as bytes,
    null::timestamp as queued_at, null::varchar as text, true as is_json, null::varchar as form,
    null::varchar as digest, decode_upstream('{}') as upstream,
    unnest(decode_message('{}'))
where false;

-- One narrow row per message of `decoded`: `reason` is null where it can be loaded.
create or replace temp table judged (
    delivery bigint, message_id varchar, lease_id varchar, bytes bigint, reason varchar, format varchar,
    isolate varchar, seq bigint, sent_at timestamp, state_etag varchar, worker_version varchar, row_count bigint, dropped_count bigint
);

-- In the JSON of a protobuf message a null is as good as nothing.
create or replace temp macro is_absent(text, path) as coalesce(json_type(text, path), 'NULL') = 'NULL';

-- Upstream says nothing of how many rows a message holds, so a list of a wrong shape, which from_json makes null, is told
-- from one that is not there by a second look, which most messages do not need.
create or replace temp macro upstream_whole(text, upstream) as
    if(upstream.flagAssigned is null, is_absent(text, '$.flagAssigned'), true)
    and if(upstream.flagResolveInfo is null, is_absent(text, '$.flagResolveInfo'), true)
    and if(upstream.clientResolveInfo is null, is_absent(text, '$.clientResolveInfo'), true)
    and if(
        len(list_filter(upstream.flagAssigned, lambda x: x.flags is null)) > 0,
        len(list_filter(upstream.flagAssigned, lambda x: x.flags is not null))
            = len(list_filter(json_extract(text, '$.flagAssigned[*].flags'), lambda x: json_type(x) != 'NULL')),
        true
    );

-- The key of a message that has none. Resolve ids make a text unique; where there are none, two messages may say the
-- same, and the queue's id tells them apart.
create or replace temp macro digest(text, upstream, message_id) as
    md5(if(coalesce(upstream.flagAssigned[1].resolveId, '') = '', text || message_id, text));

create or replace temp macro applied_at(applied, otherwise) as
    coalesce(to_finite_time(applied.applyTime), otherwise);

-- What the row tables take of our flag logs: the messages left in `decoded`, which are whole by then.
create or replace temp view loadable as
select
    * replace (
        isolate ->> '$' as isolate,
        try_cast(seq as bigint) as seq,
        state_etag ->> '$' as state_etag,
        worker_version ->> '$' as worker_version,
        stored_units(units) as units
    ),
    to_time(try_cast(sent_at_ms as bigint)) as sent_at
from decoded
where form = 'flag_log';

-- The same of upstream's. A client that is counted once a message is the one of all its counts.
create or replace temp view loadable_upstream as
select
    text,
    upstream.*,
    upstream.telemetryData ->> '$.sdk.version' as worker_version,
    queued_at as sent_at,
    digest as isolate,
    0 as seq
from decoded
where form = 'upstream';

-- The same of deployment records.
create or replace temp view loadable_records as
select
    delivery,
    isolate ->> '$' as record_id,
    to_time(try_cast(sent_at_ms as bigint)) as recorded_at,
    state_etag ->> '$' as state_etag,
    worker_version ->> '$' as worker_version,
    deployment,
    changes,
    allocations
from decoded
where form = 'record';

-- Rows of messages with what was decided for a flag, in words. `rows` names a relation: the columns of `loadable`, and
-- `o`, the row in `outcomes` from 1. The lists travel with a row by reference; to look an index up in them, level by
-- level, is cheaper than to expand a message's outcomes once, be it by lambdas or as a table to join.
create or replace temp macro with_outcome(rows) as table
select
    *,
    full_name(rules.rule[k], flag || '/rules/') as rule,
    full_name(rules.segment[k], 'segments/') as segment,
    selectors[rules.selector[k] + 1] as targeting_key_selector,
    reasons[outcomes.reason[o] + 1] as reason,
    full_name(outcomes.variant[o], flag || '/variants/') as variant,
    full_name(outcomes.assignment_id[o], flag || '/variants/') as assignment_id
from (
    select *, full_name(flags[outcomes.flag[o] + 1], 'flags/') as flag, outcomes.rule[o] + 1 as k
    from query_table(rows)
);

-- Rows of messages with their request. `rows` as above, with `r`, the row in `resolves` from 1. What exposures and
-- fall-throughs have in common stands in `request`, for unnest() to spread.
create or replace temp macro with_request(rows) as table
select
    *,
    {
        'resolve_id': resolves.id[r],
        'client': clients[origin.client + 1].client,
        'client_credential': clients[origin.client + 1].client_credential,
        'source': origin.source,
        'sdk': origin.sdk,
        'sdk_version': origin.sdk_version,
        'country': origin.country,
        'is_bot': origin.is_bot,
        'state_etag': state_etag,
        'worker_version': worker_version,
        'received_at': received_at,
        'isolate': isolate,
        'seq': seq
    } as request
from (
    select *, to_time(resolves.at_ms[r]) as received_at, origins[resolves.origin[r] + 1] as origin
    from query_table(rows)
);
