"""Whatever happens to a run, one more plain run makes everything right, and nobody who asks the Worker notices.

For each way to run (a first deployment, a changed state, nothing new, a rotated key, a rollback, a takeover from the
official deployer) an undisturbed run is made first; then, for each call that it made of Cloudflare's API and of the
CDN, one in which that call fails in some way, and one that is killed there. Afterwards the account is compared with the
undisturbed one, every token key that any version had included; a visitor resolves and applies all the while.

FAULT_MATRIX=full runs the whole product. The default draws for each call one way to fail (FAULT_MATRIX=<number> draws
others); for a call that writes, one that is done and not answered, while the kill there is one that is not done. It
kills at no reads: a run leaves nothing anywhere else, so what a kill at a read leaves, the one at the next write does.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from email.utils import formatdate
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import certifi
import httpx
import pytest
from sync_scenarios import SCENARIOS, STATES, Ground, Scenario, go_through, undisturbed_calls
from sync_site import CALLS, Site, prove_quickly

from flagedge.errors import FlagedgeError
from local_edge.server import LocalEdge
from sync_job import fetch, job
from sync_job.job import RunOptions
from sync_job.token_keys import FIRST_NAME

MATRIX = os.environ.get("FAULT_MATRIX", "1")
IS_FULL = MATRIX == "full"
READ_S = 0.25
"""How long the answer to a struck call is waited for."""
KINDS: Mapping[str, Callable[[], dict[str, Any]]] = {
    "timeout": lambda: {"kind": "timeout"},
    "reset": lambda: {"kind": "reset"},
    "429 with seconds": lambda: {"kind": "status", "status": 429, "retry_after": 2},
    "429 with a date": lambda: {
        "kind": "status",
        "status": 429,
        "retry_after": formatdate(time.time() + 2, usegmt=True),
    },
    "500 with a page": lambda: {"kind": "html", "status": 500},
    "200 that says no": lambda: {"kind": "success_false"},
    "403": lambda: {"kind": "status", "status": 403},
    "changed by another": lambda: {"kind": "status", "status": 400, "code": 10035},
    "truncated": lambda: {"kind": "truncate"},
    "lost": lambda: {"kind": "lost"},
}
DONE = ("truncated", "lost")
"""What is done although there is no answer."""
PEM_END = "-----END CERTIFICATE-----\n"
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
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with LocalEdge(dir=folder / "edge", grace_s=4.0, worker_port=port) as edge:
        yield Ground(edge, folder, probe_url=f"http://127.0.0.1:{port}")


@pytest.fixture(autouse=True)
def hasty(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits long for the CDN, for a proof of what the visitor sees, or for the world's certificates to load."""
    prove_quickly(monkeypatch)
    certificates = ground.folder / "one.pem"
    certificates.write_text(Path(certifi.where()).read_text().partition("-----END CERTIFICATE-----")[0] + PEM_END)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates))
    monkeypatch.setattr(fetch, "_TIMEOUT", httpx.Timeout(5, read=2 * READ_S))
    monkeypatch.setattr(fetch, "_RETRY_WAITS_S", (0, 0))


def draw_faults(scenario: Scenario, number: int, call: str) -> list[tuple[str, str]]:
    """The ways in which a call is to fail: kinds, and how often they strike."""
    if IS_FULL:
        return list(itertools.product(KINDS, TIMES))
    draw = random.Random(f"{MATRIX} {scenario.name} {number}")
    return [(draw.choice(list(KINDS) if call.startswith("GET") else DONE), draw.choice(list(TIMES)))]


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


def test_a_rotated_key_counts_from_when_it_seals(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a rotation fails and the next run promotes the key, the one before is needed as long as it has sealed."""
    site = ground.new_site()
    site.publish(STATES["old"])
    site.run()
    site.edge.set_faults({"match": "POST .*/deployments$", "kind": "reset", "times": 4})
    with pytest.raises(FlagedgeError):
        site.run(RunOptions(rotate_key=True), sleep=lambda _: None)
    later_s = time.time() + 5000
    monkeypatch.setattr(job, "time", SimpleNamespace(time=lambda: later_s, monotonic=time.monotonic))
    site.run()
    old, new = json.loads(site.bound_texts()["RESOLVE_TOKEN_KEYS"])
    assert (old["since_s"] < later_s - 4000, new["since_s"]) == (True, int(later_s))
    site.remove()


def test_what_is_gone_was_deleted(ground: Ground) -> None:
    """A key is retired once, also when the answer to that is lost and the call is made again."""
    site = ground.new_site()
    site.publish(STATES["old"])
    site.run()
    site.run(RunOptions(rotate_key=True))
    site.edge.set_faults({"match": "DELETE .*/secrets/", "kind": "lost"})
    with site.start("keys", "retire", FIRST_NAME, "--force") as process:
        _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert FIRST_NAME not in site.bound_texts()
    site.remove()


@pytest.mark.parametrize(
    ("status", "headers"),
    [(200, {"content-encoding": "gzip"}), (302, {"location": "https://cdn.example/again?signature=private"})],
    ids=["garbled", "going round in circles"],
)
def test_a_state_that_cannot_be_read_is_an_error_of_ours(status: int, headers: dict[str, str]) -> None:
    """However the CDN fails, it is a FlagedgeError that names the host and no more of the URL."""
    url = "https://reader:private@cdn.example/state?signature=private"

    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(status, headers=headers, stream=httpx.ByteStream(b"this is no gzip"))

    with pytest.raises(FlagedgeError, match=r"cdn\.example") as raised:
        fetch.fetch_state(url, transport=httpx.MockTransport(answer))
    assert "private" not in str(raised.value)
