"""What an evaluation of a flag says: the answer, what is to be logged and recorded with it, and why."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import Any

from sync_job.materializations import Record
from sync_job.trace import RuleStep, json_of


@dataclass(frozen=True, slots=True)
class Fallthrough:
    """A rule that the flag passed through, which is an exposure of its own."""

    rule: str
    assignment_id: str
    unit: str
    selector: str


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a flag is for a context, exactly as the Worker decides it, and why.

    Names are full ones, empty where there is none. `reason` is a ResolveReason without its prefix; UNSPECIFIED when
    records are wished for, without which nothing is decided. `value` and `schema` are JSON text.
    """

    flag: str
    client: str
    credential: str
    etag: str
    reason: str
    rule: str = ""
    segment: str = ""
    variant: str = ""
    value: str | None = None
    schema: str | None = None
    assignment_id: str = ""
    unit: str = ""
    selector: str = ""
    """As stored: empty for a blank one."""
    fallthroughs: tuple[Fallthrough, ...] = ()
    writes: tuple[Record, ...] = ()
    wishes: tuple[Record, ...] = ()
    trace: tuple[RuleStep, ...] = ()

    @property
    def should_apply(self) -> bool:
        """Whether an exposure is due."""
        return self.reason == "MATCH" or bool(self.fallthroughs)

    def answer(self) -> dict[str, Any]:
        """The flag's entry in the `resolvedFlags` of an answer."""
        answer: dict[str, Any] = {"flag": self.flag}
        if self.variant:
            answer["variant"] = self.variant
        if self.value is not None:
            answer["value"] = json.loads(self.value)
        if self.schema is not None:
            answer["flagSchema"] = json.loads(self.schema)
        answer["reason"] = f"RESOLVE_REASON_{self.reason}"
        if self.should_apply:
            answer["shouldApply"] = True
        if self.rule:
            answer["assignmentOrigin"] = self.rule
        return answer

    def to_json(self) -> dict[str, Any]:
        """Everything, as plain data."""
        told: dict[str, Any] = {each.name: json_of(getattr(self, each.name)) for each in fields(self)}
        for name in ("value", "schema"):
            told[name] = None if told[name] is None else json.loads(told[name])
        for name in ("fallthroughs", "writes", "wishes"):
            told[name] = [{each.name: getattr(item, each.name) for each in fields(item)} for item in told[name]]
        return told | {"should_apply": self.should_apply}
