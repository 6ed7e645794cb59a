-- $now; $results: a JSON text, a list of what is read here. One row of `deliveries` for each.
insert into deliveries by name
select
    $now as tried_at,
    destination,
    error,
    message_count,
    make_timestamp(oldest_landed_at_us) as oldest_landed_at,
    lag_ms
from (
    select unnest(
        from_json($results, '[{
            "destination": "VARCHAR", "error": "VARCHAR", "message_count": "BIGINT",
            "oldest_landed_at_us": "BIGINT", "lag_ms": "BIGINT"}]'),
        recursive := true
    )
);
