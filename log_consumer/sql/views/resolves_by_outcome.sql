-- resolves_by_outcome: what was decided, applied or not? Compare with exposures_by_variant: a variant that is decided
-- often and applied seldom is fetched by callers that do not use it.
-- Grain: one row per flag, kind, reason, rule and variant.
--   flag, kind, reason, rule, variant   as in resolve_counts
--   resolve_count            decisions
--   last_sent_at             UTC
create or replace view resolves_by_outcome as
select
    flag,
    kind,
    reason,
    rule,
    variant,
    sum(resolve_count)::bigint as resolve_count,
    max(sent_at) as last_sent_at
from resolve_counts
group by flag, kind, reason, rule, variant
order by flag, resolve_count desc;
