-- exposures_by_variant: who saw what? The first thing to look at when an experiment runs.
-- Grain: one row per flag, rule and variant that was applied at least once. Where no rule matched, rule and variant
-- are null; where the client default was assigned, variant is null.
--   flag, rule, variant      names as in Confidence
--   exposure_count           applied flags
--   unit_count               distinct targeting keys among them
--   first_applied_at, last_applied_at   UTC
create or replace view exposures_by_variant as
select
    flag,
    rule,
    variant,
    count(*) as exposure_count,
    count(distinct targeting_key) as unit_count,
    min(applied_at) as first_applied_at,
    max(applied_at) as last_applied_at
from exposures
group by flag, rule, variant
order by flag, rule nulls last, variant nulls last;
