-- touched_units: what becomes of the units to whom something new happened since the last roll? What is known of them and
-- what landed, as one. unit_exposures adds everybody else; a roll writes what is_changed.
-- Grain: one row per unit, rule, assignment and allocation epoch, of units with a row that exposed_units lacks, has later, or has
-- under a state that has turned out not to be the first of its epoch.
--   is_known                 exposed_units has a row in its place, or under such a state
--   is_changed               which is another, or there is none
--   stored_row               null; or the row is one of exposed_units as it still is, and this is its rowid
--   other columns            as in exposed_units
create or replace view touched_units as
from touched_units_of('open_roll', 'allocation_epochs');
