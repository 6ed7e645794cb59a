"""`sync-job run` against an account on loopback: what it writes, what it leaves alone, how it fails."""

from __future__ import annotations

import json

import httpx
import pytest
import shop
from builders import encrypt_payload
from sync_command import WORKER, Sync

from sync_job.cli import main


def test_first_run_deploys(sync: Sync) -> None:
    """From an empty account to a Worker that resolves: queue, pull consumer, key, script and workers.dev are made."""
    code, out, _ = sync.run("--json")
    result = json.loads(out)
    assert code == 0
    assert result["outcome"] == "deployed"
    assert result["flag_count"] == 6
    assert sync.resolve(visitor_id="v")["flags/live-chat"].endswith("/off")


def test_unchanged_run_is_two_requests(sync: Sync) -> None:
    """With the account id given, a run that finds nothing new asks twice and writes nothing."""
    sync.run()
    account_id = sync.account_id()
    sync.requests()
    code, out, _ = sync.run("--json", CLOUDFLARE_ACCOUNT_ID=account_id)
    calls = sync.requests()
    assert (code, json.loads(out)["outcome"]) == (0, "unchanged")
    assert len(calls) == 2
    assert all(call.startswith("GET") for call in calls)


def test_changed_state_is_deployed(sync: Sync) -> None:
    """A new entity tag leads to a new plan and new answers."""
    sync.run()
    sync.operator.publish(shop.changed_shop_payload())
    _, out, _ = sync.run("--json")
    result = json.loads(out)
    assert result["outcome"] == "deployed"
    assert result["etag"] != result["previous_etag"] != ""
    assert sync.resolve(visitor_id="v")["flags/live-chat"].endswith("/on")


def test_changed_setting_is_deployed_although_the_state_is_not_new(sync: Sync) -> None:
    """What is live is compared by settings too, not by the state alone."""
    sync.run()
    _, out, _ = sync.run("--json", CONFIDENCE_RESOLVER_ALLOWED_ORIGIN="https://shop.example")
    assert json.loads(out)["outcome"] == "deployed"
    answer = httpx.get(f"{sync.operator.edge.worker_url(WORKER)}/v1/health")
    assert answer.headers["access-control-allow-origin"] == "https://shop.example"


def test_token_key_is_made_once(sync: Sync) -> None:
    """The first upload carries a token key; later ones keep it, so that tokens in flight stay good."""
    sync.run()
    first = _stored_token_key(sync)
    sync.operator.publish(shop.changed_shop_payload())
    sync.run()
    assert first
    assert _stored_token_key(sync) == first


def _stored_token_key(sync: Sync) -> str:
    bindings = sync.operator.edge.edge.scripts.live(WORKER).bindings
    return next(str(item["text"]) for item in bindings if item["name"] == "RESOLVE_TOKEN_ENCRYPTION_KEY")


def test_sticky_assignments_are_kept_in_kv(sync: Sync) -> None:
    """Switched on, a namespace is made once and bound; the Worker says so."""
    sync.run(ENABLE_STICKY_ASSIGNMENTS="1")
    sync.run("--force", ENABLE_STICKY_ASSIGNMENTS="1")
    health = httpx.get(f"{sync.operator.edge.worker_url(WORKER)}/v1/health").json()
    assert (health["status"], health["materializations"]) == ("ok", "bound")
    assert sum(call == "POST namespaces" for call in sync.requests()) == 1


def test_encrypted_state(sync: Sync) -> None:
    """With a state key the state is opened before anything else is done with it."""
    key = "ab" * 32
    sync.operator.publish(encrypt_payload(shop.shop_payload(), key), encrypted=True)
    code, _, _ = sync.run(STATE_ENCRYPTION_KEY=key)
    assert code == 0
    assert sync.resolve(visitor_id="v")


@pytest.mark.parametrize(
    ("state", "says"),
    [
        (b"", "empty"),
        (b"<html>502</html>", "HTML"),
        (shop.shop_payload()[:-100], "not a ClientResolverState"),
        (encrypt_payload(shop.shop_payload(), "ab" * 32), "STATE_ENCRYPTION_KEY"),
    ],
)
def test_bad_state_leaves_the_live_worker_alone(sync: Sync, state: bytes, says: str) -> None:
    """A state that cannot be one ends the run with its reason; what is live keeps serving."""
    sync.run()
    before = sync.resolve(visitor_id="v")
    sync.operator.publish(state)
    sync.requests()
    code, _, err = sync.run()
    assert code == 1
    assert says in err.splitlines()[-1]
    assert not [call for call in sync.requests() if not call.startswith("GET")]
    assert sync.resolve(visitor_id="v") == before


def test_wrong_state_key(sync: Sync) -> None:
    """A state that does not open with the key is refused, and the key is not printed."""
    sync.operator.publish(encrypt_payload(shop.shop_payload(), "ab" * 32), encrypted=True)
    code, _, err = sync.run(STATE_ENCRYPTION_KEY="cd" * 32)
    assert code == 1
    assert "does not open with STATE_ENCRYPTION_KEY" in err
    assert "cdcdcd" not in err


def test_settings_are_reported_all_at_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Every problem stands in the one error line, the exit code is 2, and no value of a secret is shown."""
    for name, value in {
        "RESOLVE_TOKEN_ENCRYPTION_KEY": "not base64!",
        "STATE_ENCRYPTION_KEY": "feed",
        "FORCE_APPLY": "maybe",
    }.items():
        monkeypatch.setenv(name, value)
    assert main(["run"]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    for name in (
        "CLOUDFLARE_API_TOKEN",
        "CONFIDENCE_CLIENT_SECRET",
        "RESOLVE_TOKEN_ENCRYPTION_KEY",
        "STATE_ENCRYPTION_KEY",
        "FORCE_APPLY",
    ):
        assert name in error
    assert "not base64!" not in error


def test_dead_network(sync: Sync) -> None:
    """An API that cannot be reached is one clear line and exit 1."""
    code, _, err = sync.run(CLOUDFLARE_API_BASE_URL="http://127.0.0.1:9", CLOUDFLARE_ACCOUNT_ID="a" * 32)
    assert code == 1
    assert err.strip().splitlines()[-1].startswith("error: ")


def test_failed_read_never_leads_to_a_write(sync: Sync) -> None:
    """When what is live cannot be read, the run ends before it fetches, and no key is made."""
    httpx.post(
        f"{sync.operator.edge.url}/local/faults",
        json=[{"match": "GET .*/settings", "times": 99, "kind": "status", "status": 403}],
    )
    code, _, _ = sync.run()
    assert code == 1
    assert not [call for call in sync.requests() if not call.startswith("GET")]


def test_no_secret_in_any_output(sync: Sync) -> None:
    """Neither token nor client secret nor key is printed or logged by a run."""
    key = "AAECAwQFBgcICQoLDA0ODw=="
    _, out, err = sync.run(LOG_LEVEL="debug", RESOLVE_TOKEN_ENCRYPTION_KEY=key)
    for secret in ("token-of-the-operator", shop.WEB_SECRET, key):
        assert secret not in out + err
