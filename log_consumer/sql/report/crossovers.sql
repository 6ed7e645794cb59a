-- Units that were given several assignments, by what they were given. For the units themselves: from crossovers.
select
    cause,
    assignment_ids,
    count(*) as unit_count,
    min(crossed_at) as first_crossed_at,
    max(crossed_at) as last_crossed_at
from crossovers
where rule = $rule
group by cause, assignment_ids
order by unit_count desc, cause, assignment_ids
limit 20;
