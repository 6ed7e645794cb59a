-- Has what was parked tried again, as if it had just landed. Answers with how many messages that were.
update outbox
set attempt_count = 0, refused_count = 0, next_at = null, parked_at = null
where parked_at is not null;
