-- crossovers: which units were given several assignments by one rule, and was it because somebody changed the allocation?
-- Grain: one row per unit and rule with several assignments.
--   flag, rule, targeting_key
--   assignment_ids           in the order in which they came
--   first_applied_at, crossed_at   UTC; when the first came, and when another
--   cause                    allocation_change: no epoch gave the unit two; same_allocation: one did, which is a defect (a unit
--                            that changes, two selectors, storage that was lost); unknown: the state of one is not known
create or replace view crossovers as
from crossovers_of('unit_exposures', 'allocation_epochs');
