-- One row per assignment of a rule, with its share of the units.
insert into allocations by name
with allocated as (
    select
        unnest(from_json(allocations, '[{
            "flag": "VARCHAR", "rule": "VARCHAR", "segment": "VARCHAR",
            "targeting_key_selector": "VARCHAR", "kind": "VARCHAR", "variant": "VARCHAR", "assignment_id": "VARCHAR",
            "share": "DOUBLE"}]')) as allocated,
        record_id, recorded_at, state_etag
    from loadable_records
    where allocations is not null
)
select
    record_id,
    recorded_at as allocated_at,
    state_etag,
    allocated.flag as flag,
    allocated.rule as rule,
    nullif(allocated.segment, '') as segment,
    allocated.targeting_key_selector as targeting_key_selector,
    allocated.kind as kind,
    nullif(allocated.variant, '') as variant,
    nullif(allocated.assignment_id, '') as assignment_id,
    allocated.share as share
from allocated;
