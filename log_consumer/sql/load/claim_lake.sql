-- Which loadable messages are new to the ledger of a lake, which has no keys: only good while the lake is held. A
-- redelivery is the same text, so what it was sent at bounds the look into the ledger to a few files; what is not ours
-- is dated by its queue, and by another one when it was dead for a while.
with
found as (
    select isolate, seq, sent_at, if(format = 'upstream', interval 30 days, interval 0 days) as slack
    from judged
    where reason is null
),
known as (
    select isolate, seq
    from ledger
    where sent_at between (select min(sent_at - slack) from found) and (select max(sent_at + slack) from found)
        and isolate in (select isolate from found)
)
select distinct isolate, seq
from found
anti join known using (isolate, seq);
