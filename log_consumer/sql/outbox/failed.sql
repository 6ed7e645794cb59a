-- $now; $first, $last: as in delivered.sql; $failures: a JSON text, a list of what is read here.
update outbox
set
    attempt_count = attempt_count + 1,
    refused_count = refused_count + if(failure.is_refused, 1, 0),
    next_at = $now + to_milliseconds(failure.wait_ms),
    error = failure.error,
    parked_at = if(failure.is_parked, $now, null)
from (
    select unnest(
        from_json($failures, '[{
            "isolate": "VARCHAR", "seq": "BIGINT", "error": "VARCHAR", "is_refused": "BOOLEAN",
            "is_parked": "BOOLEAN", "wait_ms": "BIGINT"}]'),
        recursive := true
    )
) as failure
where landed_at between $first and $last
    and outbox.isolate = failure.isolate
    and outbox.seq = failure.seq;
