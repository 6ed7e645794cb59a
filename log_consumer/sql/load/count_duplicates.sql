-- $claimed: the claimed messages as a JSON text. Counts the redeliveries of messages that landed before this batch; those
-- inside the batch were counted when it was claimed. Only run when there are some, for it reads much of the ledger.
update ledger
set duplicate_count = duplicate_count + again.delivery_count
from (
    select isolate, seq, count(*) as delivery_count
    from judged
    anti join claimed($claimed) using (isolate, seq)
    where reason is null
    group by isolate, seq
) as again
where ledger.isolate = again.isolate and ledger.seq = again.seq;
