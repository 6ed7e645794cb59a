"""Rolling back: an earlier state goes live and stays, by the same lease, gate and checks as any other."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import shop
from sync_command import WORKER, Sync

from sync_job import fetch, prepare
from sync_job.compile import compile_plan
from sync_job.decode import decode_state
from sync_job.lease_places import open_lease

FIRST, SECOND = shop.shop_payload(), shop.changed_shop_payload()
THIRD = shop.shop_payload(checkout_split=(10, 10, 80))
STATES = {"first": FIRST, "second": SECOND, "third": THIRD}
ETAGS = {name: f'"{hashlib.sha256(state).hexdigest()}"' for name, state in STATES.items()}
ORIGIN = {"CONFIDENCE_RESOLVER_ALLOWED_ORIGIN": "https://shop.example"}


@dataclass
class History:
    """A Worker that served one state after the other."""

    sync: Sync

    def publish(self, state: bytes) -> None:
        self.sync.operator.publish(state)

    def run(self, *arguments: str, **settings: str) -> dict[str, Any]:
        """The result of a command that succeeds."""
        code, out, err = self.sync.command(*arguments, "--json", **settings)
        assert code == 0, err
        result: dict[str, Any] = json.loads(out)
        return result

    def fail(self, *arguments: str, **settings: str) -> str:
        """The last line of a command that fails, and leaves what is live alone."""
        before = self.served()
        code, _, err = self.sync.command(*arguments, **settings)
        assert code == 1
        assert self.served() == before
        return err.splitlines()[-1]

    def served(self) -> str:
        """The name of the state that is live, as the Worker says."""
        etag = httpx.get(f"{self.sync.operator.edge.worker_url(WORKER)}/v1/state:etag").json()["etag"]
        return next(name for name, known in ETAGS.items() if known == etag)

    @property
    def archive(self) -> Path:
        return Path(self.sync.operator.environ["STATE_ARCHIVE"])


@pytest.fixture
def history(sync: Sync, monkeypatch: pytest.MonkeyPatch) -> History:
    """The first state was live, then the second one."""
    monkeypatch.setattr(fetch, "_RETRY_WAITS_S", (0, 0))
    history = History(sync)
    history.run("run")
    history.publish(SECOND)
    history.run("run")
    assert history.served() == "second"
    return history


def test_a_rollback_stays_until_the_cdn_serves_a_new_state(history: History) -> None:
    """Runs after it find nothing to do, by two requests, until Confidence publishes something."""
    result = history.run("rollback")
    assert (result["outcome"], result["etag"], result["rolled_back_from"]) == (
        "deployed", ETAGS["first"], ETAGS["second"],
    )  # fmt: skip
    assert history.served() == "first"
    account_id = history.sync.account_id()
    history.sync.requests()
    assert history.run("run", CLOUDFLARE_ACCOUNT_ID=account_id)["outcome"] == "unchanged"
    assert len(history.sync.requests()) == 2
    history.publish(THIRD)
    assert history.run("run")["rolled_back_from"] == ""
    assert history.served() == "third"
    assert history.run("run")["outcome"] == "unchanged"


def test_a_rollback_survives_settings_and_keys(history: History) -> None:
    """What is deployed again for other reasons is the state that was rolled back to."""
    history.run("rollback")
    result = history.run("run", **ORIGIN)
    assert (result["outcome"], result["rolled_back_from"]) == ("deployed", ETAGS["second"])
    answer = httpx.get(f"{history.sync.operator.edge.worker_url(WORKER)}/v1/health")
    assert answer.headers["access-control-allow-origin"] == "https://shop.example"
    assert history.sync.command("keys", "rotate", **ORIGIN)[0] == 0
    assert history.run("run", FORCE_DEPLOY="1")["rolled_back_from"] == ETAGS["second"]
    assert history.served() == "first"


@pytest.mark.parametrize("arguments", [("rollback", "--clear"), ("run", "--force")], ids=" ".join)
def test_an_operator_ends_a_rollback(history: History, arguments: tuple[str, ...]) -> None:
    """The CDN's state is live again, and stays."""
    history.run("rollback")
    assert history.run(*arguments)["outcome"] == "deployed"
    assert history.served() == "second"
    assert history.run("run")["outcome"] == "unchanged"
    assert history.run("rollback", "--clear")["outcome"] == "unchanged"


def test_rolling_back_twice_goes_further_back(history: History) -> None:
    """Not forth again; and what the CDN serves stays away all the while."""
    history.publish(THIRD)
    history.run("run")
    assert history.run("rollback")["etag"] == ETAGS["second"]
    result = history.run("rollback")
    assert (result["etag"], result["rolled_back_from"]) == (ETAGS["first"], ETAGS["third"])
    assert "does not know what was live before" in history.fail("rollback")
    assert history.run("run")["outcome"] == "unchanged"


def test_a_state_can_be_named(history: History) -> None:
    """By its entity tag, which a shell may have stripped of its quotes; one that the CDN serves needs no pin."""
    assert history.run("rollback", "--to", ETAGS["first"].strip('"'))["etag"] == ETAGS["first"]
    assert history.run("rollback", "--to", ETAGS["first"])["outcome"] == "unchanged"
    assert history.run("rollback", "--to", ETAGS["second"])["rolled_back_from"] == ""
    assert history.run("run")["outcome"] == "unchanged"


def test_a_state_that_is_published_again_needs_no_pin(history: History) -> None:
    """When Confidence goes back, too, the next change after that is deployed like any."""
    history.run("rollback")
    history.publish(FIRST)
    assert history.run("run")["rolled_back_from"] == ""
    history.publish(SECOND)
    history.run("run")
    assert history.served() == "second"


def test_without_the_cdn(history: History) -> None:
    """A rollback needs the archive alone. So does a changed setting, whose state is live already."""
    history.sync.operator.edge.set_faults({"match": "GET /cdn/", "times": 99, "kind": "reset"})
    assert history.run("run", **ORIGIN)["etag"] == ETAGS["second"]
    assert history.run("rollback", **ORIGIN)["etag"] == ETAGS["first"]
    assert "could not be fetched" in history.fail("run", **ORIGIN)
    assert "could not be fetched" in history.fail("rollback", "--clear", **ORIGIN)


def test_a_changed_setting_without_cdn_and_archive_fails(history: History) -> None:
    """There is no state to deploy; what is live goes on."""
    history.sync.operator.edge.set_faults({"match": "GET /cdn/", "times": 99, "kind": "reset"})
    assert "could not be fetched" in history.fail("run", STATE_ARCHIVE="off", **ORIGIN)


def test_a_changed_setting_does_not_ask_for_the_state_again(history: History) -> None:
    """The CDN says 304, the archive has it; without an archive it is fetched."""
    asked = []
    for settings in (ORIGIN, {"STATE_ARCHIVE": "off"}):
        history.sync.requests()
        result = history.run("run", **settings)
        assert (result["outcome"], result["etag"]) == ("deployed", ETAGS["second"])
        calls = history.sync.operator.edge.take_requests()
        asked.append(sum(call["path"].startswith("/cdn/") for call in calls))
    assert asked == [1, 2]


def test_an_archive_that_cannot_be_used_stops_no_deployment(history: History) -> None:
    """But it is said; and it stops a rollback, before anything is written."""
    history.publish(THIRD)
    code, _, err = history.sync.run(STATE_ARCHIVE="/dev/null")
    assert code == 0
    assert "state.not_archived" in err
    assert "cannot be used" in history.fail("rollback", STATE_ARCHIVE="/dev/null")
    assert "no archive of states is kept" in history.fail("rollback", STATE_ARCHIVE="off")
    assert f"has no state {ETAGS['third']}" in history.fail("rollback")


def test_a_rollback_whose_state_is_lost_says_so(history: History) -> None:
    """A changed setting cannot be deployed then; nothing else is deployed instead."""
    history.run("rollback")
    for file in history.archive.rglob("*.state"):
        file.write_bytes(file.read_bytes()[:-1])
    assert "and the archive does not have it any more" in history.fail("run", **ORIGIN)
    history.run("rollback", "--clear", **ORIGIN)
    assert history.served() == "second"


def test_a_damaged_entry_is_mended_by_the_next_deployment(history: History) -> None:
    """What is live comes from the CDN then, and is kept anew; only what was live before it is not known any more."""
    for file in history.archive.rglob("*.state"):
        file.write_bytes(b"rubbish")
    assert history.run("run", **ORIGIN)["etag"] == ETAGS["second"]
    asked = ("explain", "--flag", "live-chat", "--context", '{"visitor_id": "v"}', "--etag")
    assert history.run(*asked, ETAGS["second"])["variant"] == "flags/live-chat/variants/on"
    assert "is damaged" in history.fail(*asked, ETAGS["first"])
    assert "does not know what was live before" in history.fail("rollback")


def test_what_cannot_be_rolled_back(history: History, tmp_path: Path) -> None:
    """Each with its reason, and the way out."""
    assert "The latest are" in history.fail("rollback", "--to", "unheard-of")
    lease = str(tmp_path / "lease")
    with open_lease(lease, ""):
        assert "try again in a moment" in history.fail("rollback", LEASE=lease)
    code, _, err = history.sync.command("rollback", WORKER_NAME_PREFIX="another")
    assert (code, "no state of ours is live" in err) == (1, True)


def test_a_rollback_is_proved(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gate holds it against the official resolver; with NO_DEPLOY it is compiled only."""
    proving = {"PROBE_URL": history.sync.operator.edge.worker_url(WORKER)}
    assert history.run("rollback", NO_DEPLOY="1", **proving)["outcome"] == "checked"
    stale = compile_plan(decode_state(SECOND), etag=ETAGS["first"])
    monkeypatch.setattr(prepare, "compile_plan", lambda *_, **__: stale)
    assert "by the official resolver" in history.fail("rollback", **proving)
    monkeypatch.undo()
    code, _, err = history.sync.command("rollback", **proving)
    assert code == 0
    assert "version.proved" in err
    assert history.served() == "first"


def test_after_a_version_that_was_refused(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is rolled back is what is served, not what was uploaded last; the refused state is tried again, from the
    archive, where it lies already.
    """
    wrong = compile_plan(decode_state(FIRST), etag=ETAGS["third"])
    monkeypatch.setattr(prepare, "compile_plan", lambda *_, **__: wrong)
    history.publish(THIRD)
    assert "by the official resolver" in history.fail("run", PROBE_URL=history.sync.operator.edge.worker_url(WORKER))
    [kept] = history.archive.rglob(f"{quote(ETAGS['third'], safe='')}.state")
    written_at_ns = kept.stat().st_mtime_ns
    assert "by the official resolver" in history.fail("run", PROBE_URL=history.sync.operator.edge.worker_url(WORKER))
    assert kept.stat().st_mtime_ns == written_at_ns
    monkeypatch.undo()
    result = history.run("rollback")
    assert (result["etag"], result["previous_etag"], result["rolled_back_from"]) == (
        ETAGS["first"], ETAGS["second"], ETAGS["second"],
    )  # fmt: skip
    history.run("run")
    assert history.served() == "third"


def test_tokens_stay_good_across_a_rotation_and_a_rollback(history: History) -> None:
    """An old state goes live with the keys of today: all tokens open, and new ones are sealed with the newest key."""
    history.sync.operator.environ["FORCE_APPLY"] = "false"
    history.publish(FIRST)
    history.run("run")
    tokens = [history.sync.resolve_token()]
    history.publish(SECOND)
    history.run("run")
    assert history.sync.command("keys", "rotate")[0] == 0
    tokens.append(history.sync.resolve_token())
    assert history.run("rollback")["etag"] == ETAGS["first"]
    tokens.append(history.sync.resolve_token())
    assert [history.sync.apply_status(token) for token in tokens] == [200, 200, 200]
    history.run("rollback", "--clear")
    assert [history.sync.apply_status(token) for token in tokens] == [200, 200, 200]


def test_status_and_run_tell_of_a_rollback(history: History) -> None:
    """Nobody should have to guess why the CDN's state is not live."""
    history.run("rollback")
    assert history.run("status")["rolled_back_from"] == ETAGS["second"]
    assert f"rolled back   from {ETAGS['second']}" in history.sync.command("status")[1]
    assert f"(rolled back from {ETAGS['second']})" in history.sync.run()[1]
    history.run("rollback", "--clear")
    assert "rolled back" not in history.sync.command("status")[1]


def test_explain_by_entity_tag(history: History) -> None:
    """What a visitor got last Tuesday is explained by the state of that day."""
    asked = ("explain", "--flag", "live-chat", "--context", '{"visitor_id": "v"}')
    answers = [history.run(*asked, "--etag", etag)["variant"] for etag in (ETAGS["first"], ETAGS["second"].strip('"'))]
    assert answers == ["flags/live-chat/variants/off", "flags/live-chat/variants/on"]
    code, _, err = history.sync.command(*asked, "--etag", "unheard-of")
    assert (code, "has no state unheard-of" in err) == (1, True)
