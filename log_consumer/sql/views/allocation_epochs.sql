-- allocation_epochs: which shares were in force when this state decided? States that give a rule the same shares of the same
-- buckets are one epoch of it. Rows of exposures are joined by their state, never by time: isolates change over one by one.
-- Grain: one row per rule and state that has it.
--   flag, rule, state_etag   as in allocations
--   epoch                    names the shares, for this rule
--   epoch_number             1 for the rule's first, in the order in which epochs began
--   first_state_etag         the state with which it began; stands for all states of the epoch in exposed_units
--   began_at                 UTC; when the epoch's first state was deployed
--   visible_share            of the units that reach the rule's buckets, the part that leaves an exposure; the rest has no
--                            assignment
--   assignment_count         assignments with a share above 0
--   is_comparable            whether first exposures are in proportion to the shares. They are not after a change of
--                            proportions that gave out buckets anew: units that came before and were given nothing are among them.
-- A state that was refused decided nothing and is left out.
create or replace view allocation_epochs as
with
refused as (select record_id from deployments where outcome = 'refused'),
-- An override adds a rule to a state without changing its entity tag, so a rule is where its first record has it.
recorded as (
    select rule, state_etag, arg_min(record_id, (allocated_at, record_id)) as record_id, min(allocated_at) as allocated_at
    from allocations
    where record_id not in (from refused)
    group by rule, state_etag
),
shared as (
    select
        any_value(flag) as flag,
        rule,
        state_etag,
        any_value(recorded.allocated_at) as allocated_at,
        string_agg(
            concat_ws(chr(31), segment, targeting_key_selector, kind, variant, assignment_id, share::varchar), chr(30)
            order by kind, assignment_id, variant, share
        ) as shares,
        coalesce(sum(share) filter (kind <> 'unassigned'), 0) as visible_share,
        count(distinct assignment_id) filter (share > 0 and kind <> 'unassigned') as assignment_count
    from allocations
    join recorded using (rule, state_etag, record_id)
    group by rule, state_etag
),
-- Buckets may move while shares stay; only the record of the change tells.
moved as (
    select rule, changed_at
    from flag_changes
    where field in ('assignment.ranges', 'assignment.bucket_count', 'segment', 'targeting_key_selector')
        and record_id not in (from refused)
),
named as (
    select
        * exclude (shares),
        md5(concat_ws(chr(29), shares, (
            select count(*) from moved where moved.rule = shared.rule and moved.changed_at <= shared.allocated_at
        ))) as epoch
    from shared
),
-- Proportions among what is visible, to be compared from epoch to epoch.
proportions as (
    select
        rule, state_etag,
        string_agg(
            concat_ws(chr(31), assignment_id, round(share / visible_share, 9)::varchar), chr(30) order by assignment_id, share
        ) as proportions
    from allocations
    join recorded using (rule, state_etag, record_id)
    join named using (rule, state_etag)
    where share > 0 and kind <> 'unassigned'
    group by rule, state_etag
),
began as (
    select
        rule,
        epoch,
        min(allocated_at) as began_at,
        arg_min(state_etag, (allocated_at, state_etag)) as first_state_etag,
        any_value(visible_share) as visible_share,
        any_value(proportions) as proportions
    from named
    left join proportions using (rule, state_etag)
    group by rule, epoch
),
numbered as (
    select rule, epoch, began_at, first_state_etag, row_number() over (partition by rule order by began_at, epoch)::integer as epoch_number
    from began
),
incomparable as (
    select distinct later.rule, later.epoch
    from began as later
    join began as earlier
        on earlier.rule = later.rule and earlier.began_at < later.began_at
        and earlier.visible_share < 1 - 1e-9
        and earlier.proportions is distinct from later.proportions
)
select
    named.flag,
    named.rule,
    named.state_etag,
    named.epoch,
    numbered.epoch_number,
    numbered.first_state_etag,
    numbered.began_at,
    named.visible_share,
    named.assignment_count,
    incomparable.epoch is null as is_comparable
from named
join numbered using (rule, epoch)
left join incomparable using (rule, epoch)
order by named.flag, named.rule, numbered.epoch_number, named.state_etag;
