-- rule_coverage: what decides a flag, and for how many callers does nothing? Decisions, applied or not.
-- Grain: one row per flag and rule; rule is null for decisions that no rule made. Rules that have an allocation and decided
-- nothing are there with 0.
--   flag, rule
--   decision_count           decisions that the rule made (without those that it let through)
--   fallthrough_count        decisions that it let through
--   flag_decision_count      decisions of the whole flag
--   coverage                 decision_count of flag_decision_count, 0 to 1
--   last_decided_at          UTC
create or replace view rule_coverage as
with
decided as (
    select
        flag,
        rule,
        coalesce(sum(resolve_count) filter (kind <> 'fallthrough'), 0)::bigint as decision_count,
        coalesce(sum(resolve_count) filter (kind = 'fallthrough'), 0)::bigint as fallthrough_count,
        -- Upstream counts a decision twice, by variant and by rule; only the first is a decision of the flag.
        coalesce(sum(resolve_count) filter (kind in ('match', 'no_match')), 0)::bigint as own_count,
        max(sent_at) as last_decided_at
    from resolve_counts
    group by flag, rule
),
known as (
    select flag, rule from decided
    union
    select flag, rule from allocation_epochs
)
select
    known.flag,
    known.rule,
    coalesce(decision_count, 0) as decision_count,
    coalesce(fallthrough_count, 0) as fallthrough_count,
    coalesce(sum(own_count) over (partition by known.flag), 0)::bigint as flag_decision_count,
    coalesce(decision_count, 0) / nullif(sum(own_count) over (partition by known.flag), 0) as coverage,
    last_decided_at
from known
left join decided on decided.flag = known.flag and decided.rule is not distinct from known.rule
order by known.flag, known.rule nulls last;
