-- One row per message that tells what the Worker measured, from the loadable messages.
insert into telemetry
select
    sent_at,
    telemetry.resolve_count,
    telemetry.error_count,
    telemetry.latency.sum_us,
    telemetry.latency.count,
    telemetry.latency.buckets,
    worker_version,
    isolate,
    seq
from loadable
where telemetry is not null;
