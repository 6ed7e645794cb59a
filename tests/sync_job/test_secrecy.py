"""No secret, of the settings or of the state, is anywhere but in the Worker's secret bindings."""

from __future__ import annotations

import base64
import gzip
import json
import logging
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import shop
from builders import client, credential, encrypt_payload, payload, state
from operators import API_TOKEN
from sync_command import WORKER, Sync

from flagedge.cloudflare import Cloudflare
from flagedge.errors import FlagedgeError
from flagedge.logs import configure_logs
from sync_job import fetch, gate
from sync_job.assemble import DeployedFacts, assemble_upload
from sync_job.compile import compile_plan
from sync_job.decode import decode_state
from sync_job.fetch import FetchedState
from sync_job.handler import handler
from sync_job.job import RunOptions
from sync_job.lease_places import open_lease
from sync_job.settings import SyncSettings, read_sync_settings
from sync_job.token_keys import choose_keys
from sync_job.workers_api import WorkersApi

TOKEN_KEY = base64.b64encode(b"the token's key!").decode()
STATE_KEY = b"the state's key, of 32 bytes....".hex()
SETTINGS = {
    "RESOLVE_TOKEN_ENCRYPTION_KEY": TOKEN_KEY,
    "STATE_ENCRYPTION_KEY": STATE_KEY,
    "WEBHOOK_SECRET": "webhook-secret-of-the-operator",
    "LOG_LEVEL": "debug",
    "FORCE_APPLY": "false",
    "ENABLE_STICKY_ASSIGNMENTS": "true",
    "ENABLE_METRICS": "true",
}
SECRETS = {
    "the API token": API_TOKEN,
    "the client secret": shop.WEB_SECRET,
    "another client's secret": shop.MOBILE_SECRET,
    "the token key": TOKEN_KEY,
    "the state key": STATE_KEY,
    "the webhook's secret": SETTINGS["WEBHOOK_SECRET"],
    "the state URL's password": "password-in-the-url",
    "the state URL's signature": "signature-in-the-url",
}


def find_secrets(data: str | bytes, more: Mapping[str, str] | None = None) -> list[str]:
    """The names of the secrets that the data holds, in any of the forms that a secret takes."""
    content = data.encode() if isinstance(data, str) else data
    return [
        name for name, secret in (SECRETS | dict(more or {})).items() if any(each in content for each in forms(secret))
    ]


def forms(secret: str) -> Iterator[bytes]:
    """As it is, quoted for a URL, in base 64 and in hexadecimal; and what it stands for where it is such a text."""
    raws = [secret.encode()]
    for decode in (lambda text: base64.b64decode(text, validate=True), bytes.fromhex):
        try:
            raws.append(decode(secret))
        except ValueError:
            continue
    for raw in raws:
        yield raw
        yield raw.hex().encode()
        # At any offset: the ends depend on what stands around it.
        yield from (base64.b64encode(bytes(skip) + raw)[skip + 2 : -4] for skip in range(3))
    yield quote(secret, safe="").encode()


@pytest.fixture
def secretive(sync: Sync, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sync:
    """An operator with every secret there is, whose home and working directory are empty."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("TMPDIR", str(home))
    monkeypatch.chdir(home)
    publish(sync, shop.shop_payload())
    sync.operator.environ |= SETTINGS
    return sync


def publish(sync: Sync, built: bytes) -> None:
    """Encrypted, at an address that holds secrets itself."""
    sync.operator.publish(encrypt_payload(built, STATE_KEY), encrypted=True)
    url = httpx.URL(sync.operator.environ["CONFIDENCE_RESOLVER_STATE_URL"])
    secretive = url.copy_with(userinfo=b"reader:password-in-the-url", query=b"signature=signature-in-the-url")
    sync.operator.environ["CONFIDENCE_RESOLVER_STATE_URL"] = str(secretive)


def test_the_search_finds_secrets() -> None:
    """Each form of each secret is found, in a text around it, so finding none means something."""
    for name, secret in SECRETS.items():
        for text in (secret, quote(secret), secret.encode().hex()):
            assert name in find_secrets(f"<{text}>")
        for around in ("", "x", "xy"):
            assert name in find_secrets(base64.b64encode(f"{around}{secret}{around}.".encode()))
    assert find_secrets(b"the token's key!") == ["the token key"]
    assert find_secrets("nothing") == []


def live_a_life(sync: Sync, folder: Path) -> list[str]:
    """Every command, over a first deployment, traffic, a changed state and a rotated key; what they said."""
    state_file = folder / "state.pb"
    state_file.write_bytes(encrypt_payload(shop.shop_payload(), STATE_KEY))
    said: list[str] = []

    def run(*arguments: str, **settings: str) -> str:
        code, out, err = sync.command(*arguments, **settings)
        assert code == 0, err
        said.append(out + err)
        return out

    run("run", NO_DEPLOY="1")
    run("run")
    run("run", "--json")
    sync.resolve(visitor_id="v")
    publish(sync, shop.changed_shop_payload())
    run("run", "--json")
    run("rollback")
    run("rollback", "--clear")
    run("run", "--force")
    without_key = {"RESOLVE_TOKEN_ENCRYPTION_KEY": ""}
    run("keys", "rotate", **without_key)
    kid = run("keys", "list").splitlines()[-1].split(":")[0]
    run("keys", "retire", kid, "--force", **without_key)
    run("run", **without_key)
    run("status")
    run("status", "--json")
    run("settings")
    run("types", "--out", str(folder / "flags.d.ts"))
    run("build", "--state", str(state_file), "--out", str(folder / "built"))
    sync.resolve(visitor_id="v")
    time.sleep(0.5)  # for the Worker's log
    return said


def test_nothing_is_left_anywhere(secretive: Sync, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Outputs and logs of every command, what is uploaded, stored, sent and written: no secret, in no form."""
    caplog.set_level(logging.DEBUG)
    output = tmp_path / "output"
    output.mkdir()
    said = live_a_life(secretive, output)
    (output / "state.pb").unlink()
    account, folder = secretive.operator.edge.edge, secretive.operator.edge.directory
    scripts = account.scripts
    versions = [asdict(version) for version in scripts.versions(WORKER)]
    made_keys = {
        f"a key that was made, {binding['name']}": binding["text"]
        for version in versions
        for binding in version["bindings"]
        if binding["type"] == "secret_text" and binding["name"].startswith("RESOLVE_TOKEN_")
    }
    assert len(made_keys) == 2
    assert find_secrets(json.dumps(versions), made_keys) == ["the client secret", "the token key", *made_keys]
    for version in versions:
        version["bindings"] = [binding for binding in version["bindings"] if binding["type"] != "secret_text"]
    places: dict[str, str | bytes] = {
        "output": "\n".join(said),
        # Not uvicorn's, which is the account's.
        "logs of libraries": "\n".join(
            record.getMessage() for record in caplog.records if not record.name.startswith("uvicorn")
        ),
        "versions": json.dumps(versions),
        "deployments": str(scripts.deployments(WORKER)),
        "script": str(scripts.get(WORKER)),
        "requests": str(account.store.db.execute("select key, value, metadata from pairs").fetchall()),
        "queue": str(account.store.db.execute("select fragment from message_bodies").fetchall()),
        "urls": json.dumps(secretive.operator.edge.take_requests()),
    }
    states = list((folder / "states").rglob("*.state"))
    assert len(states) == 2
    for kept in (folder / "blobs", folder / "logs", folder / "run", folder / "states", output, Path.home()):
        places |= {str(path): path.read_bytes() for path in kept.rglob("*") if path.is_file()}
    places |= {f"{path}, unpacked": gzip.decompress(path.read_bytes().split(b"\n", 2)[2]) for path in states}
    assert len(places) > 15
    assert {place: found for place, data in places.items() if (found := find_secrets(data, made_keys))} == {}


BROKEN_STATES = {
    "a page": b"<html>502</html>",
    "half a state": shop.shop_payload()[:-100],
    "another account's": shop.shop_payload(account="somebody-else"),
    "without the client": payload(
        state(clients=[client()], credentials=[credential(secret=shop.MOBILE_SECRET)]), shop.ACCOUNT
    ),
    "with a secret twice": payload(
        state(
            clients=[client("c"), client("d")],
            credentials=[credential("k", client=each, secret=shop.MOBILE_SECRET) for each in ("c", "d")],
        ),
        shop.ACCOUNT,
    ),
}
FAILURES: dict[str, dict[str, str]] = {
    "no such account": {"CLOUDFLARE_ACCOUNT_ID": "0" * 32},
    "no network": {"CLOUDFLARE_API_BASE_URL": "http://127.0.0.1:9"},
    "no CDN": {
        "CONFIDENCE_RESOLVER_STATE_URL": "http://reader:password-in-the-url@127.0.0.1:9/?s=signature-in-the-url"
    },
    "no state": {"CONFIDENCE_CLIENT_SECRET": shop.MOBILE_SECRET, "CONFIDENCE_RESOLVER_STATE_URL": ""},
    "another state key": {"STATE_ENCRYPTION_KEY": STATE_KEY[::-1]},
    "no proof": {"PROBE_URL": "http://reader:password-in-the-url@127.0.0.1:9/signature?s=signature-in-the-url"},
    "no lease": {"LEASE": "/proc/nowhere"},
    "a broken token": {"CLOUDFLARE_API_TOKEN": f"{API_TOKEN}\n{API_TOKEN}"},
    "broken keys": {"RESOLVE_TOKEN_ENCRYPTION_KEY": f"{TOKEN_KEY}AA", "STATE_ENCRYPTION_KEY": f"{STATE_KEY}aa"},
    "a broken URL": {"CONFIDENCE_RESOLVER_STATE_URL": "//reader:password-in-the-url@host/?s=signature-in-the-url"},
    "secrets in the wrong place": {"FORCE_APPLY": "maybe", "LOG_FORMAT": "none", "LOG_LINGER_MS": "-1"},
}


class Context:
    """A function's, with time enough."""

    def get_remaining_time_in_millis(self) -> int:
        return 300_000


def fail(sync: Sync, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], **settings: str) -> str:
    """All that a failing run says: as a command, and as a function, with its exception and what led to that."""
    code, out, err = sync.command("run", **settings)
    assert code in {1, 2}, out + err
    assert err.splitlines()[-1].startswith("error: ")
    for name, value in (sync.operator.environ | settings).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(FlagedgeError) as raised:
        handler({}, Context())
    said = capsys.readouterr()
    chain = "".join(traceback.format_exception(raised.value)) + repr(raised.value)
    _, listed, problems = sync.command("settings", **settings)
    return f"{out}\n{err}\n{said.out}\n{said.err}\n{chain}\n{listed}\n{problems}"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits between attempts."""
    monkeypatch.setattr(gate.Gate.__init__, "__defaults__", (1, 0.1, None, lambda _: None))
    monkeypatch.setitem(Cloudflare.__init__.__kwdefaults__, "sleep", lambda _: None)
    monkeypatch.setattr(fetch, "_RETRY_WAITS_S", (0, 0))


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("settings", FAILURES.values(), ids=FAILURES)
def test_settings_that_fail(
    secretive: Sync,
    settings: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whatever is wrong with settings, network or account: no error, exception, log or listing quotes a secret."""
    assert find_secrets(fail(secretive, monkeypatch, capsys, **settings)) == []


@pytest.mark.parametrize("built", BROKEN_STATES.values(), ids=BROKEN_STATES)
def test_states_that_fail(
    secretive: Sync, built: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A state that is refused is not quoted."""
    secretive.run()
    publish(secretive, built)
    assert find_secrets(fail(secretive, monkeypatch, capsys)) == []


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 403},
        {"kind": "status", "status": 429, "retry_after": 1},
        {"kind": "html", "status": 500},
        {"kind": "success_false"},
        {"kind": "reset"},
        {"kind": "truncate"},
    ],
    ids=lambda fault: str(fault["kind"]),
)
@pytest.mark.parametrize("match", ["PUT .*/scripts/|POST .*/versions", "GET /cdn/"], ids=["upload", "state"])
def test_calls_that_fail(
    secretive: Sync,
    match: str,
    fault: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A call that carries secrets, in its body or its URL, fails without them."""
    secretive.operator.edge.set_faults({"match": match, "times": 99, **fault})
    assert find_secrets(fail(secretive, monkeypatch, capsys)) == []


def read_settings(sync: Sync) -> SyncSettings:
    """Without the state URL, see below."""
    return replace(read_sync_settings(sync.operator.environ), state_url="")


def test_the_state_url_is_not_in_the_repr_of_settings(secretive: Sync) -> None:
    """It may carry a signature or a password."""
    assert find_secrets(repr(read_sync_settings(secretive.operator.environ))) == []


def test_reprs(secretive: Sync) -> None:
    """What a debugger, a failed assertion or a careless log line would show of anything that knows a secret."""
    settings = read_settings(secretive)
    api = WorkersApi(api_token=settings.api_token, base_url=settings.api_base_url)
    data = shop.shop_payload()
    decoded = decode_state(data)
    plan = compile_plan(decoded, etag='"e"')
    keys = choose_keys([], given=settings.token_key, rotate=False, now_s=1)
    upload = assemble_upload(plan, settings.worker, facts=DeployedFacts("digest", 1, "", keys.keys))
    shown = [settings, api, api._http, RunOptions(), FetchedState(data, '"e"'), decoded, plan, keys, upload]
    shown.append(open_lease("", "name"))
    for each in shown:
        assert find_secrets(f"{each!r} {each!s} {each}") == [], type(each)
    api.close()


def test_structured_logs_mask_secrets(capsys: pytest.CaptureFixture[str], secretive: Sync) -> None:
    """Even settings that somebody logs whole."""
    settings = read_settings(secretive)
    configure_logs(job="test", level="debug").info("settings.read", settings=settings, secret=settings.client_secret)
    said = capsys.readouterr().err
    assert "settings.read" in said
    assert find_secrets(said) == []
