"""The blast radius of a change: of the units that ask for a flag, the share that would get another answer.

Both plans are asked, by the evaluator, for the same units. An answer is a variant and its value: none at all and the
caller's default are the same to whoever asks. Sticky rules decide as for units without a record.

Made-up units are new ones, their other attributes drawn at random from what the rules tell apart. For a flag whose
rules look at units alone, the share is an estimate of that among all units; where rules look at attributes too, it is
that of a crowd in which each of the rules' operands is as frequent as the next. Units out of an exposures table are
those that were given the flag before; of their context the unit alone is known, so rules about attributes pass them
over.
"""

from __future__ import annotations

import hashlib
import json
import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flagedge.errors import FlagedgeError
from flagedge.wire import state_pb2
from sync_job.compile import compile_plan
from sync_job.contexts import sample_visitors
from sync_job.decode import DecodedState
from sync_job.diff_values import plain_fields
from sync_job.evaluate import evaluate_flags
from sync_job.materializations import Materializations
from sync_job.plan import Credential, EvaluablePlan, load_plan
from sync_job.targets import TargetReader
from sync_job.units import SeenUnit
from sync_job.words import listed, short

UNIT_COUNT = 5000
UNIT_COUNT_MIN = 100
_EVALUATIONS_MAX = 1_000_000
"""About half a minute; where more flags changed, fewer units are asked for, and the margin says so."""
_CONFIDENCE = 1.96
Context = Mapping[str, Any]


class BlastRadiusError(FlagedgeError):
    """A state would change more than a run may by itself; what is live stays live."""


@dataclass(frozen=True, slots=True)
class FlagImpact:
    """How many of the units asked for would get another answer to a flag.

    `credential` is of the client that it changes most for, "" where units of several were asked for.
    """

    flag: str
    credential: str
    unit_count: int
    changed_count: int

    @property
    def share(self) -> float:
        return self.changed_count / self.unit_count if self.unit_count else 0.0

    @property
    def margin(self) -> float:
        """Half the width of the share's 95 % interval, which comes from having drawn the units."""
        # A unit and its complement more, so that a share of 0 or 1 is not taken for certain (Agresti and Coull).
        count, changed = self.unit_count + _CONFIDENCE**2, self.changed_count + _CONFIDENCE**2 / 2
        return _CONFIDENCE * math.sqrt(changed / count * (1 - changed / count) / count)

    def to_json(self) -> dict[str, Any]:
        return {
            "flag": self.flag,
            "credential": self.credential,
            "unit_count": self.unit_count,
            "changed_count": self.changed_count,
            "share": self.share,
            "margin": self.margin,
        }

    def to_text(self) -> str:
        return f"{100 * self.share:.1f} % of {self.unit_count:,} units (± {100 * self.margin:.1f} %)"


def measure_impact(old: DecodedState, new: DecodedState, *, unit_count: int = 0) -> tuple[FlagImpact, ...]:
    """The impact on each flag that may have changed for made-up units, the largest first; same states, same numbers.

    `unit_count` 0 takes 5,000, or down to 100 where many flags changed. Pure.
    """
    comparison = _Comparison(old, new)
    flags = changed_flags(old, new)
    pairs = comparison.pairs
    if not flags or not pairs:
        return ()
    affordable = _EVALUATIONS_MAX // (2 * len(flags) * len(pairs))
    unit_count = unit_count or max(UNIT_COUNT_MIN, min(UNIT_COUNT, affordable))
    visitors = list(sample_visitors([old.resolver_state, new.resolver_state], unit_count, seed=1))
    worst: dict[str, FlagImpact] = {}
    for name, pair in pairs.items():
        for flag, changed_count in comparison.count_changed(pair, flags, visitors).items():
            impact = FlagImpact(flag, name, unit_count, changed_count)
            if flag not in worst or impact.changed_count > worst[flag].changed_count:
                worst[flag] = impact
    return _sorted(worst.values())


def measure_seen_impact(
    old: DecodedState, new: DecodedState, seen: Mapping[str, Iterable[SeenUnit]]
) -> tuple[FlagImpact, ...]:
    """As `measure_impact`, for units that were seen, by flag."""
    comparison = _Comparison(old, new)
    found = []
    for flag in changed_flags(old, new) & seen.keys():
        unit_count = changed_count = 0
        for credential, selector, key in seen[flag]:
            pair = comparison.pairs.get(credential)
            if pair is not None:
                unit_count += 1
                changed_count += comparison.count_changed(pair, {flag}, [_context_of(selector, key)]).get(flag, 0)
        found.append(FlagImpact(flag, "", unit_count, changed_count))
    return _sorted(found)


def check_impact(impacts: Iterable[FlagImpact], *, limit: float, etag: str) -> None:
    """Raises BlastRadiusError where a share is above the limit (0 to 1); it names flags, shares and the way out."""
    over = [impact for impact in impacts if impact.share > limit]
    if over:
        shares = listed(f"{short(impact.flag)} for {impact.to_text()}" for impact in over)
        raise BlastRadiusError(
            f"state {etag} would change {shares}, and MAX_BLAST_RADIUS is {100 * limit:g} %",
            hint=f"What is live stays live. See `sync-job diff`; {how_to_approve(etag)}",
        )


def how_to_approve(etag: str) -> str:
    """Words for a hint."""
    return f"`sync-job run --approve {shlex.quote(etag.strip(chr(34)))}` lets this very state through"


def changed_flags(old: DecodedState, new: DecodedState) -> set[str]:
    """The flags whose answers may differ: something that decides them has changed."""
    olds, news = _fingerprints(old.resolver_state), _fingerprints(new.resolver_state)
    return {flag for flag in olds.keys() | news.keys() if olds.get(flag) != news.get(flag)}


def _fingerprints(state: state_pb2.ResolverState) -> dict[str, str]:
    """What decides each flag: itself, the segments that its rules lead to, and the clients."""
    targets = TargetReader(state)
    clients = json.dumps(
        [
            sorted((client.name, plain_fields(client.managed_context)) for client in state.clients),
            sorted((each.name, sorted(each.environments)) for each in state.client_credentials),
        ]
    )
    found = {}
    for flag in state.flags:
        known = state_pb2.Flag.FromString(flag.SerializeToString())
        known.DiscardUnknownFields()
        facts = [clients, known.SerializeToString(deterministic=True).hex()]
        for rule in flag.rules:
            reached = targets.reach(rule.segment).values()
            facts += [json.dumps([each.name, each.targeting, each.digest]) for each in reached]
        found[flag.name] = hashlib.sha256("\n".join(facts).encode()).hexdigest()
    return found


def _sorted(impacts: Iterable[FlagImpact]) -> tuple[FlagImpact, ...]:
    return tuple(sorted(impacts, key=lambda impact: (-impact.share, impact.flag)))


def _context_of(selector: str, key: str) -> Context:
    """A context that holds a unit where its selector looks for it."""
    context: dict[str, Any] = {}
    *path, last = (selector or "targeting_key").split(".")
    below = context
    for step in path:
        below = below.setdefault(step, {})
    below[last] = key
    return context


Pair = tuple[Credential, Credential | None]


class _Comparison:
    """Two plans to be asked the same."""

    def __init__(self, old: DecodedState, new: DecodedState) -> None:
        self._plans = _plan_of(old), _plan_of(new)
        olds, news = ({each.name: each for each in plan.credentials} for plan in self._plans)
        self.pairs: dict[str, Pair] = {name: (old, news.get(name)) for name, old in olds.items()}
        """By credential of the old plan: with one that is new nobody has asked yet."""

    def count_changed(self, pair: Pair, flags: set[str], contexts: Sequence[Context]) -> dict[str, int]:
        """For how many contexts each flag's answer differs; flags that the credential sees in neither are left out."""
        seen = flags & {flag for credential in pair if credential for flag in credential.flags}
        counts = dict.fromkeys(sorted(seen), 0)
        for context in contexts if seen else ():
            before, after = (
                _answers(plan, credential, seen, context) for plan, credential in zip(self._plans, pair, strict=True)
            )
            for flag in counts:
                counts[flag] += before.get(flag) != after.get(flag)
        return counts


def _plan_of(decoded: DecodedState) -> EvaluablePlan:
    compiled = compile_plan(decoded, etag="")
    return load_plan(compiled.text, compiled.bits)


def _answers(
    plan: EvaluablePlan, credential: Credential | None, flags: set[str], context: Context
) -> dict[str, tuple[str, str | None]]:
    """Variant and value of the flags that have one."""
    wanted = flags.intersection(credential.flags) if credential else set()
    if credential is None or not wanted:
        return {}
    evaluations = evaluate_flags(
        plan, context, credential=credential, flags=wanted, materializations=Materializations(), is_traced=False
    )
    return {each.flag: (each.variant, each.value) for each in evaluations if each.variant}
