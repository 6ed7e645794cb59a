-- One row per message that tells what the Worker measured, from upstream's messages.
insert into telemetry by name
with
measured as (
    select
        from_json(telemetryData, '{
            "resolveLatency": {
                "sum": "BIGINT", "count": "BIGINT", "buckets": [{"offset": "BIGINT", "counts": ["BIGINT"]}]},
            "resolveRate": [{"count": "BIGINT", "reason": "VARCHAR"}]}') as told,
        *
    from loadable_upstream
    where telemetryData is not null
),
runs as (select isolate, seq, unnest(told.resolveLatency.buckets) as run from measured),
counts as (
    select
        isolate, seq,
        least(to_count(run.offset) + generate_subscripts(run.counts, 1) - 1, last_bucket()) as bucket,
        unnest(run.counts) as count
    from runs
),
sums as (select isolate, seq, bucket, to_count(sum(count)) as count from counts group by all having sum(count) > 0),
buckets as (select isolate, seq, json_group_object(bucket, count) as latency_buckets from sums group by all)
select
    sent_at,
    to_count(told.resolveLatency.count) as resolve_count,
    to_count(
        list_sum(
            list_transform(
                list_filter(told.resolveRate, lambda x: x.reason = 'RESOLVE_REASON_ERROR'), lambda x: x.count
            )
        )
    ) as error_count,
    to_count(told.resolveLatency.sum) as latency_sum_us,
    to_count(told.resolveLatency.count) as latency_count,
    coalesce(latency_buckets, '{}') as latency_buckets,
    worker_version,
    isolate,
    seq
from measured
left join buckets using (isolate, seq);
