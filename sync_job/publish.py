"""A new state without a deployment: its plan goes to KV, is proved from there, and is pointed at.

The plan's parts lie under their digests and are written first. Then the live version is asked for what it would decide
by them, through a pointer that nobody but the probe has. Only then that pointer is stored; Workers find it by and by.
While it is being stored the script carries the tag of a deployment under way: a run that finds it deploys.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import structlog

from flagedge.settings import Secret
from sync_job.assemble import bundle_of
from sync_job.compiled import PLAN_FORMAT, Plan
from sync_job.deploy import find_address
from sync_job.gate import Gate, open_gate
from sync_job.hot_state import worker_key
from sync_job.live import UNDER_WAY, LiveWorker
from sync_job.occasion import Occasion
from sync_job.overrides import write_overrides
from sync_job.pointer import KEY, NOTHING_PUBLISHED, Bundle, Pointer, digest_part, write_pointer
from sync_job.timings import Timings
from sync_job.traffic import OvertakenError, Traffic
from sync_job.workers_api import WorkersApi

if TYPE_CHECKING:
    from sync_job.audit import Audit
    from sync_job.decode import DecodedState
    from sync_job.found import Found
    from sync_job.override_state import OverriddenState

CHUNK_MAX_BYTES = 25 * 1024 * 1024
"""What a value of KV may take."""
POINTER_TTL_S = 7 * 86_400
PART_TTL_S = POINTER_TTL_S + 86_400
BEHIND_MAX_S = 3600
"""After so long a version is deployed that has the published plan: what starts afresh has only what it brought."""
PROPAGATION_S = 75.0
"""KV remembers for up to a minute that a key is not there."""
PLANS_MAX_BYTES = 100_000_000
"""What plans may take of an isolate's 128 MB: the one it came with, the served one and the next. As in the Worker."""
BYTES_PER_TEXT_BYTE = 4
"""What a byte of a plan's text takes once it is read."""
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Publication:
    """A plan to publish, what it was made of, and what to tell of it.

    The script carries `record_tag` until its record is sent; `told_tags` are of what people were told of other states.
    """

    plan: Plan
    decoded: DecodedState = field(repr=False)
    occasion: Occasion
    told_tags: tuple[str, ...]
    now_s: int


@dataclass(frozen=True, slots=True)
class Publisher:
    """Publishes for one Worker; without a gate unproved. `record` is called as soon as the pointer is stored."""

    api: WorkersApi
    traffic: Traffic
    key: Secret
    gate: Gate | None
    record: Callable[[], bool]
    timings: Timings

    def publish(self, found: Found, publication: Publication) -> None:
        """Raises OvertakenError where somebody else deployed or published meanwhile, GateError for a wrong plan."""
        live, plan = found.live, publication.plan
        pointer = make_pointer(found, publication)
        text = write_pointer(pointer, self.key)
        self.traffic.go_on("publish the plan")
        with self.timings.measure("upload"):
            for name, chunk in split_plan(plan, without_bits_of=live.bundle):
                self.api.put_kv_value(live.state_namespace_id, name, chunk, expires_in_s=PART_TTL_S)
        if self.gate:
            with self.timings.measure("prove"):
                patient = replace(self.gate, propagation_s=max(PROPAGATION_S, self.gate.propagation_s))
                patient.prove(publication.decoded, candidate=text)
        self._point(found, text, [UNDER_WAY, publication.occasion.record_tag])
        # Before the mark is taken off: a run that dies before this is done is done again by the next one.
        left = [*publication.told_tags, pointer.published.to_tag()]
        left += [] if self.record() else [publication.occasion.record_tag]
        self._tag([*live.own_tags, *left])
        _log.info("plan.published", etag=plan.etag, sequence=pointer.sequence)

    def _point(self, found: Found, text: str, marks: list[str]) -> None:
        self.traffic.confirm(found.base, step="point to the plan")
        namespace_id = found.live.state_namespace_id
        if self.api.get_kv_text(namespace_id, KEY) != found.hot.text:
            raise OvertakenError(
                f"somebody else published to {self.traffic.worker_name} meanwhile",
                hint="Theirs stays live; the next run begins from it",
            )
        self._tag([*found.live.lasting_tags, *marks])
        self.api.put_kv_value(namespace_id, KEY, text.encode())

    def _tag(self, tags: list[str]) -> None:
        self.api.patch_script_settings(self.traffic.worker_name, {"tags": tags})


def publish_plan(plan: Plan, target: OverriddenState, audit: Audit, traffic: Traffic, *, now_s: int) -> str | None:
    """Publish what the target was compiled to, and record it; the Worker's address. Raises as `Publisher.publish`."""
    settings, found, occasion = audit.settings, audit.found, audit.find_occasion(target)
    address = find_address(audit.api, settings.worker)
    gate = open_gate(settings, address, plan.etag, write_overrides(target.overrides))
    version_id = found.base.live_version_id if found.base else ""
    record = partial(audit.record_deployed, target, occasion, version_id)
    publisher = Publisher(audit.api, traffic, worker_key(settings), gate, record, audit.timings)
    told_tags = audit.find_told_tags(target.etag)
    publisher.publish(found, Publication(plan, target.effective, occasion, told_tags, now_s))
    return address


def make_pointer(found: Found, publication: Publication) -> Pointer:
    """What is to be stored: above everything that was deployed or published."""
    plan, now_s = publication.plan, publication.now_s
    bundle = bundle_of(plan, next_sequence(found))
    return Pointer(
        sequence=bundle.sequence,
        published_at_s=now_s,
        expires_at_s=now_s + POINTER_TTL_S,
        behind_since_s=found.live.behind_since_s or now_s,
        plan_format=PLAN_FORMAT,
        account=plan.account,
        etag=plan.etag,
        text=bundle.text,
        bits=bundle.bits,
        occasion=publication.occasion,
    )


def next_sequence(found: Found) -> int:
    """Milliseconds since 1970, or one more than the highest there was: clocks of machines differ."""
    known = max(found.live.bundle.sequence, found.served.bundle.sequence, found.hot.sequence)
    return max(int(time.time() * 1000), known + 1)


def split_plan(plan: Plan, *, without_bits_of: Bundle) -> Iterator[tuple[str, bytes]]:
    """Keys and values; bitsets that every isolate has already are not among them."""
    for kind, data in (("text", plan.text.encode()), ("bits", plan.bits)):
        part = digest_part(data)
        if kind == "bits" and part == without_bits_of.bits:
            continue
        for number, start in enumerate(range(0, len(data), CHUNK_MAX_BYTES)):
            yield f"{kind}/{part.sha256}/{number}", data[start : start + CHUNK_MAX_BYTES]


def find_obstacle(found: Found, plan: Plan) -> str:
    """Why this plan has to be deployed, as far as what is live says; "" for a state that can be published."""
    live = found.live
    shares = [share for share in found.base.percentages.values() if share] if found.base else []
    if not live.state_namespace_id or not live.bundle.sequence or found.hot.text is None:
        return "what is live does not look into KV yet"
    if live.is_stepping or len(shares) != 1:
        return "two versions have traffic"
    if plan.account != live.account:
        return "the state is of another account"
    if plan.etag == live.etag:
        return "the state is the same"
    held = [live.bundle] if found.hot.pointer is None else [live.bundle, _held(found.hot.pointer)]
    size_bytes = _weigh([*held, bundle_of(plan, 0)])
    if size_bytes > PLANS_MAX_BYTES:
        return f"{len(held) + 1} plans in memory would take {size_bytes:,} bytes of {PLANS_MAX_BYTES:,}"
    return ""


def is_behind(live: LiveWorker, *, now_s: int) -> bool:
    """Whether it is time for a version with the published plan."""
    return 0 < live.behind_since_s <= now_s - BEHIND_MAX_S


def ensure_pointer(api: WorkersApi, namespace_id: str) -> None:
    """Make the key before anybody looks for it. Idempotent."""
    if api.get_kv_text(namespace_id, KEY) is None:
        api.put_kv_value(namespace_id, KEY, NOTHING_PUBLISHED.encode())


def _held(pointer: Pointer) -> Bundle:
    return Bundle(pointer.sequence, pointer.text, pointer.bits)


def _weigh(plans: list[Bundle]) -> int:
    """Bytes in memory; equal bitsets are there once."""
    bits = {plan.bits.sha256: plan.bits.size_bytes for plan in plans}
    return sum(bits.values()) + BYTES_PER_TEXT_BYTE * sum(plan.text.size_bytes for plan in plans)
