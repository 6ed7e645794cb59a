"""Rebuilds what Confidence ingests from the messages that landed, of our form or of upstream's.

Source: docs/log-format.md (ours), proto/flagedge/wire/logs.proto in JSON (upstream's). Parts that come again and again
are made once and kept, bounded: outcomes, rules, clients, schemas.

What our form says and Confidence's cannot: state, source, SDK, country, bot mark and time of receipt of a request,
which client a count is of, how many messages were dropped. What it does not say: requests that might have applied
something and did not (upstream: an envelope without flags), how long failed requests took, a message's schemas beyond
the hundredth. A unit or name with half a surrogate pair has U+FFFD instead, as in the tables.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cache, lru_cache
from typing import Any, NamedTuple

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor
from google.protobuf.timestamp_pb2 import Timestamp

from flagedge.errors import DecodeError
from flagedge.wire.logs_pb2 import (
    ClientInfo,
    ClientResolveInfo,
    ContextFieldSemanticType,
    FlagAssigned,
    FlagResolveInfo,
    TelemetryData,
    WriteFlagLogsRequest,
)
from flagedge.wire.types_pb2 import FallthroughAssignment, ResolveReason, Sdk, SdkId
from log_consumer.flag_logs import (
    INT32_MAX,
    Applied,
    AppliedFlag,
    Assigned,
    FlagLogs,
    Fragment,
    M,
    Passed,
    SchemaInstance,
    Telemetry,
    add_up,
)

OUR_FORM = "flagedge/1"
LATENCY_RATIO = 0.12792139405522476  # ln(10) / 18
FALLTHROUGH = "FALLTHROUGH"
REASON_NUMBERS = {name.removeprefix("RESOLVE_REASON_"): number for name, number in ResolveReason.items()}
DEFAULT_REASONS = frozenset(FlagAssigned.DefaultAssignmentReason.keys())
KINDS = frozenset(ClientResolveInfo.EvaluationContextKind.keys())
MALFORMED = (
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    RecursionError,
    json_format.ParseError,
)
NANOS_PER_MS = 1_000_000
LAST_TIME_NS = 253_402_300_799_999_999_999  # of the year 9999
REMEMBERED = 8192


def rebuild(texts: Iterable[str]) -> WriteFlagLogsRequest:
    """One request that says what all these messages say. Raises DecodeError when one of them cannot be read."""
    return add_up(read_message(text) for text in texts).to_request()


def read_message(text: str) -> FlagLogs:
    """Read the text of a message that landed. Raises DecodeError, which does not quote it."""
    try:
        message = _parse(text)
        if "format" not in message:
            return _read_upstream(message)
        if message["format"] != OUR_FORM:
            raise DecodeError("the message is of a form that this version does not know", hint="Update flagedge")
        return _OurMessage(message).to_logs()
    except MALFORMED as exc:
        raise DecodeError(f"the message cannot be rebuilt ({type(exc).__name__})") from None


def _parse(text: str) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(text)
    if "\\ud" in text or "\\uD" in text:
        spelt_out = json.dumps(message, ensure_ascii=False)
        message = json.loads(spelt_out.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
    return message


# --- our form -------------------------------------------------------------------------------------------------------


class _Outcome(NamedTuple):
    """What was decided for a flag, names whole; `rule` is None where there is none, other names are ""."""

    flag: str
    rule: str | None
    segment: str
    selector: str
    reason: str
    variant: str
    assignment_id: str


class _OurMessage:
    """A message of docs/log-format.md with its dictionaries spelt out."""

    def __init__(self, message: dict[str, Any]) -> None:
        self._message = message
        self._units: list[str] = [*message["units"], ""]  # -1, which is no unit, finds the last
        _check_texts(self._units)
        self._outcomes = list(_spell_out(message))

    def to_logs(self) -> FlagLogs:
        logs = FlagLogs(assigned=self._assigned())
        rates = self._count(logs)
        for seen in self._message.get("schemas") or ():
            client = self._message["clients"][seen["client"]]
            instance = _read_schema(json.dumps([seen.get("schema") or {}, seen.get("semantic_types") or {}]))
            logs.add_schema(client["client"], client["client_credential"], instance)
        logs.telemetry = self._telemetry(rates)
        return logs

    def _assigned(self) -> list[Assigned]:
        """One for each row of `resolves`, with the flags that it applied."""
        resolves, exposures = self._message["resolves"], self._message["exposures"]
        _check_texts(resolves["id"])
        origins = self._message["origins"]
        clients = [_remember_client(**self._message["clients"][origin["client"]]) for origin in origins]
        flags: list[list[Applied]] = [[] for _ in resolves["id"]]
        resolved, passed = exposures["resolve"], self._passed()
        applied_at_ms = exposures.get("applied_at_ms") or [resolves["at_ms"][resolve] for resolve in resolved]
        outcomes = {number: _remember_outcome(self._outcomes[number]) for number in set(exposures["outcome"])}
        columns = zip(resolved, exposures["outcome"], exposures["unit"], _to_ns(applied_at_ms), strict=True)
        for exposure, (resolve, number, unit, at_ns) in enumerate(columns):
            flags[resolve].append(Applied(outcomes[number], self._units[unit], at_ns, passed.get(exposure, ())))
        requests = zip(resolves["id"], resolves["origin"], flags, strict=True)
        return [Assigned(resolve_id, clients[origin], applied) for resolve_id, origin, applied in requests]

    def _passed(self) -> dict[int, list[Passed]]:
        """The rules that were passed through, by exposure and in order."""
        rows = self._message["fallthroughs"]
        passed: dict[int, list[Passed]] = {}
        for exposure, number, unit in zip(rows["exposure"], rows["outcome"], rows["unit"], strict=True):
            outcome = self._outcomes[number]
            rule = _remember_rule(outcome.rule or "", outcome.assignment_id, outcome.selector)
            passed.setdefault(exposure, []).append(Passed(rule, self._units[unit]))
        return passed

    def _count(self, logs: FlagLogs) -> Counter[int]:
        """Enter how often each outcome was decided; how often each reason was given."""
        counts, rates = self._message["counts"], Counter[int]()
        for number, count in zip(counts["outcome"], map(int, counts["count"]), strict=True):
            outcome = self._outcomes[number]
            if outcome.reason != FALLTHROUGH:
                logs.variants[outcome.flag, outcome.variant] += count
                rates[REASON_NUMBERS.get(outcome.reason, 0)] += count
            if outcome.rule is not None:
                logs.rules[outcome.flag, outcome.rule] += count
                logs.assignments[outcome.flag, outcome.rule, outcome.assignment_id] += count
        return rates

    def _telemetry(self, rates: Counter[int]) -> Telemetry | None:
        measured, version = self._message.get("telemetry"), self._message["worker_version"]
        if measured is None:
            return None
        if error_count := int(measured["error_count"]):
            rates[ResolveReason.RESOLVE_REASON_ERROR] += error_count
        latency = measured["latency"]
        if not (rates or latency["count"]):
            return None  # tokens were applied, nothing was resolved
        return Telemetry(
            sdk=Sdk(id=SdkId.SDK_ID_CLOUDFLARE_RESOLVER, version=version),
            resolver_version=version,
            latency_sum_us=int(latency["sum_us"]),
            latency_count=int(latency["count"]),
            latency_buckets=Counter({_bucket(index): int(count) for index, count in latency["buckets"].items()}),
            ln_ratio=LATENCY_RATIO,
            resolve_rates=rates,
        )


def _spell_out(message: dict[str, Any]) -> Iterator[_Outcome]:
    flags = [_full_name(name, "flags/") for name in message["flags"]]
    rules, outcomes, reasons = message["rules"], message["outcomes"], message["reasons"]
    columns = zip(rules["flag"], rules["rule"], rules["segment"], rules["selector"], strict=True)
    names: list[tuple[str | None, str, str]] = [
        (_full_name(rule, f"{flags[flag]}/rules/"), _full_name(segment, "segments/"), message["selectors"][selector])
        for flag, rule, segment, selector in columns
    ]
    names.append((None, "", ""))  # -1, which is no rule, finds the last
    for flag, rule, reason, variant, assignment_id in zip(
        *(outcomes[key] for key in ("flag", "rule", "reason", "variant", "assignment_id")), strict=True
    ):
        prefix = f"{flags[flag]}/variants/"
        rule_name, segment, selector = names[rule]
        variant_name, id_name = _full_name(variant, prefix), _full_name(assignment_id, prefix)
        yield _Outcome(flags[flag], rule_name, segment, selector, reasons[reason], variant_name, id_name)


def _full_name(name: str | None, prefix: str) -> str:
    """What stands behind a slash is whole, anything else continues `prefix`; "" for none."""
    if name is None:
        return ""
    return name[1:] if name.startswith("/") else prefix + name


@lru_cache(maxsize=REMEMBERED)
def _remember_outcome(outcome: _Outcome) -> Fragment[AppliedFlag]:
    applied = AppliedFlag(
        flag=outcome.flag,
        rule=outcome.rule or "",
        targeting_key_selector=outcome.selector,
        assignment_id=outcome.assignment_id,
    )
    if outcome.variant:
        applied.assignment_info.segment = outcome.segment
        applied.assignment_info.variant = outcome.variant
    else:
        applied.default_assignment.SetInParent()
        if outcome.reason in DEFAULT_REASONS:
            applied.default_assignment.MergeFrom(FlagAssigned.DefaultAssignment(reason=outcome.reason))
    return Fragment(applied)


@lru_cache(maxsize=REMEMBERED)
def _remember_rule(rule: str, assignment_id: str, selector: str) -> Fragment[FallthroughAssignment]:
    return Fragment(FallthroughAssignment(rule=rule, assignment_id=assignment_id, targeting_key_selector=selector))


@lru_cache(maxsize=REMEMBERED)
def _remember_client(client: str, client_credential: str) -> Fragment[ClientInfo]:
    return Fragment(ClientInfo(client=client, client_credential=client_credential))


@lru_cache(maxsize=REMEMBERED)
def _read_schema(text: str) -> SchemaInstance:
    """A context schema, from the JSON of its kinds and types. What Confidence has no word for is left out."""
    schema, semantic_types = json.loads(text)
    kinds = {path: kind for path, kind in schema.items() if kind in KINDS}
    instance = _read(SchemaInstance, {"schema": kinds})
    for path, name in semantic_types.items():
        semantic_type = ContextFieldSemanticType()
        with suppress(json_format.ParseError):
            json_format.ParseDict(name, semantic_type)
            instance.semantic_types[path].CopyFrom(semantic_type)
    return instance


def _check_texts(texts: Iterable[str]) -> None:
    """Raises TypeError unless all are texts."""
    "".join(texts)


def _to_ns(times_ms: Sequence[int]) -> list[int]:
    """Raises ValueError for what is no time of the years 1970 to 9999."""
    times = [int(time_ms) * NANOS_PER_MS for time_ms in times_ms]
    if times and not 0 <= min(times) <= max(times) <= LAST_TIME_NS:
        raise ValueError("a time is out of range")
    return times


def _bucket(index: str) -> int:
    return max(0, min(INT32_MAX, int(index)))


# --- upstream's form ------------------------------------------------------------------------------------------------


def _read_upstream(message: dict[str, Any]) -> FlagLogs:
    message = _in_known_words(message, WriteFlagLogsRequest)
    logs = FlagLogs(assigned=[_read_assigned(assigned) for assigned in message.get("flagAssigned") or ()])
    for info in message.get("flagResolveInfo") or ():
        _count_info(logs, _remember_info(json.dumps(info)))
    for seen in message.get("clientResolveInfo") or ():
        client = _remember_schemas(json.dumps(seen))
        for instance in client.schema:
            logs.add_schema(client.client, client.client_credential, instance)
    if (data := message.get("telemetryData")) is not None:
        logs.telemetry = _read_telemetry(_read(TelemetryData, data))
    return logs


def _read_assigned(assigned: dict[str, Any]) -> Assigned:
    assigned = _in_known_words(assigned, FlagAssigned)
    info, resolve_id = assigned.get("clientInfo"), assigned.get("resolveId") or ""
    _check_texts([resolve_id])
    client = None if info is None else _remember(ClientInfo, json.dumps(info))
    return Assigned(resolve_id, client, [_read_applied(applied) for applied in assigned.get("flags") or ()])


def _read_applied(applied: dict[str, Any]) -> Applied:
    """What differs from request to request stands beside the rest; spelt otherwise, it is only remembered in vain."""
    rest = dict(applied)
    unit, at = rest.pop("targetingKey", None) or "", rest.pop("applyTime", None)
    passed = rest.pop("fallthroughAssignments", None) or ()
    _check_texts([unit])
    outcome = _remember(AppliedFlag, json.dumps(rest))
    return Applied(outcome, unit, None if at is None else _remember_time(at), [_read_passed(each) for each in passed])


def _read_passed(passed: dict[str, Any]) -> Passed:
    rest = dict(passed)
    unit = rest.pop("targetingKey", None) or ""
    _check_texts([unit])
    return Passed(_remember(FallthroughAssignment, json.dumps(rest)), unit)


def _count_info(logs: FlagLogs, info: FlagResolveInfo) -> None:
    for variant in info.variant_resolve_info:
        logs.variants[info.flag, variant.variant] += variant.count
    for rule in info.rule_resolve_info:
        logs.rules[info.flag, rule.rule] += rule.count
        for assignment in rule.assignment_resolve_info:
            logs.assignments[info.flag, rule.rule, assignment.assignment_id] += assignment.count


def _read_telemetry(data: TelemetryData) -> Telemetry:
    latency, buckets, rates = data.resolve_latency, Counter[int](), Counter[int]()
    for run in latency.buckets:
        for index, count in enumerate(run.counts, run.offset):
            buckets[min(index, INT32_MAX)] += count
    for rate in data.resolve_rate:
        rates[rate.reason] += rate.count
    return Telemetry(
        sdk=data.sdk if data.HasField("sdk") else None,
        resolver_version=data.resolver_version,
        latency_sum_us=latency.sum,
        latency_count=latency.count,
        latency_buckets=buckets,
        ln_ratio=latency.ln_ratio,
        resolve_rates=rates,
        state_updated_at_ms=data.state_age.last_state_update,
        memory_bytes=data.memory_bytes,
    )


def _in_known_words(document: dict[str, Any], kind: type[M]) -> dict[str, Any]:
    """A message of JSON with the keys that Confidence writes, whatever kind they were of; unknown ones are dropped."""
    if document.keys() <= _keys_of(kind.DESCRIPTOR):
        return document
    return json_format.MessageToDict(_read(kind, document))


@cache
def _keys_of(kind: Descriptor) -> frozenset[str]:
    return frozenset(each.json_name for each in kind.fields)


def _read(kind: type[M], document: dict[str, Any]) -> M:
    return json_format.ParseDict(document, kind(), ignore_unknown_fields=True)


@lru_cache(maxsize=REMEMBERED)
def _remember(kind: type[M], text: str) -> Fragment[M]:
    return Fragment(_read(kind, json.loads(text)))


@lru_cache(maxsize=REMEMBERED)
def _remember_info(text: str) -> FlagResolveInfo:
    return _read(FlagResolveInfo, json.loads(text))


@lru_cache(maxsize=REMEMBERED)
def _remember_schemas(text: str) -> ClientResolveInfo:
    return _read(ClientResolveInfo, json.loads(text))


@lru_cache(maxsize=REMEMBERED)
def _remember_time(text: str) -> int:
    """Epoch nanoseconds."""
    timestamp = Timestamp()
    timestamp.FromJsonString(text)
    return timestamp.ToNanoseconds()
