-- assignments: who was given what, when? The shape of Confidence's own warehouse table: entity targeting_key, timestamp
-- assignment_time, exposure key rule, variant key assignment_id. Rules that were passed through are among them.
-- Grain: one row per exposure of a unit to a rule.
--   targeting_key, rule, assignment_id
--   assignment_time          UTC; when the flag was applied
create or replace view assignments as
select targeting_key, rule, assignment_id, applied_at as assignment_time
from exposures
where rule is not null and targeting_key is not null
union all
select targeting_key, rule, assignment_id, applied_at
from fallthrough_exposures
where targeting_key is not null;
