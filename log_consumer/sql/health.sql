-- What an operator is called for, in one row: what the last day lost, what waits, and what needs somebody.
select
    (
        select coalesce(sum(missing_count), 0)::bigint from delivery_health
        where hour > make_timestamp(epoch_us(now())) - interval 25 hours
    ) as missing_count,
    (select count(*) from rejected_messages) as rejected_messages_count,
    (select count(*) from outbox where parked_at is null) as forward_waiting_count,
    (select count(*) from outbox where parked_at is not null) as forward_parked_count;
