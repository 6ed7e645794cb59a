-- When the next message is due that is not due yet.
select min(next_at) from outbox where parked_at is null;
