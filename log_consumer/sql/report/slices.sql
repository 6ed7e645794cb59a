-- The sample ratio of parts of the units; the p-value is times the number of parts (Bonferroni).
select dimension, value, unit_count, max_deviation, corrected_p_value, verdict
from srm_by
where rule = $rule
order by corrected_p_value, dimension, value
limit 12;
