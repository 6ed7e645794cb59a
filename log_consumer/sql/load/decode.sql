-- Fills `decoded` from `answers`: each message is decoded here, once.
-- Source: docs/log-format.md (the message), Cloudflare's queue API (the envelope and the coding of bodies).
insert into decoded
with
unpacked as (
    select
        * exclude (plain),
        -- A json body may be a JSON string that holds the JSON.
        case when plain[1] = '"' then try(from_json(plain, '"VARCHAR"')) else plain end as text
    from (
        select
            *,
            -- text comes plain; json and bytes come as base64, or (seen) as they are.
            case content_type when 'text' then body else coalesce(try(decode(from_base64(body))), body) end as plain
        from pulled
    )
)
select
    delivery,
    message_id,
    lease_id,
    bytes,
    message is not null,
    unnest(message)
from (
    select
        *,
        strlen(text) as bytes,
        decode_message(
            if(contains(text, '\ud') or contains(text, '\uD'), without_lone_surrogates(text), text)
        ) as message
    from unpacked
);
