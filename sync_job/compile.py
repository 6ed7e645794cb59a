"""The plan: a resolver state turned into what the Worker needs, and nothing that it could have been spared.

A plan is one JSON text and one data module with the bitsets. Compiling is pure: the same state and entity tag
give the same bytes. docs/plan.md describes the format.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from google.protobuf import json_format

from flagedge.errors import DecodeError
from flagedge.wire import state_pb2
from sync_job.bitsets import BitsetModule, gunzip_strictly, store_bits
from sync_job.compiled import PLAN_FORMAT, Plan
from sync_job.decode import DecodedState
from sync_job.fragments import NotFiniteError, filled_struct_json, schema_json
from sync_job.targeting import TargetingCompiler

_BLOOM_STRATEGY = 1  # MURMUR128_MITZ_64
Json = Any


def compile_plan(decoded: DecodedState, *, etag: str) -> Plan:
    """Compile a state. `etag` is kept in the plan exactly as given. Raises DecodeError, naming the thing."""
    return _PlanCompiler(decoded.resolver_state, decoded.account).compile(etag)


class _PlanCompiler:
    def __init__(self, state: state_pb2.ResolverState, account: str) -> None:
        self._state = state
        self._account = account
        self._module = BitsetModule()
        self._segments = {segment.name: segment for segment in state.segments_no_bitsets}
        self._bitsets = {
            bitset.segment: bitset for bitset in state.bitsets if bitset.WhichOneof("bitset") == "gzipped_bitset"
        }
        for bitset in state.bitsets:
            if bitset.WhichOneof("bitset") == "full_bitset" and not bitset.full_bitset:
                raise DecodeError(f"bitset of {bitset.segment} is marked as not full and holds nothing")
        self._blooms = {
            bloom.materialized_segment: bloom for bloom in state.bloom_filters if bloom.strategy == _BLOOM_STRATEGY
        }
        self._numbers: dict[str, int] = {}
        self._compiled: list[Json] = []
        self._targeting = TargetingCompiler(segment_number=self._segment_number, bloom_filter=self._bloom_filter)

    def compile(self, etag: str) -> Plan:
        self._targeting.attribute_number("targeting_key")
        credentials = self._credentials()
        flags = {flag.name: flag for flag in self._state.flags}
        seeing = {client.name for client, _ in credentials.values()}
        shown = {
            name: flag
            for name, flag in flags.items()
            if flag.state == state_pb2.Flag.ACTIVE and not seeing.isdisjoint(flag.clients)
        }
        numbers = {name: number for number, name in enumerate(shown)}
        compiled_flags = [self._flag(flag) for flag in shown.values()]
        plan = {
            "format": PLAN_FORMAT,
            "source": "confidence",
            "etag": etag,
            "account": self._account,
            "unit_salt": "MegaSalt-" + f"accounts/{self._account}".split("/")[1],
            "clients": [self._client(credential, shown, numbers) for credential in credentials.values()],
            "flags": compiled_flags,
            "segments": self._compiled,
            "criteria": self._targeting.criteria.items,
            "attributes": self._targeting.attributes.items,
        }
        _mark_cyclic(self._compiled, self._targeting.criteria.items)
        text = json.dumps(plan, separators=(",", ":"), allow_nan=False)
        return Plan(text, self._module.to_bytes(), etag, self._account, len(shown))

    # Clients

    def _credentials(self) -> dict[str, tuple[state_pb2.Client, state_pb2.ClientCredential]]:
        """Digest of a secret → its client and credential; a later entry replaces an earlier one."""
        return {
            credential.client_secret.secret: (client, credential)
            for client in self._state.clients
            for credential in self._state.client_credentials
            if credential.name.startswith(client.name + "/") and credential.HasField("client_secret")
        }

    def _client(
        self,
        entry: tuple[state_pb2.Client, state_pb2.ClientCredential],
        flags: dict[str, state_pb2.Flag],
        numbers: dict[str, int],
    ) -> Json:
        client, credential = entry
        environments = set(credential.environments)
        compiled: dict[str, Json] = {
            "client": client.name,
            "client_credential": credential.name,
            "secret_sha256": credential.client_secret.secret,
            "flags": [
                self._flag_view(flag, numbers[name], environments)
                for name, flag in flags.items()
                if client.name in flag.clients
            ],
        }
        if client.managed_context:
            compiled["managed_context"] = {
                key: json_format.MessageToDict(client.managed_context[key]) for key in sorted(client.managed_context)
            }
        return compiled

    def _flag_view(self, flag: state_pb2.Flag, number: int, environments: set[str]) -> Json:
        """The flag's number; with the numbers of the rules that hold in these environments, if not all do."""
        live = self._live_rules(flag)
        rules = [
            index
            for index, rule in enumerate(live)
            if not rule.environments or not environments.isdisjoint(rule.environments)
        ]
        return number if len(rules) == len(live) else [number, rules]

    # Flags

    def _live_rules(self, flag: state_pb2.Flag) -> list[state_pb2.Flag.Rule]:
        return [rule for rule in flag.rules if rule.enabled and rule.segment in self._segments]

    def _flag(self, flag: state_pb2.Flag) -> Json:
        # The first of two with one name counts.
        variants = {variant.name: number for number, variant in reversed(list(enumerate(flag.variants)))}
        compiled: dict[str, Json] = {
            "name": flag.name,
            "variants": [[variant.name, self._variant_value(flag, variant)] for variant in flag.variants],
            "rules": [self._rule(rule, variants) for rule in self._live_rules(flag)],
        }
        if flag.HasField("schema"):
            compiled["schema"] = schema_json(flag.schema)
        return compiled

    def _variant_value(self, flag: state_pb2.Flag, variant: state_pb2.Flag.Variant) -> str | None:
        """The value's JSON text; None when JSON cannot say it (the flag then errs, alone)."""
        try:
            return filled_struct_json(variant.value.fields, flag.schema.schema)
        except NotFiniteError:
            return None

    def _rule(self, rule: state_pb2.Flag.Rule, variants: dict[str, int]) -> Json:
        number = self._segment_number(rule.segment)
        compiled: dict[str, Json] = {"name": rule.name, "segment": number}
        if rule.targeting_key_selector:
            compiled["selector"] = [
                rule.targeting_key_selector,
                self._targeting.attribute_number(rule.targeting_key_selector),
            ]
        if rule.HasField("assignment_spec"):
            compiled |= _assignments(rule.assignment_spec, variants)
            if rule.materialization_spec.read_materialization:
                compiled["ranges"] = [
                    [
                        bound
                        for bucket_range in assignment.bucket_ranges
                        for bound in (bucket_range.lower, bucket_range.upper)
                    ]
                    for assignment in rule.assignment_spec.assignments
                ]
        if rule.HasField("materialization_spec"):
            spec = rule.materialization_spec
            compiled["materialization"] = {
                "write": spec.write_materialization,
                "read": spec.read_materialization,
                "must_match": spec.mode.materialization_must_match,
                "ignore_targeting": spec.mode.segment_targeting_can_be_ignored,
            }
        return compiled

    # Segments

    def _segment_number(self, name: str) -> int | None:
        """The number of a segment, compiled at first mention; None when the state has none of that name."""
        if name in self._numbers:
            return self._numbers[name]
        segment = self._segments.get(name)
        if segment is None:
            return None
        number = self._numbers[name] = len(self._compiled)
        compiled: dict[str, Json] = {"name": name}
        self._compiled.append(compiled)
        compiled["expression"] = self._targeting.compile_targeting(segment)
        bitset = self._bitsets.get(name)
        if bitset is not None:
            stored = store_bits(gunzip_strictly(bitset.gzipped_bitset, segment=name))
            compiled["bits"] = [stored.kind, self._module.add(stored.data), len(stored.data), stored.all_set]
        return number

    def _bloom_filter(self, name: str) -> list[int] | None:
        bloom = self._blooms.get(name)
        if bloom is None:
            return None
        if bloom.hash_function_count > 0 and bloom.bit_count <= 0:
            raise DecodeError(f"bloom filter of {name} has no bits")
        return [bloom.hash_function_count, bloom.bit_count, self._module.add(bloom.data), len(bloom.data)]


def _mark_cyclic(segments: list[Json], criteria: list[Json]) -> None:
    """Mark each segment from which a segment can be reached that refers to itself, however far around."""
    waiting = {
        number: {
            criteria[criterion]["segment"]
            for criterion in _criteria_of(segment["expression"])
            if "segment" in criteria[criterion]
        }
        for number, segment in enumerate(segments)
    }
    while settled := {number for number, references in waiting.items() if not references}:
        waiting = {number: references - settled for number, references in waiting.items() if number not in settled}
    for number in waiting:
        segments[number]["cyclic"] = True


def _criteria_of(expression: Json) -> Iterator[int]:
    if isinstance(expression, list):
        for operand in expression[1:]:
            yield from _criteria_of(operand)
    elif not isinstance(expression, bool):
        yield expression


def _assignments(spec: state_pb2.Flag.AssignmentSpec, variants: dict[str, int]) -> dict[str, Json]:
    """Assignments, and the bucket ranges cut into disjoint intervals.

    `bounds` ascends; interval i is [bounds[i], bounds[i+1]) and goes to assignment `owners[i]`, -1 for none. Where
    ranges overlap, the first assignment in the list owns. `full` marks a rule that needs no unit.
    """
    assignments = [_assignment(assignment, variants) for assignment in spec.assignments]
    compiled: dict[str, Json] = {"bucket_count": spec.bucket_count, "assignments": assignments}
    ranges = [
        (bucket_range.lower, bucket_range.upper, owner)
        for owner, assignment in enumerate(spec.assignments)
        for bucket_range in assignment.bucket_ranges
    ]
    if len(assignments) == 1 and ranges == [(0, spec.bucket_count, 0)]:
        return compiled | {"full": True}
    bounds = sorted({bound for lower, upper, _ in ranges if lower < upper for bound in (lower, upper)})
    owners = [_owner_of(bound, ranges) for bound in bounds[:-1]]
    return compiled | {"bounds": bounds, "owners": owners}


def _owner_of(bucket: int, ranges: list[tuple[int, int, int]]) -> int:
    return next((owner for lower, upper, owner in ranges if lower <= bucket < upper), -1)


def _assignment(assignment: state_pb2.Flag.Assignment, variants: dict[str, int]) -> Json:
    """[assignment id, what]: a variant's number, or default, fallthrough, unset, or missing and its name."""
    match assignment.WhichOneof("assignment"):
        case "variant":
            name = assignment.variant.variant
            number = variants.get(name)
            return [assignment.assignment_id, *(["missing", name] if number is None else [number])]
        case "fallthrough":
            return [assignment.assignment_id, "fallthrough"]
        case "client_default":
            return [assignment.assignment_id, "default"]
        case _:
            return [assignment.assignment_id, "unset"]
