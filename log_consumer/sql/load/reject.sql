-- Keeps what could not be decoded, as it was received; a redelivery of
-- it changes nothing. Only run when there is something to keep, for it opens the response a second time.
insert into rejected_messages
select distinct on (message_id) message_id, body, content_type, reason, attempts, queued_at, (select landed_at from response)
from pulled((select text from response))
join judged using (delivery)
where reason is not null
order by message_id, delivery
on conflict do nothing;
