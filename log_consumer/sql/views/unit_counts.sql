-- unit_counts: how many units came first when, with which assignment, and may they be counted? What the checks of shares are
-- made of.
-- Grain: one row per rule, assignment, allocation epoch, hour of the first exposure, bot and token mark.
--   flag, rule, kind, variant, assignment_id
--   state_etag               the first state of the epoch; null for upstream's messages
--   epoch_number             null where no allocation of this state is known
--   hour                     UTC
--   is_bot                   whether Cloudflare took the client for a bot; false where nobody said
--   is_by_token              whether it was applied by a token: it may have been decided by an earlier state than this one
--   standing                 counted; or why not: bot, unknown_state (no allocation of the state is known, as of upstream's
--                            messages), outside (the state does not have the rule, or not the assignment), zero_share (it has
--                            the assignment with a share of 0), incomparable (see allocation_epochs)
--   unit_count               units whose first exposure to the rule this is
--   crossover_count          of these, units that were given several assignments
--   further_count            units that had come to the rule before, in another epoch or with another assignment
create or replace view unit_counts as
from unit_counts_of('unit_exposures', 'allocation_epochs', 'epoch_shares');
