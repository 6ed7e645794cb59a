-- crossovers: which units were given several assignments by one rule, and was it because somebody changed the allocation?
-- Grain: one row per unit and rule with several assignments.
--   flag, rule, targeting_key
--   assignment_ids           in the order in which they came
--   first_applied_at, crossed_at   UTC; when the first came, and when another
--   cause                    allocation_change: no epoch gave the unit two; same_allocation: one did, which is a defect (a unit
--                            that changes, two selectors, storage that was lost); unknown: the state of one is not known
create or replace view crossovers as
with rows_of_unit as (
    select
        units.flag, units.rule, targeting_key, coalesce(assignment_id, '') as assignment_id, first_applied_at,
        epochs.epoch_number,
        count(distinct coalesce(assignment_id, '')) over (partition by units.rule, targeting_key, epochs.epoch_number) as in_epoch
    from unit_exposures as units
    left join allocation_epochs as epochs using (rule, state_etag)
    where is_crossover
)
select
    any_value(flag) as flag,
    rule,
    targeting_key,
    list(assignment_id order by first_applied_at) as assignment_ids,
    min(first_applied_at) as first_applied_at,
    min(first_applied_at) filter (not is_first_assignment) as crossed_at,
    case
        when max(in_epoch) filter (epoch_number is not null) > 1 then 'same_allocation'
        when count(*) filter (epoch_number is null) > 0 then 'unknown'
        else 'allocation_change'
    end as cause
from (
    select
        * replace (min(first_applied_at) as first_applied_at, max(in_epoch) as in_epoch),
        assignment_id = first_value(assignment_id) over (
            partition by rule, targeting_key order by min(first_applied_at), assignment_id
        ) as is_first_assignment
    from rows_of_unit
    group by flag, rule, targeting_key, assignment_id, epoch_number
)
group by rule, targeting_key
order by flag, rule, crossed_at, targeting_key;
