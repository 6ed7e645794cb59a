-- variant_shares: how many units did each assignment get, and how many should it have got? What is expected is added up over
-- the allocation epochs, so a change of shares is no mismatch.
-- Grain: one row per rule and assignment with a share, or with units; assignments without units are there with 0.
--   flag, rule, kind, variant, assignment_id
--   unit_count               units by their first exposure, without bots and whatever else srm leaves out
--   expected_count           what the shares in force would have made of the same units
--   observed_share, expected_share   of the rule's counted units, 0 to 1; null while there are none
--   low_share, high_share    95 % interval of the observed share (Wilson)
--   deviation                observed less expected share
create or replace view variant_shares as
with
observed as (
    select rule, epoch_number, kind, assignment_id, sum(unit_count)::bigint as unit_count
    from unit_counts
    where standing = 'counted'
    group by all
),
expected as (
    select
        any_value(shares.flag) as flag,
        shares.rule,
        shares.kind,
        shares.assignment_id,
        any_value(shares.variant) as variant,
        coalesce(sum(observed.unit_count), 0)::bigint as unit_count,
        sum(coalesce(shares.expected_share, 0) * coalesce(epochs.unit_count, 0)) as expected_count
    from epoch_shares as shares
    left join (
        select rule, epoch_number, sum(unit_count) as unit_count from observed group by rule, epoch_number
    ) as epochs using (rule, epoch_number)
    left join observed
        on observed.rule = shares.rule
        and observed.epoch_number = shares.epoch_number
        and observed.kind = shares.kind
        and observed.assignment_id is not distinct from shares.assignment_id
    where shares.kind <> 'unassigned' and shares.share > 0
    group by shares.rule, shares.kind, shares.assignment_id
),
summed as (select *, sum(unit_count) over (partition by rule) as rule_count, unit_count / nullif(rule_count, 0) as p from expected)
select
    flag,
    rule,
    kind,
    variant,
    assignment_id,
    unit_count,
    expected_count,
    p as observed_share,
    expected_count / nullif(rule_count, 0) as expected_share,
    wilson_bound(p, rule_count, -1.959963984540054) as low_share,
    wilson_bound(p, rule_count, 1.959963984540054) as high_share,
    p - expected_count / nullif(rule_count, 0) as deviation
from summed
order by flag, rule, kind, assignment_id;
