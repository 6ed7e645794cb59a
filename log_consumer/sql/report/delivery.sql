-- Messages of the log: whether all of them arrived. An hour in which a day begins counts for the day before.
select
    if($grain = 'day', day_of(hour), hour) as starts_at,
    sum(expected_count)::bigint as expected_count,
    sum(landed_count)::bigint as landed_count,
    sum(missing_count)::bigint as missing_count,
    sum(duplicate_count)::bigint as duplicate_count,
    sum(late_count)::bigint as late_count,
    sum(unconfirmed_count)::bigint as unconfirmed_count
from delivery_health
where hour >= $since
group by starts_at
order by starts_at;
