-- $before, $part, $parts. Of the units whose first exposure went, one part.
create temp table aged_units as
select distinct rule, targeting_key
from exposed_units
where first_applied_at < $before and hash(targeting_key) % $parts = $part;
