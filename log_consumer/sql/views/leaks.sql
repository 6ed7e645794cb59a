-- leaks: who was given what nobody should be given? Units with an assignment whose share is 0 in the state that decided, or
-- that this state does not have.
-- Grain: one row per rule, assignment and allocation epoch with such units.
--   flag, rule, kind, variant, assignment_id, epoch_number
--   standing                 zero_share, or outside (the rule or the assignment is not in the state)
--   unit_count               units
--   carried_count            of these, units that may have it from before: the assignment had a share in an earlier epoch, and
--                            the unit came back (sticky assignments), or its flag was applied by an older token
--   first_hour, last_hour    UTC; hours in which such units were first exposed
create or replace view leaks as
with
given as (
    select rule, kind, assignment_id, min(epoch_number) as since
    from epoch_shares
    where share > 0
    group by all
)
select
    any_value(counts.flag) as flag,
    counts.rule,
    counts.kind,
    any_value(counts.variant) as variant,
    counts.assignment_id,
    counts.epoch_number,
    counts.standing,
    sum(counts.unit_count + counts.further_count)::bigint as unit_count,
    coalesce(
        sum(if(counts.is_by_token, counts.unit_count + counts.further_count, counts.further_count)) filter (
            given.since < counts.epoch_number or counts.epoch_number is null and given.since is not null
        ),
        0
    )::bigint as carried_count,
    min(counts.hour) as first_hour,
    max(counts.hour) as last_hour
from unit_counts as counts
left join given
    on given.rule = counts.rule
    and given.kind = counts.kind
    and given.assignment_id is not distinct from counts.assignment_id
where counts.standing in ('zero_share', 'outside')
group by counts.rule, counts.kind, counts.assignment_id, counts.epoch_number, counts.standing
order by flag, counts.rule, counts.epoch_number, counts.assignment_id;
