-- $messages: a JSON text, a list of what is read here. Gives each message of the outbox its new text.
update outbox
set text = cut.text
from (
    select unnest(from_json($messages, '[{"isolate": "VARCHAR", "seq": "BIGINT", "text": "VARCHAR"}]'), recursive := true)
) as cut
where outbox.isolate = cut.isolate and outbox.seq = cut.seq;
