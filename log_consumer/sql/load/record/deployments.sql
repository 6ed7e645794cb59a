-- One row per deployment record; its first part holds it.
insert into deployments by name
with told as (
    select
        from_json(deployment, '{
            "worker": "VARCHAR", "outcome": "VARCHAR", "reason": "VARCHAR", "trigger": "VARCHAR", "actor": "VARCHAR",
            "why": "VARCHAR", "started_at_ms": "BIGINT", "finished_at_ms": "BIGINT", "previous_state_etag": "VARCHAR",
            "version_id": "VARCHAR", "previous_version_id": "VARCHAR", "settings_digest": "VARCHAR",
            "timings_ms": "JSON"}') as told,
        *
    from loadable_records
    where deployment is not null
)
select
    record_id,
    told.worker as worker,
    told.outcome as outcome,
    nullif(told.reason, '') as reason,
    told.trigger as trigger,
    nullif(told.actor, '') as actor,
    nullif(told.why, '') as why,
    to_time(told.started_at_ms) as started_at,
    coalesce(to_time(told.finished_at_ms), recorded_at) as finished_at,
    state_etag,
    nullif(told.previous_state_etag, '') as previous_state_etag,
    nullif(told.version_id, '') as version_id,
    nullif(told.previous_version_id, '') as previous_version_id,
    worker_version,
    nullif(told.settings_digest, '') as settings_digest,
    told.timings_ms as timings_ms,
    $landed_at as landed_at
from told;
