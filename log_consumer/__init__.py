"""The consumer of the flag-logs queue: pull, decode, load into DuckDB exactly once, ack; and SQL over it."""
