-- The tables of the flag log. Every time is a UTC `timestamp`. Rows of a message carry (isolate, seq) but no key of
-- their own: a primary key on them costs three times the time and size. What keeps them single is the ledger, whose
-- row is written in the same transaction.

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
    kind varchar,                     -- match, no_match or fallthrough
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

-- One row per message that landed. A redelivery finds its row and inserts nothing.
create table ledger (
    isolate varchar,
    seq bigint,
    row_count bigint,
    dropped_count bigint,             -- messages this isolate gave up sending just before this one
    state_etag varchar,
    worker_version varchar,
    sent_at timestamp,
    landed_at timestamp,
    duplicate_count bigint,           -- redeliveries that were ignored
    bytes bigint,                     -- of the message's text
    primary key (isolate, seq)
);

-- Messages that could not be loaded, with their body as it was received.
create table rejected_messages (
    message_id varchar primary key,   -- the queue's
    body varchar,
    content_type varchar,
    reason varchar,
    attempts integer,
    queued_at timestamp,
    rejected_at timestamp
);
