-- TARGETING_KEY_POLICY=drop: no unit is stored.
create or replace temp macro stored_unit(unit) as null::varchar;
create or replace temp macro stored_units(units) as null::varchar[];
