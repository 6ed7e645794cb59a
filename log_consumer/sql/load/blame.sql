-- $answers: as in decode.sql; $reason: why none of their messages can be loaded. Fills `judged` alone.
insert into judged (delivery, message_id, lease_id, bytes, reason)
with answers(number, text) as (values $answers)
select delivery, message_id, lease_id, strlen(body), $reason
from pulled('answers');
