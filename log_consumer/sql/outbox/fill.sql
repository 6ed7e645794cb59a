-- $landed_at: when the batch landed. One row per message that this batch claimed, in the load's transaction, when forwarding is
-- on. After keep_claimed.sql: `decoded` holds those and no others.
insert into outbox by name
select isolate, seq, $landed_at as landed_at, text
from loadable
union all by name
select isolate, seq, $landed_at as landed_at, text
from loadable_upstream;
