-- One row per changed field of a flag or rule.
insert into flag_changes by name
with changed as (
    select
        unnest(from_json(changes, '[{
            "flag": "VARCHAR", "rule": "VARCHAR", "field": "VARCHAR", "change": "VARCHAR", "old": "JSON", "new": "JSON",
            "text": "VARCHAR"}]')) as changed,
        record_id, recorded_at, state_etag
    from loadable_records
    where changes is not null
)
select
    record_id,
    recorded_at as changed_at,
    state_etag,
    changed.flag as flag,
    nullif(changed.rule, '') as rule,
    changed.field as field,
    changed.change as change,
    changed.old as old_value,
    changed.new as new_value,
    changed.text as text
from changed;
