-- leaks: who was given what nobody should be given? Units with an assignment whose share is 0 in the state that decided, or
-- that this state does not have.
-- Grain: one row per rule, assignment and allocation epoch with such units.
--   flag, rule, kind, variant, assignment_id, epoch_number
--   standing                 zero_share, or outside (the rule or the assignment is not in the state)
--   unit_count               units
--   carried_count            of these, units that may have it from before: the assignment had a share in an earlier epoch, and
--                            the unit came back (sticky assignments), or its flag was applied by an older token
--   first_hour, last_hour    UTC; hours in which such units were first exposed
create or replace view leaks as
from leaks_of('unit_counts', 'epoch_shares');
