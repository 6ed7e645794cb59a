-- open_roll: which rows of exposures are not entered into exposed_units yet? Those whose roll this is.
-- Grain: one row.
--   roll                     one more than the last that is done
create or replace view open_roll as
select coalesce(max(number), 0) + 1 as roll
from rolls;
