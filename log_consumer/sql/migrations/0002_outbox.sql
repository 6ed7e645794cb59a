-- What is forwarded to Confidence: the messages that wait for it, and what became of the others.

-- One row per message that landed and was not delivered yet. The text, not the rows, for those may hold less than
-- Confidence needs (keyed hashes of units, say); it goes when it is delivered. No key: the ledger keeps messages single.
create table outbox (
    isolate varchar,
    seq bigint,
    landed_at timestamp,
    text varchar,
    attempt_count integer default 0,
    refused_count integer default 0,      -- attempts to which the answer was that another will not help
    next_at timestamp,                    -- not to be tried before; null: at once
    error varchar,                        -- of the last attempt
    parked_at timestamp                   -- given up, until somebody has it tried again
);

-- One row per batch, destination and result.
create table deliveries (
    tried_at timestamp,
    destination varchar,                  -- edge or cloudflare; null when there was nothing to send
    error varchar,                        -- null: delivered
    message_count bigint,
    oldest_landed_at timestamp,
    lag_ms bigint                         -- from landing to delivery, the sum over the messages
);

-- Who forwards: at most one row. Others leave the outbox alone until then.
create table forwarder (
    owner varchar,
    until timestamp
);
