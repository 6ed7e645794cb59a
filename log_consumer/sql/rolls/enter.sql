insert into exposed_units by name
select * exclude (is_stale) from temp.rolled;
