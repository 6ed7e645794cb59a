-- The shares that were in force, and since when.
select epoch_number, began_at, first_state_etag, is_comparable, kind, assignment_id, share
from epoch_shares
where rule = $rule
order by epoch_number, kind, assignment_id;
