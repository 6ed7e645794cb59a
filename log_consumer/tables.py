"""The tables that hold what was logged, by the time that divides them into days and by which their rows age."""

from __future__ import annotations

TIMES = {
    "exposures": "applied_at",
    "fallthrough_exposures": "applied_at",
    "resolve_counts": "sent_at",
    "context_schemas": "seen_at",
    "telemetry": "sent_at",
    "ledger": "sent_at",
    "rejected_messages": "rejected_at",
    "deliveries": "tried_at",
    "deployments": "finished_at",
    "flag_changes": "changed_at",
    "allocations": "allocated_at",
}
# Those whose rows go by their own age. The ledger goes by streams, and what was deployed is kept: it names nobody, and
# is needed to read exposures of any age.
AGING = (
    "exposures",
    "fallthrough_exposures",
    "resolve_counts",
    "context_schemas",
    "telemetry",
    "rejected_messages",
    "deliveries",
)
