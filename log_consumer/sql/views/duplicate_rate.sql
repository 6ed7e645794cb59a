-- duplicate_rate: how often does the queue deliver a message again? Such messages are ignored and cost only time; many of them
-- say that consumers die between loading and acking, or that VISIBILITY_TIMEOUT_MS is too short.
-- Grain: one row per hour (UTC) in which messages were sent.
--   hour
--   delivery_count           deliveries of messages that landed
--   duplicate_count          of these, redeliveries
--   duplicate_rate           their part, 0 to 1
create or replace view duplicate_rate as
select
    date_trunc('hour', sent_at) as hour,
    (count(*) + sum(duplicate_count))::bigint as delivery_count,
    sum(duplicate_count)::bigint as duplicate_count,
    sum(duplicate_count) / (count(*) + sum(duplicate_count)) as duplicate_rate
from ledger
group by hour
order by hour;
