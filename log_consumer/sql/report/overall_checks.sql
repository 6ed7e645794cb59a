-- What was checked of everything that was logged.
select name, status, value, reason
from checks
where rule is null
order by name;
