-- $answers: numbered texts; $now: when they came, which dates what the queue does not. $keeps_text: whether the text of a
-- message will be wanted again. Fills `decoded` from the answers to pulls: each message is decoded here, once.
-- Source: docs/log-format.md (ours), proto/flagedge/wire/logs.proto (upstream's), Cloudflare's queue API (the envelope
-- and the coding of bodies).
insert into decoded
with
answers(number, text) as (values $answers),
unpacked as (
    select
        * exclude (plain),
        -- A json body may be a JSON string that holds the JSON: upstream's always is.
        case when plain[1] = '"' then try(from_json(plain, '"VARCHAR"')) else plain end as text
    from (
        select
            *,
            -- text comes plain; json and bytes come as base64, or (seen) as they are.
            case content_type when 'text' then body else coalesce(try(decode(from_base64(body))), body) end as plain
        from pulled('answers')
    )
),
sound as (
    select
        * replace (if(contains(text, '\ud') or contains(text, '\uD'), without_lone_surrogates(text), text) as text),
        text as raw_text
    from unpacked
),
ours as (
    select *, decode_message(if(contains(left(text, 64), '"flagedge/'), text, null)) as message
    from sound
),
spelt_out as (
    select *, decode_upstream(if(message.format is null, text, null)) as upstream
    from ours
)
select
    delivery,
    message_id,
    lease_id,
    strlen(text),
    coalesce(queued_at, $now),
    if($keeps_text, raw_text, null),
    message is not null or upstream is not null,
    case
        when message.format = '"flagedge/1"' then 'flag_log'
        when message.format = '"flagedge/deployment/1"' then 'record'
        when (
            upstream.flagAssigned is not null or upstream.flagResolveInfo is not null
            or upstream.clientResolveInfo is not null or upstream.telemetryData is not null
        ) and upstream_whole(text, upstream) then 'upstream'
    end as form,
    if(message.format is null, digest(raw_text, upstream, message_id), null),
    upstream,
    unnest(message)
from spelt_out;
