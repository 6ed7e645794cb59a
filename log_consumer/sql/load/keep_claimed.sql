-- $claimed: the claimed messages as a JSON text. Leaves in `decoded` the first delivery of each claimed message. Only run
-- when there is something to remove.
delete from decoded
where delivery not in (
    select min(delivery)
    from judged
    semi join claimed($claimed) using (isolate, seq)
    where reason is null
    group by isolate, seq
);
