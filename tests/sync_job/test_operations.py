"""What an operator does besides running: keys, status, settings, a dry run, pass after pass."""

from __future__ import annotations

import base64
import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import shop
from sync_command import WORKER, Sync

from flagedge.errors import ApiError
from sync_job.deadline import Deadline, OutOfTimeError
from sync_job.lease_places import open_lease
from sync_job.repeat import run_repeatedly


def test_rotation_fails_no_token_in_flight(sync: Sync) -> None:
    """Tokens of before and after a rotation apply; the old ones fail once their key was retired, and only by force."""
    sync.operator.environ["FORCE_APPLY"] = "false"
    sync.run()
    before = sync.resolve_token()
    code, out, err = sync.command("keys", "rotate")
    assert (code, out.split(":")[0]) == (0, "deployed"), err
    after = sync.resolve_token()
    kid = [base64.b64decode(token)[1:5].hex() for token in (before, after)]
    assert kid[0] != kid[1]
    assert [sync.apply_status(token) for token in (before, after)] == [200, 200]

    code, listed, _ = sync.command("keys", "list")
    assert [line.split(",")[0] for line in listed.splitlines()] == [
        f"{kid[1]}: seals and opens",
        f"{kid[0]}: opens",
    ]
    code, _, err = sync.command("keys", "retire", kid[0])
    assert (code, "may still be in use" in err) == (1, True)
    assert sync.command("keys", "retire", kid[0], "--force")[0] == 0
    assert [sync.apply_status(token) for token in (before, after)] == [400, 200]
    assert sync.run("--json")[0] == 0
    assert sync.apply_status(after) == 200


def test_a_given_key_is_not_rotated(sync: Sync) -> None:
    """Who manages the key in a setting is told to change it there."""
    key = base64.b64encode(bytes(16)).decode()
    sync.run(RESOLVE_TOKEN_ENCRYPTION_KEY=key)
    code, _, err = sync.command("keys", "rotate", RESOLVE_TOKEN_ENCRYPTION_KEY=key)
    assert code == 1
    assert "given by RESOLVE_TOKEN_ENCRYPTION_KEY" in err


def test_status_before_and_after(sync: Sync) -> None:
    """It tells what is served, since when, by which versions, with which keys, and how long the queue is."""
    code, out, _ = sync.command("status")
    assert (code, "not deployed" in out) == (0, True)
    _, out, _ = sync.run("--json")
    etag = json.loads(out)["etag"]
    sync.resolve(visitor_id="v")
    _, out, _ = sync.command("status", "--json")
    status = json.loads(out)
    assert (status["is_deployed"], status["etag"], status["state_account"]) == (True, etag, shop.ACCOUNT)
    assert [share for _, share in status["versions"]] == [100]
    assert len(status["token_keys"]) == 1
    assert 0 <= status["age_s"] < 600
    assert status["backlog_count"] >= 0
    code, text, _ = sync.command("status")
    assert etag in text
    assert "seals and opens" in text


def test_settings_are_shown_with_their_source(sync: Sync) -> None:
    """Every setting, secrets masked, the environment told from defaults; wrong ones end with exit 2."""
    code, out, _ = sync.command("settings")
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert code == 0
    assert lines["CONFIDENCE_CLIENT_SECRET"].split()[1:] == ["***", "[environment]"]
    assert lines["LOG_LINGER_MS"].split()[1:] == ["250", "[default]"]
    assert shop.WEB_SECRET not in out
    code, _, err = sync.command("settings", FORCE_APPLY="maybe")
    assert (code, "FORCE_APPLY" in err) == (2, True)


def test_no_deploy_checks_and_writes_nothing(sync: Sync) -> None:
    """The state is fetched and compiled; no call but reads, no lease."""
    sync.requests()
    code, out, _ = sync.run("--json", NO_DEPLOY="1", LEASE="/proc/nowhere/lease")
    assert (code, json.loads(out)["outcome"]) == (0, "checked")
    assert all(call.startswith("GET") for call in sync.requests())


def test_a_run_leaves_cleanly_while_another_deploys(sync: Sync, tmp_path: Path) -> None:
    """Who does not get the lease touches nothing and ends with exit 0."""
    place = str(tmp_path / "lease")
    sync.requests()
    with open_lease(place, "x"):
        code, out, _ = sync.run(LEASE=place)
    assert (code, out.startswith("left alone")) == (0, True)
    assert all(call.startswith("GET") for call in sync.requests())


def test_a_lease_that_is_no_place_is_a_wrong_setting(sync: Sync) -> None:
    """It is reported with all others, before anything is asked."""
    code, _, err = sync.run(LEASE="s3://bucket-without-a-key", FORCE_APPLY="maybe")
    assert code == 2
    assert "LEASE" in err
    assert "FORCE_APPLY" in err


def test_another_accounts_state_needs_force(sync: Sync) -> None:
    """A state of a stranger does not replace the one that is live; `--force` says that it is meant."""
    sync.run()
    before = sync.resolve(visitor_id="v")
    sync.operator.publish(shop.shop_payload(account="somebody-else"))
    code, _, err = sync.run()
    assert code == 1
    assert "somebody-else" in err
    assert sync.resolve(visitor_id="v") == before
    assert sync.run("--force")[0] == 0


def test_extra_metadata_reaches_the_script(sync: Sync, tmp_path: Path) -> None:
    """Variables are bound, observability is set, tag and message stand at the version."""
    path = tmp_path / "append.toml"
    path.write_text('[observability]\nenabled = false\n[vars]\nREGION = "eu"\n')
    settings = {"WRANGLER_CONFIG_APPEND_FILE": str(path), "WRANGLER_DEPLOY_TAG": "v7"}
    sync.run(**settings)
    sync.operator.publish(shop.changed_shop_payload())
    sync.run(**settings)
    api = f"{sync.operator.edge.api_url}/accounts/{sync.account_id()}/workers/scripts/{WORKER}"
    headers = {"authorization": "Bearer t"}
    settings_now: dict[str, Any] = httpx.get(f"{api}/settings", headers=headers).json()["result"]
    assert {"type": "plain_text", "name": "REGION", "text": "eu"} in settings_now["bindings"]
    assert settings_now["observability"]["enabled"] is False
    assert settings_now["tags"] == []
    versions = httpx.get(f"{api}/versions", headers=headers).json()["result"]["items"]
    assert versions[0]["annotations"]["workers/tag"] == "v7"


def test_out_of_time() -> None:
    """A step that could not end in time is not begun."""
    deadline = Deadline(at_s=100, clock=lambda: 80)
    deadline.require(20, step="deploy")
    with pytest.raises(OutOfTimeError, match=r"20 s are left, and to deploy may take 21 s"):
        deadline.require(21, step="deploy")


def test_passes_go_on_after_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    """A failed pass is one error line, the next one tries again, and the last one decides the exit code."""
    outcomes = iter([None, ApiError("it failed"), None])
    passes = []

    def once() -> None:
        passes.append(True)
        if error := next(outcomes):
            raise error
        if len(passes) == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    assert run_repeatedly(once, every_s=0.02) == 0
    assert (len(passes), capsys.readouterr().err) == (3, "error: it failed\n")


def test_no_pass_begins_too_late() -> None:
    """One that would is left to the next start."""
    passes = []
    assert run_repeatedly(lambda: passes.append(True), every_s=60, lasting_s=59) == 0
    assert len(passes) == 1


def test_sigterm_ends_after_the_pass_under_way() -> None:
    """The pass that runs is finished; the wait for the next one is cut short."""
    passes = []

    def once() -> None:
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM)).start()
        time.sleep(0.15)
        passes.append(True)

    began_s = time.monotonic()
    assert run_repeatedly(once, every_s=60) == 0
    assert passes == [True]
    assert time.monotonic() - began_s < 30


def test_explain_says_why(sync: Sync) -> None:
    """What the Worker answers, and the rules on the way there; the state is the one that the CDN serves."""
    sync.run()
    context = '{"visitor_id": "v"}'
    code, out, _ = sync.command("explain", "--flag", "checkout-layout", "--context", context, "--json")
    answer = json.loads(out)
    assert code == 0
    assert answer["variant"] == sync.resolve(visitor_id="v")["flags/checkout-layout"]
    code, out, _ = sync.command("explain", "--flag", "checkout-layout", "--context", context)
    assert (code, "rule experiment: matched" in out) == (0, True)
    code, _, err = sync.command("explain", "--flag", "checkout-layout", "--context", "{")
    assert (code, err.startswith("error: ")) == (1, True)
