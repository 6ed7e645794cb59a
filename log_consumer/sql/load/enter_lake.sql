-- $claimed: the new messages as a JSON text; $landed_at: when the batch landed. Enters them into the ledger of a lake.
insert into ledger
select
    isolate, seq, any_value(format), any_value(row_count), any_value(dropped_count), any_value(state_etag),
    any_value(worker_version), any_value(sent_at), $landed_at, count(*) - 1, any_value(bytes)
from judged
semi join claimed($claimed) using (isolate, seq)
where reason is null
group by isolate, seq;
