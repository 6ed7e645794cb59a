-- variant_shares: how many units did each assignment get, and how many should it have got? What is expected is added up over
-- the allocation epochs, so a change of shares is no mismatch.
-- Grain: one row per rule and assignment that had a share above 0; those without units are there with 0. Units of others
-- are in leaks.
--   flag, rule, kind, variant, assignment_id
--   unit_count               units by their first exposure, without bots and whatever else srm leaves out
--   expected_count           what the shares in force would have made of the same units
--   observed_share, expected_share   of the rule's counted units, 0 to 1; null while there are none
--   low_share, high_share    95 % interval of the observed share (Wilson)
--   deviation                observed less expected share
create or replace view variant_shares as
from variant_shares_of('unit_counts', 'epoch_shares');
