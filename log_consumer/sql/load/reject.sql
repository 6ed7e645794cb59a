-- Keeps what could not be decoded, as it was received; a redelivery of it changes nothing. Only run when there is
-- something to keep, for it opens the response a second time.
insert into rejected_messages
select distinct on (pull.message_id)
    pull.message_id,
    pull.body,
    pull.content_type,
    judged.reason,
    pull.attempts,
    pull.queued_at,
    (select landed_at from response)
from pulled((select text from response)) as pull
join judged using (delivery)
where judged.reason is not null
order by pull.message_id, delivery
on conflict do nothing;
