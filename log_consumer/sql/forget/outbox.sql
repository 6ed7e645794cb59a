-- $units: the units as they are, for forwarding has no use of hashes. The messages of the outbox that hold one, of our form
-- or of upstream's. Relies on stage.sql.
select isolate, seq, text
from (select *, without_lone_surrogates(text) as sound from outbox)
where list_has_any(json_extract_string(sound, '$.units[*]'), $units)
    or list_has_any(json_extract_string(sound, '$.flagAssigned[*].flags[*].targetingKey'), $units)
    or list_has_any(
        json_extract_string(sound, '$.flagAssigned[*].flags[*].fallthroughAssignments[*].targetingKey'), $units
    );
