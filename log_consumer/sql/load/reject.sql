-- $1: when the batch landed. Keeps what could not be decoded, as it was received; a redelivery of it changes nothing.
-- Only run when there is something to keep, for it opens the answers a second time.
insert into rejected_messages
select distinct on (pulled.message_id)
    pulled.message_id,
    pulled.body,
    pulled.content_type,
    judged.reason,
    pulled.attempts,
    pulled.queued_at,
    $1
from pulled
join judged using (delivery)
where judged.reason is not null
order by pulled.message_id, delivery
on conflict do nothing;
