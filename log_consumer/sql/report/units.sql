-- Units by their first exposure, added up.
select starts_at, kind, assignment_id, new_unit_count, cumulative_unit_count
from exposures_over_time
where rule = $rule and grain = $grain and starts_at >= $since
order by starts_at, kind, assignment_id;
