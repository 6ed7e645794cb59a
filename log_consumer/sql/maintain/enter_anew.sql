-- As what is left of their exposures has it. Those that are open are among them, which the next roll finds to be known.
insert into exposed_units by name
select * exclude (is_known, is_changed, stored_row)
from touched_units_of('aged_units', 'allocation_epochs')
semi join temp.aged_units using (rule, targeting_key)
where stored_row is null;
