-- forwarding: does Confidence get its data? `waiting` is the backlog, its lag how long the oldest waits; `parked` needs
-- somebody: look at the reason, then have it tried again.
-- Grain: one row per state, hour, destination and reason; an empty backlog is a row without an hour.
--   state               waiting (not delivered yet), parked (given up), delivered, or failed (an attempt; the message
--                       itself went on waiting, was parked or went to another destination)
--   hour                UTC; in which it landed (waiting, parked) or was tried (delivered, failed)
--   destination         edge or cloudflare; null where it does not matter
--   reason              of the last failure; null where there was none
--   message_count       messages; for failed, as often as they were tried
--   oldest_landed_at    UTC
--   mean_lag_s, max_lag_s   from landing to delivery; of what is not delivered, until now; null for failed
create or replace view forwarding as
with
told as (
    select
        if(error is null, 'delivered', 'failed') as state,
        date_trunc('hour', tried_at) as hour,
        destination,
        error as reason,
        message_count,
        oldest_landed_at,
        if(error is null, lag_ms, null) as lag_ms,
        if(error is null, date_diff('millisecond', oldest_landed_at, tried_at), null) as max_lag_ms
    from deliveries
    union all by name
    select
        if(parked_at is null, 'waiting', 'parked') as state,
        date_trunc('hour', landed_at) as hour,
        error as reason,
        1 as message_count,
        landed_at as oldest_landed_at,
        -- UTC whatever the session's time zone is.
        date_diff('millisecond', landed_at, make_timestamp(epoch_us(now()))) as lag_ms,
        lag_ms as max_lag_ms
    from outbox
    union all by name
    select 'waiting' as state, 0 as message_count
    where not exists (from outbox where parked_at is null)
)
select
    state,
    hour,
    destination,
    reason,
    sum(message_count)::bigint as message_count,
    min(oldest_landed_at) as oldest_landed_at,
    round(sum(lag_ms) / nullif(sum(message_count), 0) / 1000, 1) as mean_lag_s,
    round(max(max_lag_ms) / 1000, 1) as max_lag_s
from told
group by state, hour, destination, reason
order by state, hour, destination, reason;
