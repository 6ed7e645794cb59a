-- delivery_health: did every log message arrive? Each isolate numbers its messages from 0, so what is missing between
-- two that landed is known exactly; what an isolate sent after the last one that landed is not.
-- Grain: one row per hour (UTC) in which messages were sent.
--   hour
--   expected_count       landed and missing together
--   landed_count         messages that landed
--   duplicate_count      redeliveries of them that were ignored
--   missing_count        numbers left out before a message of this hour; closes when they land late
--   dropped_count        of those, messages that the Worker itself gave up sending, as it told
--   open_stream_count    isolates whose last message is of this hour: what they sent after it is unconfirmed
--   late_count           messages that landed more than an hour after they were sent
create or replace view delivery_health as
with numbered as (
    select
        *,
        seq - coalesce(lag(seq) over stream, -1) - 1 as missing_before,
        lead(seq) over stream is null as is_last
    from ledger
    window stream as (partition by isolate order by seq)
)
select
    date_trunc('hour', sent_at) as hour,
    (count(*) + sum(missing_before))::bigint as expected_count,
    count(*) as landed_count,
    sum(duplicate_count)::bigint as duplicate_count,
    sum(missing_before)::bigint as missing_count,
    sum(dropped_count)::bigint as dropped_count,
    count(*) filter (is_last) as open_stream_count,
    count(*) filter (landed_at - sent_at > interval 1 hour) as late_count
from numbered
group by hour
order by hour;
