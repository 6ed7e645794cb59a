-- exposures_by_reason: why did callers get what they got? A flag that is mostly NO_SEGMENT_MATCH is targeted at
-- nobody; TARGETING_KEY_ERROR says that callers do not send the unit.
-- Grain: one row per flag, client and reason.
--   flag, client, reason     as in exposures
--   exposure_count           applied flags
--   default_count            those among them that had no variant
--   last_applied_at          UTC
create or replace view exposures_by_reason as
select
    flag,
    client,
    reason,
    count(*) as exposure_count,
    count(*) filter (is_default) as default_count,
    max(applied_at) as last_applied_at
from exposures
group by flag, client, reason
order by flag, client, exposure_count desc;
