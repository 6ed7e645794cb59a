-- TARGETING_KEY_POLICY=plain: units are stored as they are. Macros that say nothing cost nothing.
create or replace temp macro stored_unit(unit) as unit;
create or replace temp macro stored_units(units) as units;
