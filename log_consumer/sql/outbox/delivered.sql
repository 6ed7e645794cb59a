-- $first, $last: when the first and the last of them landed, for the rest of the backlog is not to be read;
-- $keys: a JSON text, [["isolate", seq], …].
delete from outbox
using (
    select key ->> 0 as isolate, (key ->> 1)::bigint as seq
    from (select unnest(from_json($keys, '["JSON"]')) as key)
) as delivered
where landed_at between $first and $last
    and outbox.isolate = delivered.isolate
    and outbox.seq = delivered.seq;
