-- unit_exposures: which assignments was a unit given, and when first? Exact at any moment: what the last roll left, and what
-- landed since.
-- Grain: one row per unit, rule, assignment and allocation epoch. An assignment is a kind and an assignment_id, or where that
-- is empty a variant. Rows of upstream's messages say no state; those of one assignment are one row.
--   flag, rule               the experiment is the rule
--   targeting_key, targeting_key_selector   the unit and its kind
--   kind                     variant, client_default, or fallthrough (the rule was passed through)
--   variant                  null unless kind is variant
--   assignment_id            as in allocations
--   first_applied_at         UTC
--   state_etag               the first state of the allocation epoch that decided it
--   client, sdk, sdk_version, country, source, is_bot   of the first exposure
--   is_first                 whether this is the unit's first row of this rule
--   is_crossover             whether this unit was given several assignments by this rule
create or replace view unit_exposures as
from unit_exposures_of('touched_units');
