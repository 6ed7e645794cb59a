-- $1: the claimed messages as a JSON text. Leaves in `delivered` the first delivery of each claimed message, and
-- nothing that was rejected: what is left is what the row tables take.
delete from delivered
where delivery not in (
    select min(delivery)
    from delivered
    join (select unnest(from_json($1, '[{"isolate": "VARCHAR", "seq": "BIGINT"}]'), recursive := true)) as claimed
        using (isolate, seq)
    where reason is null
    group by isolate, seq
);
