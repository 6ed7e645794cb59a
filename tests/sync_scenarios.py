"""The ways to run, each undisturbed or disturbed, and what has to be right afterwards however it went."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import shop
from official import OfficialAnswer, OfficialDeployer, official_answers
from sync_site import Site
from watch import Answers, Watch, right_answers

from local_edge.server import LocalEdge
from sync_job.job import RunOptions
from sync_job.token_keys import FIRST_NAME

STATES = {"old": shop.shop_payload(), "new": shop.changed_shop_payload()}
ETAGS = {name: f'"{hashlib.sha256(state).hexdigest()}"' for name, state in STATES.items()}
CONTEXTS = list(shop.visitors(10))


_PLAIN = RunOptions()
_BACK = RunOptions(rollback_to=ETAGS["old"])


@dataclass
class Ground:
    """An account that cases share, one after the other."""

    edge: LocalEdge
    folder: Path
    right: Mapping[str, Answers] = field(
        default_factory=lambda: {name: right_answers(state, CONTEXTS) for name, state in STATES.items()}
    )
    official: Mapping[str, OfficialAnswer] = field(default_factory=lambda: official_answers(STATES["old"], CONTEXTS))
    calls: dict[str, list[str]] = field(default_factory=dict)
    """By scenario, those of an undisturbed run."""
    left: dict[str, dict[str, Any]] = field(default_factory=lambda: defaultdict(dict))
    """By scenario and state, what an undisturbed run left in the account."""
    standing: Site | None = None
    """A Worker that is live and in order."""
    probe_url: str = ""
    """Where the account's only Worker is reached; without it runs prove nothing."""

    def new_site(self) -> Site:
        """The account's only one, so that it gets the address."""
        if self.standing is not None:
            self.standing.remove()
            self.standing = None
        return Site(self.edge, self.folder, probe_url=self.probe_url)

    def take_standing(self) -> Site:
        """The Worker that is live, or a new one; whoever takes it gives it back in order, or removes it."""
        site, self.standing = self.standing, None
        if site is None:
            site = self.new_site()
            site.publish(STATES["old"])
            site.run()
        if "STATE_ROLLED_BACK_FROM" in site.bound_texts():
            site.run(RunOptions(resume=True))
        return site


@dataclass(frozen=True)
class Case:
    """A site about to run, the states that are to answer one after the other, and the key that is bound before."""

    site: Site
    states: tuple[str, ...]
    was_live: bool = True
    token_key: str = ""


@dataclass(frozen=True)
class Scenario:
    """A way to run, as arguments of the command and as `options`; `again` is how one runs after a failure.

    `stays` says whether the site can be used by the next case.
    """

    name: str
    prepare: Callable[[Ground], Case]
    arguments: tuple[str, ...] = ("run",)
    options: RunOptions = _PLAIN
    again: RunOptions = _PLAIN
    stays: bool = False


def _empty_account(ground: Ground) -> Case:
    site = ground.new_site()
    site.publish(STATES["old"])
    return Case(site, ("old",), was_live=False)


def _changed_state(ground: Ground) -> Case:
    site = ground.take_standing()
    live = _live_state(site)
    coming = next(name for name in STATES if name != live)
    site.publish(STATES[coming])
    return Case(site, (live, coming), token_key=_bound_key(site))


def _nothing_new(ground: Ground) -> Case:
    site = ground.take_standing()
    live = _live_state(site)
    site.publish(STATES[live])
    return Case(site, (live,), token_key=_bound_key(site))


def _key_to_rotate(ground: Ground) -> Case:
    site = ground.new_site()
    site.publish(STATES["old"])
    site.run()
    return Case(site, ("old",), token_key=_bound_key(site))


def _state_to_roll_back(ground: Ground) -> Case:
    site = ground.take_standing()
    site.publish(STATES["new"])
    site.run()
    return Case(site, ("new", "old"), token_key=_bound_key(site))


def _official_account(ground: Ground) -> Case:
    site = ground.new_site()
    site.publish(STATES["new"])
    with OfficialDeployer(site) as deployer:
        deployer.deploy(ground.official)
    return Case(site, ("old", "new"), token_key=_bound_key(site))


def _live_state(site: Site) -> str:
    etag = site.bound_texts()["RESOLVER_STATE_ETAG"]
    return next(name for name, known in ETAGS.items() if etag == known)


def _bound_key(site: Site) -> str:
    return site.bound_texts()[FIRST_NAME]


SCENARIOS = [
    Scenario("first deployment", _empty_account),
    Scenario("changed state", _changed_state, stays=True),
    Scenario("nothing new", _nothing_new, stays=True),
    Scenario("rotation", _key_to_rotate, ("keys", "rotate"), RunOptions(rotate_key=True)),
    Scenario("rollback", _state_to_roll_back, ("rollback", "--to", ETAGS["old"]), _BACK, again=_BACK, stays=True),
    Scenario("takeover", _official_account, ("run", "--adopt"), RunOptions(adopt=True), again=RunOptions(adopt=True)),
]


def go_through(ground: Ground, scenario: Scenario, disturb: Callable[[Site], None]) -> None:
    """Run, disturbed, and once more: afterwards all is as if undisturbed, and nobody noticed anything meanwhile."""
    case = scenario.prepare(ground)
    site = case.site
    site.edge.take_requests()
    try:
        right = {name: ground.right[name] for name in case.states}
        with Watch(lambda: site.url, CONTEXTS, right, was_live=case.was_live) as watch:
            disturb(site)
            site.edge.reset()
            site.run(scenario.again)
        assert not watch.wrong, watch.wrong[:3]
        assert watch.seen == list(case.states), watch.seen
        _check_keys(case, is_rotated=scenario.options.rotate_key)
        left = site.describe()
        known = ground.left[scenario.name].setdefault(case.states[-1], left)
        differing = {name: (value, known[name]) for name, value in left.items() if value != known[name]}
        assert not differing, f"left, and what an undisturbed run leaves: {differing}"
    except BaseException:
        site.edge.reset()
        site.remove()
        raise
    if scenario.stays:
        ground.standing = site
    else:
        site.remove()


def _check_keys(case: Case, *, is_rotated: bool) -> None:
    """A key never changes in any version; there is one, or one more where a run was to add it."""
    keys = case.site.token_keys()
    assert all(len(values) == 1 for values in keys.values())
    assert not case.token_key or keys[FIRST_NAME] == {case.token_key}
    assert len(keys) <= (2 if is_rotated else 1)
    case.site.check_token_keys()


def undisturbed_calls(ground: Ground, scenario: Scenario) -> list[str]:
    """The calls of a run to which nothing happens; what it leaves, in either state, is what others are held against."""
    if scenario.name not in ground.calls:

        def disturb(site: Site) -> None:
            site.run(scenario.options)
            ground.calls[scenario.name] = site.calls()

        for _ in STATES if scenario.stays else ["one"]:
            go_through(ground, scenario, disturb)
    return ground.calls[scenario.name]
