-- How long exposures took until they were in the tables.
select day, exposure_count, late_count, mean_delay_s, max_delay_s
from late_exposures
where rule = $rule and day >= date_trunc('day', $since)
order by day;
