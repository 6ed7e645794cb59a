-- unit_counts: how many units came first when, with which assignment, and may they be counted? What the checks of shares are
-- made of.
-- Grain: one row per rule, assignment, allocation epoch, hour of the first exposure, bot and token mark.
--   flag, rule, kind, variant, assignment_id
--   state_etag               the first state of the epoch; null for upstream's messages
--   epoch_number             null where no allocation of this state is known
--   hour                     UTC
--   is_bot                   whether Cloudflare took the client for a bot; false where nobody said
--   is_by_token              whether it was applied by a token: it may have been decided by an earlier state than this one
--   standing                 counted; or why not: bot, unknown_state (no allocation of the state is known, as of upstream's
--                            messages), outside (the state does not have the rule, or not the assignment), zero_share (it has
--                            the assignment with a share of 0), incomparable (see allocation_epochs)
--   unit_count               units whose first exposure to the rule this is
--   crossover_count          of these, units that were given several assignments
--   further_count            units that had come to the rule before, in another epoch or with another assignment
create or replace view unit_counts as
with
counted as (
    select
        rule,
        kind,
        assignment_id,
        state_etag,
        date_trunc('hour', first_applied_at) as hour,
        coalesce(is_bot, false) as is_bot,
        coalesce(source = 'apply', false) as is_by_token,
        any_value(flag) as flag,
        any_value(variant) as variant,
        count(*) filter (is_first) as unit_count,
        count(*) filter (is_first and is_crossover) as crossover_count,
        count(*) filter (not is_first) as further_count
    from unit_exposures
    group by all
),
states as (select distinct state_etag, true as is_state from allocations)
select
    counted.flag,
    counted.rule,
    counted.kind,
    counted.variant,
    counted.assignment_id,
    counted.state_etag,
    epochs.epoch_number,
    counted.hour,
    counted.is_bot,
    counted.is_by_token,
    case
        when is_state is null then 'unknown_state'
        when shares.share is null then 'outside'
        when shares.share = 0 then 'zero_share'
        when counted.is_bot then 'bot'
        when not epochs.is_comparable then 'incomparable'
        else 'counted'
    end as standing,
    counted.unit_count,
    counted.crossover_count,
    counted.further_count
from counted
left join states using (state_etag)
left join allocation_epochs as epochs using (rule, state_etag)
left join epoch_shares as shares
    on shares.rule = counted.rule
    and shares.epoch_number = epochs.epoch_number
    and shares.kind = counted.kind
    and shares.assignment_id is not distinct from counted.assignment_id;
