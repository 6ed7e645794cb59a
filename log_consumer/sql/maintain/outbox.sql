-- $before. What was given up. What still waits for Confidence is not thrown away, however old it is.
delete from outbox where parked_at is not null and landed_at < $before;
