-- The tables of the flag log. Every time is a UTC `timestamp`. Rows of a message carry (isolate, seq) but no key of
-- their own: a primary key on them costs three times the time and size. What keeps them single is the ledger, whose
-- row is written in the same transaction. A lake has no keys at all, so those of files stand apart (0003_keys.file.sql).

-- One row per applied flag.
create table exposures (
    applied_at timestamp,
    flag varchar,
    rule varchar,
    variant varchar,
    segment varchar,
    assignment_id varchar,
    targeting_key varchar,            -- null when the rule had no unit
    targeting_key_selector varchar,
    reason varchar,                   -- MATCH for a variant or the client default, else why there was none
    is_default boolean,               -- no variant: the caller's default value was used
    resolve_id varchar,
    client varchar,
    client_credential varchar,
    source varchar,
    sdk varchar,
    sdk_version varchar,
    country varchar,
    is_bot boolean,
    state_etag varchar,
    worker_version varchar,
    received_at timestamp,
    isolate varchar,
    seq bigint
);

-- One row per rule that an exposure passed through before it was decided; the decision itself is in exposures.
create table fallthrough_exposures (
    applied_at timestamp,
    flag varchar,
    rule varchar,
    segment varchar,
    assignment_id varchar,
    targeting_key varchar,
    targeting_key_selector varchar,
    position integer,                 -- 0-based order within the exposure
    resolve_id varchar,
    client varchar,
    client_credential varchar,
    source varchar,
    sdk varchar,
    sdk_version varchar,
    country varchar,
    is_bot boolean,
    state_etag varchar,
    worker_version varchar,
    received_at timestamp,
    isolate varchar,
    seq bigint
);

-- How often an outcome was decided for a client, applied or not; one row per message, client and outcome.
create table resolve_counts (
    sent_at timestamp,
    client varchar,
    client_credential varchar,
    flag varchar,
    kind varchar,                     -- match, no_match or fallthrough; rule: either, upstream does not tell which
    reason varchar,
    rule varchar,
    variant varchar,
    assignment_id varchar,
    resolve_count bigint,
    state_etag varchar,
    isolate varchar,
    seq bigint
);

-- Context schemas as seen; one row per message and schema, so the same schema comes again.
create table context_schemas (
    seen_at timestamp,
    client varchar,
    client_credential varchar,
    schema json,                      -- field name to kind
    semantic_types json,
    isolate varchar,
    seq bigint
);

-- What the Worker measured of itself; one row per message that says so.
create table telemetry (
    sent_at timestamp,
    resolve_count bigint,
    error_count bigint,
    latency_sum_us bigint,
    latency_count bigint,
    latency_buckets json,             -- bucket to count; bucket i begins at e^(i ln 10 / 18) microseconds
    worker_version varchar,
    isolate varchar,
    seq bigint
);

-- One row per message that landed, by its key. A redelivery finds its row and inserts nothing. Upstream's messages have no
-- key: there isolate is an MD5 of the text (with the queue's id, where the text has no resolve id) and seq is 0.
create table ledger (
    isolate varchar,
    seq bigint,
    format varchar,                   -- flagedge/1, flagedge/deployment/1 or upstream
    row_count bigint,
    dropped_count bigint,             -- messages this isolate gave up sending just before this one
    state_etag varchar,
    worker_version varchar,
    sent_at timestamp,
    landed_at timestamp,
    duplicate_count bigint,           -- redeliveries that were ignored
    bytes bigint                      -- of the message's text
);

-- Messages that could not be loaded, with their body as it was received.
create table rejected_messages (
    message_id varchar,               -- the queue's
    body varchar,
    content_type varchar,
    reason varchar,
    attempts integer,
    queued_at timestamp,
    rejected_at timestamp
);

-- What sync_job did: one row per deployment, refusal or return.
create table deployments (
    record_id varchar,
    worker varchar,
    outcome varchar,                  -- deployed, refused, returned or failed
    reason varchar,                   -- in words; null where there is nothing to say
    trigger varchar,                  -- schedule, command, webhook, rollback or override
    actor varchar,
    why varchar,                      -- the words that were given for it
    started_at timestamp,
    finished_at timestamp,
    state_etag varchar,
    previous_state_etag varchar,
    version_id varchar,
    previous_version_id varchar,
    worker_version varchar,
    settings_digest varchar,
    timings_ms json,                  -- step to milliseconds
    landed_at timestamp
);

-- What a deployment changed, field by field.
create table flag_changes (
    record_id varchar,
    changed_at timestamp,
    state_etag varchar,
    flag varchar,
    rule varchar,                     -- null when it is the flag itself
    field varchar,
    change varchar,                   -- added, removed or changed
    old_value json,
    new_value json,
    text varchar
);

-- Which share of the units that reach a rule's buckets each assignment is given, by state. A state that is deployed
-- again has its rows again, with another record_id.
create table allocations (
    record_id varchar,
    allocated_at timestamp,
    state_etag varchar,
    flag varchar,
    rule varchar,
    segment varchar,
    targeting_key_selector varchar,
    kind varchar,                     -- variant, client_default, fallthrough or unassigned
    variant varchar,
    assignment_id varchar,
    share double                      -- 0 to 1
);
