-- What was checked, and what came out.
select name, status, value, reason
from checks
where rule = $rule
order by name;
