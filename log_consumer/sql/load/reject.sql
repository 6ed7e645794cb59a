-- $answers: as in decode.sql; $landed_at: when the batch landed. Keeps what could not be decoded, as it was received; a
-- redelivery of it changes nothing. Only run when there is something to keep, for it opens the answers a second time.
insert into rejected_messages
with answers(number, text) as (values $answers)
select distinct on (pulled.message_id)
    pulled.message_id,
    pulled.body,
    pulled.content_type,
    judged.reason,
    pulled.attempts,
    pulled.queued_at,
    $landed_at
from pulled('answers') as pulled
join judged using (delivery)
anti join rejected_messages as known on known.message_id = pulled.message_id
where judged.reason is not null
order by pulled.message_id, delivery;
