-- epoch_shares: which share was each assignment to have, while an allocation epoch lasted?
-- Grain: one row per rule, allocation epoch and assignment; `unassigned` buckets are one without an id.
--   flag, rule, epoch_number, first_state_etag, began_at, is_comparable   as in allocation_epochs
--   kind, variant, assignment_id   as in allocations
--   share                    of the units that reach the rule's buckets, 0 to 1
--   expected_share           of those that leave an exposure; null for what is unassigned
create or replace view epoch_shares as
with
recorded as (
    select *
    from allocations
    qualify record_id = first_value(record_id) over (partition by rule, state_etag order by allocated_at, record_id)
),
summed as (
    select rule, state_etag, kind, assignment_id, any_value(variant) as variant, sum(share) as share
    from recorded
    group by rule, state_etag, kind, assignment_id
)
select
    flag,
    epochs.rule,
    epoch_number,
    first_state_etag,
    began_at,
    is_comparable,
    kind,
    variant,
    assignment_id,
    share,
    if(kind = 'unassigned', null, share / nullif(visible_share, 0)) as expected_share
from allocation_epochs as epochs
join summed on summed.rule = epochs.rule and summed.state_etag = epochs.first_state_etag
where epochs.state_etag = epochs.first_state_etag
order by flag, epochs.rule, epoch_number, kind, assignment_id;
