delete from exposed_units
where (rule, targeting_key) in (select rule, targeting_key from temp.aged_units);
