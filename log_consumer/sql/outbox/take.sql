-- $now, $rows, $bytes: messages that are due, the oldest first, up to so many rows and bytes of text, one at the least.
-- Rows come in the order of their insertion: sorting would read the whole backlog.
select isolate, seq, landed_at, attempt_count, refused_count, text
from (
    select *, sum(strlen(text)) over (rows unbounded preceding) as bytes
    from (
        select *
        from outbox
        where parked_at is null and (next_at is null or next_at <= $now)
        limit $rows
    )
)
where bytes <= $bytes or bytes = strlen(text);
