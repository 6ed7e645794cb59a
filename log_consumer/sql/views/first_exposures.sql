-- first_exposures: who is in an experiment, since when, and with which assignment? What a metric is joined to.
-- Grain: one row per unit and rule.
--   flag, rule               the experiment is the rule
--   targeting_key, targeting_key_selector   the unit and its kind
--   first_applied_at         UTC
--   assignment               what to group by: the assignment id, or __multiple__ where the unit was given several
--   first_assignment_id, first_variant, kind   of the first exposure
--   state_etag               the first state of the allocation epoch that decided it
--   client, sdk, sdk_version, country, source, is_bot   of the first exposure
create or replace view first_exposures as
select
    flag,
    rule,
    targeting_key,
    targeting_key_selector,
    first_applied_at,
    if(is_crossover, '__multiple__', assignment_id) as assignment,
    assignment_id as first_assignment_id,
    variant as first_variant,
    kind,
    state_etag,
    client,
    sdk,
    sdk_version,
    country,
    source,
    is_bot
from unit_exposures
where is_first;
