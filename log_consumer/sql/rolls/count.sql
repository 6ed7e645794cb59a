-- $roll. How many rows are open, and how many there are to look through.
select
    (select count(*) from exposures where roll = $roll) + (select count(*) from fallthrough_exposures where roll = $roll),
    (select count(*) from exposed_units);
