"""What Confidence ingests, `WriteFlagLogsRequest`: what several messages say, added up, as protobuf and as JSON.

Counts are summed, context schemas stand once, what was assigned stays as it is. (The official consumer keeps of a
rule's assignment counts only those of the last message that has the rule; here they are summed like the others.)

Source: proto/flagedge/wire/logs.proto and the JSON mapping of protobuf, with times as the official Worker writes them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Generic, NamedTuple, TypeAlias, TypeVar

from google.protobuf import json_format
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from flagedge.wire.logs_pb2 import (
    ClientInfo,
    ClientResolveInfo,
    FlagAssigned,
    FlagResolveInfo,
    TelemetryData,
    WriteFlagLogsRequest,
)
from flagedge.wire.types_pb2 import FallthroughAssignment, Sdk

M = TypeVar("M", bound=Message)
AppliedFlag: TypeAlias = FlagAssigned.AppliedFlag
SchemaInstance: TypeAlias = ClientResolveInfo.SchemaInstance
UINT32_MAX = 2**32 - 1
INT32_MAX = 2**31 - 1
INT64_MAX = 2**63 - 1
NANOS = 1_000_000_000
text_to_json = json.JSONEncoder(ensure_ascii=False).encode


class Fragment(Generic[M]):
    """A part that many requests share, in both encodings; a message that it is made of must not change any more."""

    __slots__ = ("json", "message")

    def __init__(self, message: M) -> None:
        self.message = message
        # Without its braces, for more to be added.
        self.json = _message_to_json(message)[1:-1]


class Passed(NamedTuple):
    """A rule that was passed through."""

    rule: Fragment[FallthroughAssignment]
    unit: str

    def to_message(self) -> FallthroughAssignment:
        message = FallthroughAssignment(targeting_key=self.unit)
        message.MergeFrom(self.rule.message)
        return message

    def to_json(self) -> str:
        return _object(self.rule.json, _text_member("targetingKey", self.unit))


class Applied(NamedTuple):
    """An applied flag; `outcome` holds all but the rest."""

    outcome: Fragment[AppliedFlag]
    unit: str
    at_ns: int | None  # epoch nanoseconds
    passed: Sequence[Passed] = ()

    def write(self, message: AppliedFlag) -> None:
        message.MergeFrom(self.outcome.message)
        if self.unit:
            message.targeting_key = self.unit
        if self.at_ns is not None:
            message.apply_time.MergeFrom(_timestamp(self.at_ns))
        if self.passed:
            message.fallthrough_assignments.extend(passed.to_message() for passed in self.passed)

    def to_json(self) -> str:
        return _object(
            self.outcome.json,
            _text_member("targetingKey", self.unit),
            f'"fallthroughAssignments":[{",".join(passed.to_json() for passed in self.passed)}]' if self.passed else "",
            "" if self.at_ns is None else f'"applyTime":"{time_text(self.at_ns)}"',
        )


class Assigned(NamedTuple):
    """What one request applied."""

    resolve_id: str
    client: Fragment[ClientInfo] | None
    flags: Sequence[Applied]

    def write(self, message: FlagAssigned) -> None:
        message.resolve_id = self.resolve_id
        if self.client is not None:
            message.client_info.MergeFrom(self.client.message)
            message.client_info.SetInParent()
        for flag in self.flags:
            flag.write(message.flags.add())

    def to_json(self) -> str:
        return _object(
            _text_member("resolveId", self.resolve_id),
            "" if self.client is None else f'"clientInfo":{{{self.client.json}}}',
            f'"flags":[{",".join([flag.to_json() for flag in self.flags])}]' if self.flags else "",
        )


@dataclass(slots=True)
class Telemetry:
    """What resolvers measured of themselves. Bucket i of the latencies begins at e^(i · ln_ratio) microseconds."""

    sdk: Sdk | None = None
    resolver_version: str = ""
    latency_sum_us: int = 0
    latency_count: int = 0
    latency_buckets: Counter[int] = field(default_factory=Counter)
    ln_ratio: float = 0.0
    resolve_rates: Counter[int] = field(default_factory=Counter)  # by the reason's number
    state_updated_at_ms: int = 0
    memory_bytes: int = 0

    def add(self, later: Telemetry) -> None:
        """Sums are added; of SDK and ratio the first stays, of the rest the last that is known."""
        self.sdk = self.sdk or later.sdk
        self.ln_ratio = self.ln_ratio or later.ln_ratio
        self.latency_sum_us += later.latency_sum_us
        self.latency_count += later.latency_count
        self.latency_buckets.update(later.latency_buckets)
        self.resolve_rates.update(later.resolve_rates)
        self.resolver_version = later.resolver_version or self.resolver_version
        self.state_updated_at_ms = later.state_updated_at_ms or self.state_updated_at_ms
        self.memory_bytes = later.memory_bytes or self.memory_bytes

    def to_message(self) -> TelemetryData:
        message = TelemetryData(
            sdk=self.sdk, resolver_version=self.resolver_version, memory_bytes=_bounded(self.memory_bytes, INT64_MAX)
        )
        if self.latency_count:
            latency = message.resolve_latency
            latency.sum = _bounded(self.latency_sum_us, UINT32_MAX)
            latency.count = _bounded(self.latency_count, UINT32_MAX)
            latency.ln_ratio = self.ln_ratio
            for offset, counts in _runs(self.latency_buckets):
                latency.buckets.add(offset=offset, counts=counts)
        for reason, count in self.resolve_rates.items():
            message.resolve_rate.add(count=_bounded(count, UINT32_MAX), reason=reason)
        if self.state_updated_at_ms:
            message.state_age.last_state_update = _bounded(self.state_updated_at_ms, INT64_MAX)
        return message


@dataclass(slots=True)
class FlagLogs:
    """What one or more messages say. Names are whole; "" is no variant, or an empty assignment id."""

    assigned: list[Assigned] = field(default_factory=list)
    variants: Counter[tuple[str, str]] = field(default_factory=Counter)  # by flag and variant
    rules: Counter[tuple[str, str]] = field(default_factory=Counter)  # by flag and rule
    assignments: Counter[tuple[str, str, str]] = field(default_factory=Counter)  # by flag, rule and assignment id
    clients: dict[str, str] = field(default_factory=dict)  # by credential
    schemas: dict[str, dict[bytes, SchemaInstance]] = field(default_factory=dict)  # by credential, then by what it says
    telemetry: Telemetry | None = None

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing that Confidence would want to know."""
        return not (self.assigned or self.variants or self.rules or self.schemas or self.telemetry)

    def add(self, later: FlagLogs) -> None:
        """Add another's, which stays as it is."""
        self.assigned += later.assigned
        self.variants.update(later.variants)
        self.rules.update(later.rules)
        self.assignments.update(later.assignments)
        for credential, instances in later.schemas.items():
            self.clients.setdefault(credential, later.clients[credential])
            self.schemas.setdefault(credential, {}).update(instances)
        if later.telemetry is not None:
            self.telemetry = self.telemetry or Telemetry()
            self.telemetry.add(later.telemetry)

    def add_schema(self, client: str, credential: str, instance: SchemaInstance) -> None:
        self.clients.setdefault(credential, client)
        what = instance.SerializeToString(deterministic=True)
        self.schemas.setdefault(credential, {}).setdefault(what, instance)

    def to_request(self) -> WriteFlagLogsRequest:
        """Everything in the order in which it was first met."""
        request = self._summed()
        for each in self.assigned:
            each.write(request.flag_assigned.add())
        return request

    def to_json(self) -> bytes:
        """The request in JSON: int64 as text, names of enums, fields at their default left out."""
        summed = _message_to_json(self._summed())[1:-1]
        assigned = f'"flagAssigned":[{",".join([each.to_json() for each in self.assigned])}]' if self.assigned else ""
        return _object(assigned, summed).encode()

    def halve(self) -> tuple[FlagLogs, FlagLogs] | None:
        """Two that say the same together, each about half as long; None where there is nothing to cut.

        A resolve with many flags is cut between them: its id and client then stand in both.
        """
        if (count := len(self.assigned)) > 1:
            first, second = self.assigned[: count // 2], self.assigned[count // 2 :]
        elif count == 1 and (count := len(self.assigned[0].flags)) > 1:
            [whole] = self.assigned
            first = [whole._replace(flags=whole.flags[: count // 2])]
            second = [whole._replace(flags=whole.flags[count // 2 :])]
        else:
            return self._halve_counts()
        head = FlagLogs(
            first, self.variants, self.rules, self.assignments, self.clients, self.schemas, telemetry=self.telemetry
        )
        return head, FlagLogs(second)

    def _halve_counts(self) -> tuple[FlagLogs, FlagLogs] | None:
        flags = list(dict.fromkeys([flag for flag, _ in (*self.variants, *self.rules)]))
        if len(flags) < 2:
            return None
        kept = set(flags[: len(flags) // 2])
        head = FlagLogs(self.assigned, clients=self.clients, schemas=self.schemas, telemetry=self.telemetry)
        tail = FlagLogs()
        for variant, count in self.variants.items():
            (head if variant[0] in kept else tail).variants[variant] = count
        for rule, count in self.rules.items():
            (head if rule[0] in kept else tail).rules[rule] = count
        for assignment, count in self.assignments.items():
            (head if assignment[0] in kept else tail).assignments[assignment] = count
        return head, tail

    def _summed(self) -> WriteFlagLogsRequest:
        """The request without what was assigned."""
        return WriteFlagLogsRequest(
            telemetry_data=None if self.telemetry is None else self.telemetry.to_message(),
            client_resolve_info=[
                ClientResolveInfo(
                    client=self.clients[credential], client_credential=credential, schema=instances.values()
                )
                for credential, instances in self.schemas.items()
            ],
            flag_resolve_info=self._flag_resolve_infos(),
        )

    def _flag_resolve_infos(self) -> Iterable[FlagResolveInfo]:
        infos: dict[str, FlagResolveInfo] = {}
        rules: dict[tuple[str, str], FlagResolveInfo.RuleResolveInfo] = {}

        def info_of(flag: str) -> FlagResolveInfo:
            if flag not in infos:
                infos[flag] = FlagResolveInfo(flag=flag)
            return infos[flag]

        for (flag, variant), count in self.variants.items():
            info_of(flag).variant_resolve_info.add(variant=variant, count=_bounded(count, INT64_MAX))
        for (flag, rule), count in self.rules.items():
            rules[flag, rule] = info_of(flag).rule_resolve_info.add(rule=rule, count=_bounded(count, INT64_MAX))
        for (flag, rule, assignment_id), count in self.assignments.items():
            info = rules[flag, rule].assignment_resolve_info
            info.add(assignment_id=assignment_id, count=_bounded(count, INT64_MAX))
        return infos.values()


def add_up(logs: Iterable[FlagLogs]) -> FlagLogs:
    """The sum of all, in their order."""
    total = FlagLogs()
    for each in logs:
        total.add(each)
    return total


@lru_cache(maxsize=4096)
def time_text(at_ns: int) -> str:
    """RFC 3339 with `+00:00`, and no more groups of three fraction digits than there are."""
    seconds, nanos = divmod(at_ns, NANOS)
    fraction = f".{nanos:09d}"
    while fraction.endswith("000"):
        fraction = fraction[:-3]
    return f"{datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat()}{fraction.rstrip('.')}+00:00"


@lru_cache(maxsize=4096)
def _timestamp(at_ns: int) -> Timestamp:
    seconds, nanos = divmod(at_ns, NANOS)
    return Timestamp(seconds=seconds, nanos=nanos)


def _object(*members: str) -> str:
    """A JSON object of members that may be empty."""
    return "{" + ",".join(filter(None, members)) + "}"


def _text_member(key: str, text: str) -> str:
    return f'"{key}":{text_to_json(text)}' if text else ""


def _message_to_json(message: Message) -> str:
    return json.dumps(json_format.MessageToDict(message), ensure_ascii=False, separators=(",", ":"))


def _runs(counts: Counter[int]) -> Iterator[tuple[int, list[int]]]:
    """Counts by index as lists without gaps, each with the index that it begins at."""
    run: list[int] = []
    start = 0
    for index in sorted(counts):
        if index != start + len(run):
            if run:
                yield start, run
            start, run = index, []
        run.append(_bounded(counts[index], UINT32_MAX))
    if run:
        yield start, run


def _bounded(value: int, most: int) -> int:
    return max(0, min(most, value))
