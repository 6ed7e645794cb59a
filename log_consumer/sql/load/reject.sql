-- $1: the raw text of the pull response, $2: now. Keeps what could not be decoded, as it was received; a redelivery of
-- it changes nothing. Only run when there is something to keep, for it opens the response a second time.
insert into rejected_messages
select distinct on (message_id) message_id, body, content_type, reason, attempts, queued_at, $2
from pulled($1)
join judged using (delivery)
where reason is not null
order by message_id, delivery
on conflict do nothing;
