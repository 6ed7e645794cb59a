-- fallthroughs: which rules let callers through, to whatever comes after? Holdouts do, by design.
-- Grain: one row per rule and assignment that let somebody through.
--   flag, rule, assignment_id
--   decision_count           decisions that were let through, applied or not; null where only applied ones are known
--   exposure_count           applied flags that came past
--   last_applied_at          UTC
create or replace view fallthroughs as
with
decided as (
    select flag, rule, assignment_id, sum(resolve_count)::bigint as decision_count
    from resolve_counts
    where kind = 'fallthrough'
    group by all
),
applied as (
    select flag, rule, assignment_id, count(*) as exposure_count, max(applied_at) as last_applied_at
    from fallthrough_exposures
    group by all
)
select
    coalesce(decided.flag, applied.flag) as flag,
    coalesce(decided.rule, applied.rule) as rule,
    coalesce(decided.assignment_id, applied.assignment_id) as assignment_id,
    decision_count,
    coalesce(exposure_count, 0) as exposure_count,
    last_applied_at
from decided
full join applied
    on applied.flag = decided.flag
    and applied.rule is not distinct from decided.rule
    and applied.assignment_id is not distinct from decided.assignment_id
order by 1, 2, 3;
