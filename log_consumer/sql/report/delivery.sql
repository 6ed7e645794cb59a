-- Messages of the log: whether all of them arrived.
select hour, expected_count, landed_count, missing_count, duplicate_count, late_count, unconfirmed_count
from delivery_health
where hour >= $since
order by hour;
