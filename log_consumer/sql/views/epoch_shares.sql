-- epoch_shares: which share was each assignment to have, while an allocation epoch lasted?
-- Grain: one row per rule, allocation epoch and assignment; `unassigned` buckets are one without an id.
--   flag, rule, epoch_number, first_state_etag, began_at, is_comparable   as in allocation_epochs
--   kind, variant, assignment_id   as in allocations
--   share                    of the units that reach the rule's buckets, 0 to 1
--   expected_share           of those that leave an exposure; null for what is unassigned
create or replace view epoch_shares as
from epoch_shares_of('allocation_epochs');
