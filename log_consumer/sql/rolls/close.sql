-- $roll, $now. What is loaded from here on belongs to the next roll.
insert into rolls
select $roll, $now, count(*) from temp.rolled;
