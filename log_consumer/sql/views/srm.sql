-- srm: do the assignments of a rule have as many units as they should (sample ratio mismatch)? A chi-square test on units by
-- their first exposure, not on exposures: Pearson's, and after a change of shares with what is expected, and its variance,
-- added up over allocation epochs. Look at it once, at the end; to look at it again and again, take srm_sequential.
-- Grain: one row per rule that has an allocation, or units.
--   flag, rule
--   assignment_count         assignments that are compared
--   unit_count               units that are
--   bot_count, unknown_state_count, leaked_count, incomparable_count   units left out, see unit_counts
--   crossover_count          units that were given several assignments; they are compared, by the first
--   chi2, p_value            null where there is nothing to compare
--   degrees_of_freedom       assignments less one; where no epoch shared out both some assignments and the others, less one
--                            for each such group, for nothing compares them
--   max_deviation            the largest difference of observed and expected share
--   verdict                  ok, warning, mismatch; or too_few, nothing_to_compare (one assignment, or no two in any epoch),
--                            unknown (no allocation)
create or replace view srm as
-- Kept, for it is read twice.
with counted as materialized (from unit_counts)
from srm_of('counted', 'epoch_shares');
