-- Applied flags by assignment.
select starts_at, kind, assignment_id, exposure_count
from exposures_over_time
where rule = $rule and grain = $grain and starts_at >= $since
order by starts_at, kind, assignment_id;
