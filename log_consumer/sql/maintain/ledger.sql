-- $before. Forgets streams whose last message landed earlier, whole: the rest of a stream would look as if what came
-- before it were missing.
delete from ledger
where isolate in (select isolate from ledger group by isolate having max(landed_at) < $before);
