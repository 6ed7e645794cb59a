"""What can be found wrong or unusual in a state, and what is done about it: every decision of `validate` in one table.

In brackets stands what the official resolver does, where it says something else than the text.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import islice

from flagedge.errors import DecodeError

NAMES_MAX = 20
WORKER_MAX_BYTES = 64 * 1024 * 1024
ISOLATE_MAX_BYTES = 128_000_000


class Verdict(Enum):
    """What is done about a finding. UNUSABLE is refused whatever the operator accepts: it cannot be compiled."""

    NOTED = 1
    REFUSED = 2
    UNUSABLE = 3


class Finding(Enum):
    """All that can be found: verdict, what it is, and the way out. The name in small letters is its code."""

    def __init__(self, verdict: Verdict, text: str, way_out: str = "") -> None:
        self.verdict = verdict
        self.text = text
        self.way_out = way_out

    @property
    def code(self) -> str:
        return self.name.lower()

    def is_refused(self, accept: Collection[Finding]) -> bool:
        return self.verdict is Verdict.UNUSABLE or (self.verdict is Verdict.REFUSED and self not in accept)

    # Foreign
    ACCOUNT_CHANGED = (
        Verdict.REFUSED,
        "it belongs to another account than the live one",
        "check CONFIDENCE_CLIENT_SECRET and the state URL; `--force` if the account is meant to change",
    )
    SECRET_MISSING = (
        Verdict.REFUSED,
        "no client has a credential with a secret, so every request would be a 401",
        "make a client credential in Confidence",
    )
    SECRET_UNKNOWN = (  # [every request errs]
        Verdict.REFUSED,
        "CONFIDENCE_CLIENT_SECRET is the secret of none of its clients, so every request with it would be a 401",
        "check CONFIDENCE_CLIENT_SECRET and the state URL, and that the credential still exists",
    )

    # New
    FIELD_UNKNOWN = (  # [skipped; a known field of another wire type fails the load]
        Verdict.REFUSED,
        "fields that this version of flagedge does not know",
        "update flagedge",
    )
    FLAG_STATE_UNKNOWN = (  # [not served]
        Verdict.REFUSED,
        "flags in a state that this version of flagedge does not know",
        "update flagedge",
    )
    BLOOM_STRATEGY_UNKNOWN = (  # [the filter is dropped, records are asked]
        Verdict.REFUSED,
        "bloom filters of a strategy that this version of flagedge does not know",
        "update flagedge",
    )

    # Damaged
    SEGMENTS_MISSING = (  # [every rule is skipped]
        Verdict.REFUSED,
        "it holds no segments at all, so no rule could match",
        "fetch it again; if that is how it is meant, disable the rules in Confidence",
    )
    VARIANT_MISSING = (  # [internal error of the request]
        Verdict.REFUSED,
        "assignments of a variant that the flag does not have",
        "give the rule another variant in Confidence",
    )
    VARIANT_TWICE = (Verdict.REFUSED, "variants that a flag has twice", "rename one in Confidence")  # [the first]
    VALUE_NOT_FINITE = (  # [the answer cannot be written: 500]
        Verdict.REFUSED,
        "assigned variants whose value holds NaN or an infinity, which JSON cannot say",
        "give the variant another value in Confidence",
    )
    BUCKETS_MISSING = (  # [0: internal error of the request; below 0: never assigned]
        Verdict.REFUSED,
        "rules that assign by bucket and have a bucket count below 1",
        "save the rule again in Confidence",
    )
    SEGMENT_ID_MISSING = (  # [internal error of the request]
        Verdict.REFUSED,
        "rules that assign by bucket on a segment without an id in its name",
        "give the rule another segment in Confidence",
    )
    BITSET_DAMAGED = (Verdict.UNUSABLE, "bitsets that cannot be read", "fetch the state again")  # [fails the load]
    BITSET_TWICE = (Verdict.REFUSED, "segments with two bitsets", "fetch the state again")  # [the last that has bits]
    BLOOM_BITS_MISSING = (  # [0: trap; below 0: holds nobody]
        Verdict.UNUSABLE,
        "bloom filters with hash functions and no bits",
        "fetch the state again",
    )
    CONTEXT_NOT_FINITE = (  # [works; nothing that a rule could compare with it]
        Verdict.UNUSABLE,
        "managed contexts that hold NaN or an infinity, which JSON cannot say",
        "give the client another context in Confidence",
    )

    # Unusual, and resolved as the official resolver does
    FLAGS_MISSING = (Verdict.NOTED, "no active flag is enabled for a client with a secret")
    NAME_TWICE = (Verdict.NOTED, "names that are given twice: the later one counts")
    SECRET_TWICE = (Verdict.NOTED, "credentials whose secret belongs to a later one too, which counts")
    SECRET_EMPTY = (Verdict.NOTED, "credentials whose secret is empty: requests without a secret see their flags")
    CREDENTIAL_LOST = (Verdict.NOTED, "credentials of a client that is not in the state: their secrets are unknown")
    FIELD_UNREAD = (Verdict.NOTED, "fields that this version of flagedge does not know and can do without")
    RULE_SEGMENT_MISSING = (Verdict.NOTED, "rules whose segment is not in the state (not allocated?) are skipped")
    ASSIGNMENTS_MISSING = (Verdict.NOTED, "rules without assignments never decide")
    ASSIGNMENT_UNSET = (Verdict.NOTED, "assignments of nothing: their buckets go on to the next rule")
    VARIANT_MISSING_UNUSED = (Verdict.NOTED, "assignments of a variant that the flag does not have, without buckets")
    SEGMENT_MISSING = (Verdict.NOTED, "criteria on a segment that is not in the state are never met (NOT: always)")
    CRITERION_MISSING = (Verdict.NOTED, "references to a criterion that is not there are never met (NOT: always)")
    CRITERION_UNSET = (Verdict.NOTED, "criteria without a kind are never met (NOT: always)")
    CRITERION_NOT_UNDERSTOOD = (Verdict.NOTED, "criteria without a rule or its value: rules that ask them are skipped")
    EXPRESSION_UNSET = (Verdict.NOTED, "segments with an empty part in their expression, which is never met")
    EXPRESSION_MISSING = (Verdict.NOTED, "segments with criteria and no expression: everybody meets them")
    BITSET_MISSING = (Verdict.NOTED, "segments that are allocated in part and have no bitset: everybody is in")
    BLOOM_CUT_SHORT = (Verdict.NOTED, "bloom filters with fewer bytes than bits to look up: most units are out")
    STICKY_OFF = (
        Verdict.NOTED,
        "flags that need sticky assignments, which are off (ENABLE_STICKY_ASSIGNMENTS): they end in an error",
    )

    # The upload
    WORKER_TOO_LARGE = (
        Verdict.REFUSED,
        f"the Worker would be larger than Cloudflare's {WORKER_MAX_BYTES} bytes",
        "archive flags, or split them between clients",
    )
    ISOLATE_TOO_LARGE = (
        Verdict.REFUSED,
        f"the plan would take more than the {ISOLATE_MAX_BYTES} bytes of memory that an isolate has",
        "archive flags, or split them between clients",
    )
    WORKER_LARGE = (Verdict.NOTED, f"the Worker takes more than half of Cloudflare's {WORKER_MAX_BYTES} bytes")
    ISOLATE_LARGE = (Verdict.NOTED, f"the plan takes more than half of an isolate's {ISOLATE_MAX_BYTES} bytes")


@dataclass(frozen=True, slots=True)
class Note:
    """A finding and what it was found on: full names, the first `NAMES_MAX`, and how many there are.

    What is about the state as a whole has no names.
    """

    finding: Finding
    names: tuple[str, ...]
    count: int

    def to_text(self, names_max: int = NAMES_MAX) -> str:
        """The finding's text with the first names and the number of the others."""
        if not self.names:
            return self.finding.text
        shown = list(self.names[:names_max])
        if rest := self.count - len(shown):
            shown.append(f"{rest} more" if shown else f"{rest} of them")
        return f"{self.finding.text}: {', '.join(shown)}"


class StateError(DecodeError):
    """A state may not replace the live one. `problems` are all reasons, the message has the first names and counts."""

    def __init__(self, problems: Sequence[Note]) -> None:
        room, parts = NAMES_MAX, []
        for problem in problems:
            parts.append(f"{problem.to_text(room)} [{problem.finding.code}; {problem.finding.way_out}]")
            room = max(0, room - len(problem.names))
        hint = "What is live stays live"
        if all(problem.finding.verdict is Verdict.REFUSED for problem in problems):
            hint += "; codes named in ACCEPTED_FINDINGS are noted instead"
        super().__init__("the state is refused: " + "; ".join(parts), hint=hint)
        self.problems = tuple(problems)


class Found:
    """Collects findings in order of first sight; a name counts once per finding."""

    def __init__(self) -> None:
        self._names: dict[Finding, dict[str, None]] = {}

    def add(self, finding: Finding, *names: str) -> None:
        self._names.setdefault(finding, {}).update(dict.fromkeys(names))

    def judge(self, accept: Collection[Finding]) -> tuple[Note, ...]:
        """All findings as notes. Raises StateError with those that are refused and not in `accept`."""
        notes = [Note(finding, tuple(islice(names, NAMES_MAX)), len(names)) for finding, names in self._names.items()]
        refused = [note for note in notes if note.finding.is_refused(accept)]
        if refused:
            raise StateError(refused)
        return tuple(notes)
