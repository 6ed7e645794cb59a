"""Whatever happens to a run, one more plain run makes everything right, and nobody who asks the Worker notices.

For each way to run (a first deployment, a changed state, nothing new, a rotated key, a takeover from the official
deployer) an undisturbed run is made first; then, for each call that it made of Cloudflare's API and of the CDN, one in
which that call fails in some way, and one that is killed there. Afterwards the account is compared with the
undisturbed one, every token key that any version had included; a visitor resolves and applies all the while.

FAULT_MATRIX=full runs the whole product. The default takes of each call one way to fail, drawn by FAULT_MATRIX (a
number), for calls that write one more that is done and not answered, and kills at the calls that write: a run leaves
nothing anywhere else, so a kill at a read leaves what the one at the next write does.
"""

from __future__ import annotations

import itertools
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from email.utils import formatdate
from typing import Any

import httpx
import pytest
from sync_scenarios import SCENARIOS, Ground, Scenario, go_through, undisturbed_calls
from sync_site import CALLS, Site

from flagedge.errors import FlagedgeError
from local_edge.server import LocalEdge
from sync_job import fetch

MATRIX = os.environ.get("FAULT_MATRIX", "1")
IS_FULL = MATRIX == "full"
READ_S = 0.25
"""How long the answer to a struck call is waited for."""
KINDS: Mapping[str, Callable[[], dict[str, Any]]] = {
    "timeout": lambda: {"kind": "timeout"},
    "reset": lambda: {"kind": "reset"},
    "429 with seconds": lambda: {"kind": "status", "status": 429, "retry_after": 2},
    "429 with a date": lambda: {"kind": "status", "status": 429, "retry_after": formatdate(time.time() + 2, usegmt=True)},
    "500 with a page": lambda: {"kind": "html", "status": 500},
    "200 that says no": lambda: {"kind": "success_false"},
    "403": lambda: {"kind": "status", "status": 403},
    "changed by another": lambda: {"kind": "status", "status": 400, "code": 10035},
    "truncated": lambda: {"kind": "truncate"},
    "lost": lambda: {"kind": "lost"},
}
DONE = ("truncated", "lost")
"""What is done although there is no answer."""
TIMES = {"once": 1, "for good": 4}
"""How often in a row a fault strikes; a call is tried four times."""

each_scenario = pytest.mark.parametrize("scenario", SCENARIOS, ids=[scenario.name for scenario in SCENARIOS])


class Hurried(httpx.HTTPTransport):
    """Waits for answers as any other, but gives up soon on those to the calls from `first` to `last`."""

    def __init__(self, site: Site, first: int, last: int) -> None:
        super().__init__(verify=False)
        self._site = site
        self._struck = range(first, last + 1)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if len(self._site.calls()) + 1 in self._struck:
            request.extensions["timeout"] = {"connect": 5, "read": READ_S, "write": 5, "pool": 5}
        return super().handle_request(request)


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """One account for all cases."""
    folder = tmp_path_factory.mktemp("faults")
    with LocalEdge(dir=folder / "edge", grace_s=0.2) as edge:
        yield Ground(edge, folder)


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits long for the CDN, or between attempts to reach it."""
    monkeypatch.setattr(fetch, "_TIMEOUT", httpx.Timeout(5, read=2 * READ_S))
    monkeypatch.setattr(fetch, "_RETRY_WAITS_S", (0, 0))


def draw_faults(scenario: Scenario, number: int, call: str) -> list[tuple[str, str]]:
    """The ways in which a call is to fail: kinds, and how often they strike."""
    everything = list(itertools.product(KINDS, TIMES))
    if IS_FULL:
        return everything
    draw = random.Random(f"{MATRIX} {scenario.name} {number}")
    drawn = [draw.choice(everything)]
    if not call.startswith("GET"):
        drawn.append((draw.choice(DONE), "for good"))
    return list(dict.fromkeys(drawn))


@pytest.mark.timeout(3600)
@each_scenario
def test_a_call_fails(ground: Ground, scenario: Scenario, subtests: pytest.Subtests) -> None:
    """Whichever call fails, however it does: the run survives or ends, and the next one makes all right."""
    for number, call in enumerate(undisturbed_calls(ground, scenario), 1):
        for kind, times in draw_faults(scenario, number, call):
            with subtests.test(f"call {number}, {call}: {kind}, {times}"):

                def disturb(site: Site, number: int = number, kind: str = kind, count: int = TIMES[times]) -> None:
                    site.edge.set_faults({"match": CALLS, "nth": number, "times": count, **KINDS[kind]()})
                    transport = Hurried(site, number, number + count - 1) if kind == "timeout" else None
                    with suppress(FlagedgeError):
                        site.run(scenario.options, transport=transport, sleep=lambda _: None)
                    assert len(site.calls()) >= number

                go_through(ground, scenario, disturb)


@pytest.mark.timeout(3600)
@each_scenario
def test_the_process_is_killed(ground: Ground, scenario: Scenario, subtests: pytest.Subtests) -> None:
    """Wherever `kill -9` meets the command, its lease does not block the next run, which makes all right."""
    for number, call in enumerate(undisturbed_calls(ground, scenario), 1):
        if call.startswith("GET") and not IS_FULL:
            continue
        with subtests.test(f"killed at call {number}, {call}"):

            def disturb(site: Site, number: int = number) -> None:
                site.edge.set_faults({"match": CALLS, "nth": number, "kind": "timeout"})
                with site.start(*scenario.arguments) as process:
                    while len(site.calls()) < number and process.poll() is None:
                        time.sleep(0.01)
                    process.kill()
                assert process.returncode == -9

            go_through(ground, scenario, disturb)
