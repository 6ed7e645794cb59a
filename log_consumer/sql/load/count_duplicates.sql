-- $1: the claimed messages as a JSON text, [["isolate", seq], …]. Counts the redeliveries of messages that landed
-- before this batch; those inside the batch were counted when it was claimed.
update ledger
set duplicate_count = duplicate_count + again.delivery_count
from (
    select isolate, seq, count(*) as delivery_count
    from judged
    where reason is null
        and (isolate, seq) not in (select (x.isolate, x.seq) from (select unnest(from_json($1, '[{"isolate": "VARCHAR", "seq": "BIGINT"}]')) as x))
    group by isolate, seq
) as again
where ledger.isolate = again.isolate and ledger.seq = again.seq;
