-- One row per message and context schema, from the loadable messages.
insert into context_schemas
select
    sent_at,
    clients[seen.client + 1].client,
    clients[seen.client + 1].client_credential,
    seen.schema,
    seen.semantic_types,
    isolate,
    seq
from (select unnest(schemas) as seen, * from loadable where len(schemas) > 0);
