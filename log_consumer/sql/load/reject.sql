-- $1: now. Keeps what could not be decoded, as it was received; a redelivery of it changes nothing.
-- The count it answers with is that of newly kept messages.
insert into rejected_messages
select distinct on (message_id)
    message_id, rejected_body, content_type, reason, attempts, queued_at, $1
from delivered
where reason is not null
order by message_id, delivery
on conflict do nothing;
