-- The p-value of the sample ratio, which may be looked at every hour.
select hour, unit_count, max_deviation, p_value, verdict
from srm_sequential
where rule = $rule and hour >= $since
order by hour;
