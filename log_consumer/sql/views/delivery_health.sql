-- delivery_health: did every log message arrive? Each isolate numbers its messages from 0, so what is missing between
-- two that landed is known exactly; what an isolate sent after the last one that landed is not, but it is bounded: a
-- message is sent within 13 s of its closing or given up.
-- Grain: one row per hour (UTC) in which messages were sent; upstream's messages, which have no numbers, count as landed in
-- the hour in which they were queued.
--   hour
--   expected_count       landed and missing together
--   landed_count         messages that landed
--   duplicate_count      redeliveries of them that were ignored
--   missing_count        numbers left out before a message of this hour; closes when they land late
--   dropped_count        of those, messages that the Worker itself gave up sending, as it told
--   open_stream_count    isolates whose last message is of this hour
--   unconfirmed_count    what these may have lost after it: what an isolate closes in 13 s at the rate it had, and one more;
--                        200 at the most, which is what an isolate keeps while the queue refuses its messages
--   late_count           messages that landed more than an hour after they were sent
create or replace view delivery_health as
with numbered as (
    select
        *,
        seq - coalesce(lag(seq) over stream, -1) - 1 as missing_before,
        lead(seq) over stream is null as is_last,
        count(*) over (partition by isolate) as message_count,
        date_diff('second', first_value(sent_at) over stream, sent_at) as age_s
    from ledger
    where format = 'flagedge/1'
    window stream as (partition by isolate order by seq)
),
messages as (
    select
        sent_at, landed_at, duplicate_count, dropped_count, missing_before, is_last,
        if(is_last, least(200, 1 + 13 * (message_count - 1) // greatest(age_s, 1)), 0) as unconfirmed
    from numbered
    union all
    select sent_at, landed_at, duplicate_count, 0, 0, false, 0
    from ledger
    where format = 'upstream'
)
select
    date_trunc('hour', sent_at) as hour,
    (count(*) + sum(missing_before))::bigint as expected_count,
    count(*) as landed_count,
    sum(duplicate_count)::bigint as duplicate_count,
    sum(missing_before)::bigint as missing_count,
    sum(dropped_count)::bigint as dropped_count,
    count(*) filter (is_last) as open_stream_count,
    sum(unconfirmed)::bigint as unconfirmed_count,
    count(*) filter (landed_at - sent_at > interval 1 hour) as late_count
from messages
group by hour
order by hour;
