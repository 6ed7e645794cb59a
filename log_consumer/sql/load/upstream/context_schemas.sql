-- One row per message, client and context schema, from upstream's messages.
insert into context_schemas by name
with
seen as (select unnest(clientResolveInfo) as client, sent_at, isolate, seq from loadable_upstream),
schemas as (select unnest(from_json(client.schema, '["JSON"]')) as schema, * from seen where client.schema is not null)
select
    sent_at as seen_at,
    client.client as client,
    client.clientCredential as client_credential,
    schema -> '$.schema' as schema,
    coalesce(schema -> '$.semanticTypes', '{}') as semantic_types,
    isolate,
    seq
from schemas;
