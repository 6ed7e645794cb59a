-- Units that each assignment got, beside those that it should have got; 95 % intervals (Wilson).
select
    kind, variant, assignment_id, unit_count, expected_count,
    observed_share, expected_share, low_share, high_share, deviation
from variant_shares
where rule = $rule
order by kind, assignment_id;
