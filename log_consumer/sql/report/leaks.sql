-- Units with an assignment that nobody should have.
select kind, assignment_id, epoch_number, standing, unit_count, carried_count, first_hour, last_hour
from leaks
where rule = $rule
order by unit_count desc, epoch_number, assignment_id
limit 20;
