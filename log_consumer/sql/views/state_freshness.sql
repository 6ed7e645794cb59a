-- state_freshness: which state decided when, and how long did isolates keep to one that had been replaced?
-- Grain: one row per state that was deployed or decided something. Upstream's messages say no state.
--   state_etag
--   deployed_at              UTC; first; null where no record landed
--   superseded_at            UTC; when another was deployed after it last was; null while it is live
--   first_sent_at, last_sent_at   UTC; of messages with decisions by it
--   message_count
--   start_delay_s            from deployment to the first message
--   linger_s                 from being superseded to the last message; 0 if that came before
create or replace view state_freshness as
with
runs as (
    select
        state_etag,
        finished_at,
        lead(finished_at) over (order by finished_at) as next_at,
        lead(state_etag) over (order by finished_at) as next_etag
    from deployments
    where outcome = 'deployed'
),
deployed as (
    select
        state_etag,
        min(finished_at) as deployed_at,
        arg_max(next_at, finished_at) filter (next_etag is distinct from state_etag) as superseded_at,
        bool_or(next_at is null) as is_live
    from runs
    group by state_etag
),
served as (
    select state_etag, min(sent_at) as first_sent_at, max(sent_at) as last_sent_at, count(*) as message_count
    from ledger
    where format = 'flagedge/1'
    group by state_etag
)
select
    state_etag,
    deployed_at,
    if(is_live, null, superseded_at) as superseded_at,
    first_sent_at,
    last_sent_at,
    coalesce(message_count, 0) as message_count,
    date_diff('millisecond', deployed_at, first_sent_at) / 1000 as start_delay_s,
    if(is_live, null, greatest(0, date_diff('millisecond', superseded_at, last_sent_at) / 1000)) as linger_s
from deployed
full join served using (state_etag)
order by coalesce(deployed_at, first_sent_at);
