-- resolve_latency: how long does the Worker take to decide, and how often does it fail? As it measures itself: Workers' clocks
-- stand still while they compute, so this is mostly what they waited for.
-- Grain: one row per hour (UTC) and version of the Worker.
--   hour, worker_version
--   resolve_count, error_count   requests
--   mean_us                  microseconds
--   p50_us, p90_us, p99_us   at most so long took this part of the requests; upper edges of buckets, which are 14 % wide
create or replace view resolve_latency as
with
hours as (
    select
        date_trunc('hour', sent_at) as hour,
        worker_version,
        sum(resolve_count)::bigint as resolve_count,
        sum(error_count)::bigint as error_count,
        sum(latency_sum_us) / nullif(sum(latency_count), 0) as mean_us
    from telemetry
    group by all
),
entries as (
    select
        date_trunc('hour', sent_at) as hour,
        worker_version,
        unnest(map_entries(from_json(latency_buckets, '"MAP(VARCHAR, BIGINT)"'))) as entry
    from telemetry
),
cumulated as (
    select
        hour,
        worker_version,
        entry.key::integer as bucket,
        sum(sum(entry.value)) over (partition by hour, worker_version order by entry.key::integer) as below,
        sum(sum(entry.value)) over (partition by hour, worker_version) as whole
    from entries
    group by hour, worker_version, entry.key
),
quantiles as (
    select
        hour,
        worker_version,
        exp((min(bucket) filter (below >= 0.50 * whole) + 1) * ln(10) / 18) as p50_us,
        exp((min(bucket) filter (below >= 0.90 * whole) + 1) * ln(10) / 18) as p90_us,
        exp((min(bucket) filter (below >= 0.99 * whole) + 1) * ln(10) / 18) as p99_us
    from cumulated
    group by hour, worker_version
)
select hours.*, p50_us, p90_us, p99_us
from hours
left join quantiles
    on quantiles.hour = hours.hour and quantiles.worker_version is not distinct from hours.worker_version
order by hours.hour, hours.worker_version;
