-- $since: no row that goes is older. Deletes the rows of units that have a stale one.
delete from exposed_units
where first_applied_at >= $since and (rule, targeting_key) in (select rule, targeting_key from temp.rolled where is_stale);
