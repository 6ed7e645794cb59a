"""How many cohorts a page can have, before there is traffic: each is cached by itself, and many leave nothing to hit.

The Worker counts those that come (worker/src/page_cohorts.ts).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from math import prod

import structlog

from flagedge.settings import Secret
from sync_job.compiled import Plan
from sync_job.decode import digest_secret
from sync_job.pages import PageSettings
from sync_job.plan import Assignment, Credential, EvaluablePlan, Flag, Rule, Variant, load_plan

COHORTS_MAX = 32
"""More than five flags of two variants each make. As in the Worker."""
_UNIT = ("targeting_key",)
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class PathCohorts:
    """A path's flags by short names: in how many ways each can be shown. `unknown` ones are none of the client's."""

    path: str
    ways: dict[str, int]
    unknown: tuple[str, ...]

    @property
    def count(self) -> int:
        """The most that there can be: targeting that excludes itself is not seen through."""
        return prod(self.ways.values())


def warn_of_cohorts(plan: Plan, pages: PageSettings, client_secret: Secret) -> None:
    """Log which paths have more cohorts than a cache can serve, or name flags that are not there. Idempotent."""
    if not pages.flags:
        return
    evaluable = load_plan(plan.text, plan.bits)
    credential = _find_credential(evaluable, pages.client, client_secret)
    if credential is None:
        hint = "pages come without flags: PAGE_CLIENT names a client or a credential of the state"
        _log.warning("page.client_unknown", client=pages.client, hint=hint)
        return
    for each in count_cohorts(credential, pages):
        if each.unknown:
            _log.warning("page.flags_unknown", path=each.path, flags=each.unknown, client=credential.client)
        if each.count > COHORTS_MAX:
            hint = "each is cached by itself: name fewer flags for this path in PAGE_FLAGS"
            facts = {"cohort_count": each.count, "more_than": COHORTS_MAX, "flags": each.ways}
            _log.warning("page.cohorts_many", path=each.path, **facts, hint=hint)


def count_cohorts(credential: Credential, pages: PageSettings) -> Iterator[PathCohorts]:
    """What each path of the settings can have. Pure."""
    for path, names in pages.flags.items():
        views = {name: credential.flags.get(f"flags/{name}") for name in dict.fromkeys(names)}
        ways = {name: len(_find_outcomes(*view)) for name, view in views.items() if view}
        yield PathCohorts(path, ways, tuple(name for name, view in views.items() if not view))


def _find_credential(plan: EvaluablePlan, name: str, client_secret: Secret) -> Credential | None:
    """As the Worker does: the first of the name, or the one with the secret."""
    if name:
        return next((each for each in plan.credentials if name in {each.client, each.name}), None)
    digest = digest_secret(client_secret.reveal())
    return next((each for each in plan.credentials if each.secret_sha256 == digest), None)


def _find_outcomes(flag: Flag, rules: Collection[int]) -> set[Variant | None]:
    """What a flag can be, errors aside; None is the default. `rules` are the numbers of those that hold."""
    outcomes: set[Variant | None] = set()
    for number, rule in enumerate(flag.rules):
        if number not in rules or rule.assignments is None or _is_nobodys(rule):
            continue
        reached = _find_reached(rule, rule.assignments)
        outcomes |= {each.variant if each.kind == "variant" else None for each in reached if each.kind != "fallthrough"}
        if _decides_all(rule, reached):
            return outcomes
    return outcomes | {None}


def _is_nobodys(rule: Rule) -> bool:
    segment = rule.segment
    is_empty = segment.expression is False or (segment.bits is not None and segment.bits[0] == "none")
    return is_empty and not _reads_records(rule)


def _reads_records(rule: Rule) -> bool:
    return rule.materialization is not None and bool(rule.materialization.read)


def _find_reached(rule: Rule, assignments: tuple[Assignment, ...]) -> list[Assignment]:
    """Those that some unit has: by its bucket, or by a record of whatever time."""
    if rule.is_full or _reads_records(rule):
        return list(assignments)
    owners = {owner for lower, upper, owner in rule.spans if max(lower, 0) < min(upper, rule.bucket_count)}
    return [assignments[owner] for owner in sorted(owners - {-1})]


def _decides_all(rule: Rule, reached: Collection[Assignment]) -> bool:
    """Whether no visitor comes past the rule: each has a unit, is in its segment and in a bucket that is given away."""
    segment = rule.segment
    is_everybodys = segment.expression is True and (segment.bits is None or segment.bits[0] == "full")
    if not is_everybodys or rule.attribute != _UNIT or _reads_records(rule):
        return False
    given = sum(
        max(0, min(upper, rule.bucket_count) - max(lower, 0)) for lower, upper, owner in rule.spans if owner >= 0
    )
    is_given = rule.is_full or given == rule.bucket_count > 0
    return is_given and all(each.kind in {"variant", "default"} for each in reached)
