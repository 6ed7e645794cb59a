-- $landed_at: when the batch landed. Enters each loadable message into the ledger, once, and answers with those that are new.
-- `on conflict do nothing` walks the ledger's index, so it costs the batch and not the ledger.
insert into ledger
select
    isolate, seq, any_value(format), any_value(row_count), any_value(dropped_count), any_value(state_etag),
    any_value(worker_version), any_value(sent_at), $landed_at, count(*) - 1, any_value(bytes)
from judged
where reason is null
group by isolate, seq
on conflict do nothing
returning isolate, seq;
