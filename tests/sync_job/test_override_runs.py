"""Break-glass over a whole account: at once, through lease and gate, until it ends."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace
from typing import Any

import pytest
import shop
from sync_command import WORKER, Sync

from flagedge.wire.state_pb2 import ClientResolverState, ResolverState
from sync_job import gate as gate_module
from sync_job import prepare
from sync_job.decode import DecodedState
from sync_job.lease_places import open_lease

LAYOUT = "flags/checkout-layout"
ONE_PAGE = f"{LAYOUT}/variants/one-page"
SET = ("override", "checkout-layout", "--variant", "one-page", "--why", "checkout is down")


@pytest.fixture
def live(sync: Sync, monkeypatch: pytest.MonkeyPatch) -> Sync:
    """The shop's state live, probes reaching the Worker, the account named."""
    monkeypatch.setattr(gate_module.Gate.__init__, "__defaults__", (20, 3.0, None, time.sleep))
    assert sync.run()[0] == 0
    sync.operator.environ["CLOUDFLARE_ACCOUNT_ID"] = sync.account_id()
    sync.operator.environ["PROBE_URL"] = sync.operator.edge.worker_url(WORKER)
    return sync


def layout(sync: Sync) -> str:
    return sync.resolve(visitor_id="v")[LAYOUT]


def events(err: str, name: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in err.splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == name]


def test_an_override_is_live_at_once(live: Sync) -> None:
    """One command: proved, served to everybody, told in status and list; runs stay at two requests and keep it."""
    before = layout(live)
    assert before != ONE_PAGE
    code, out, err = live.command(*SET, "--for", "2h")
    assert (code, out.count(f"(overridden: {LAYOUT})")) == (0, 1)
    [proof] = events(err, "version.proved")
    assert proof["compared_count"] == proof["asked_count"] > 0
    assert {live.resolve(visitor_id=f"v{number}")[LAYOUT] for number in range(20)} == {ONE_PAGE}
    live.requests()
    assert json.loads(live.run("--json")[1])["outcome"] == "unchanged"
    assert len(live.requests()) == 2
    assert "override      checkout-layout: variant one-page, until" in live.command("status")[1]
    [told] = json.loads(live.command("override", "--list", "--json")[1])
    assert (told["flag"], told["variant"], told["why"]) == (LAYOUT, ONE_PAGE, "checkout is down")
    assert told["until_s"] - told["since_s"] == 7200


def test_it_survives_a_sync_until_it_is_cleared(live: Sync) -> None:
    """A new state changes every flag but this one; cleared, its rules decide again."""
    live.command(*SET)
    live.operator.publish(shop.changed_shop_payload())
    live.operator.environ["PROBE_URL"] = live.operator.edge.worker_url(WORKER)
    assert live.run()[0] == 0
    resolved = live.resolve(visitor_id="v")
    assert resolved[LAYOUT] == ONE_PAGE
    assert resolved["flags/live-chat"].endswith("/on")
    assert live.command("override", "--clear", "checkout-layout")[0] == 0
    assert layout(live) != ONE_PAGE
    assert live.command("override", "--list")[1].strip() == "no flag is overridden"


def test_a_reason_is_one_line(live: Sync) -> None:
    """Whatever was pasted, or typed on a terminal of another encoding: nobody is sent away for it."""
    assert live.command("override", "checkout-layout", "--off", "--why", "ch\udce9ckout\n is\x1b down")[0] == 0
    assert live.command("override", "--list")[1].endswith(": ch ckout is down\n")


def test_off_and_clear_all(live: Sync) -> None:
    """Off is no variant; several flags can be overridden, and cleared at once."""
    live.command("override", "checkout-layout", "--off", "--why", "down")
    live.command("override", "flags/live-chat", "--variant", "flags/live-chat/variants/on", "--why", "help them")
    resolved = live.resolve(visitor_id="v")
    assert (resolved[LAYOUT], resolved["flags/live-chat"]) == ("", "flags/live-chat/variants/on")
    assert len(live.command("override", "--list")[1].splitlines()) == 2
    assert live.command("override", "--clear", "--all")[0] == 0
    resolved = live.resolve(visitor_id="v")
    assert resolved[LAYOUT] != ""
    assert resolved["flags/live-chat"].endswith("/off")


def test_it_ends_by_itself(live: Sync) -> None:
    """The first run after its time takes it away, though nothing else is new."""
    before = layout(live)
    live.command(*SET, "--for", "1s")
    assert layout(live) == ONE_PAGE
    time.sleep(1.1)
    code, _, err = live.run()
    assert (code, [line["reason"] for line in events(err, "override.dropped")]) == (0, ["ended"])
    assert layout(live) == before
    live.requests()
    live.run()
    assert len(live.requests()) == 2


def test_it_ends_also_while_a_state_is_blocked(live: Sync) -> None:
    """The new state stays away, and the flag's rules in the live one decide again; an override brings no new state."""
    before = live.resolve(visitor_id="v")
    live.operator.publish(shop.changed_shop_payload())
    live.operator.environ["PROBE_URL"] = live.operator.edge.worker_url(WORKER)
    live.operator.environ["MAX_BLAST_RADIUS"] = "10%"
    assert live.command(*SET, "--for", "1s")[0] == 0
    assert live.resolve(visitor_id="v") == before | {LAYOUT: ONE_PAGE}
    time.sleep(1.1)
    assert live.run()[0] == 1
    assert live.resolve(visitor_id="v") == before
    live.requests()
    assert live.run()[0] == 1
    assert not [call for call in live.requests() if not call.startswith("GET")]


def _without_credentials() -> bytes:
    envelope = ClientResolverState.FromString(shop.shop_payload())
    state = ResolverState.FromString(envelope.state)
    del state.client_credentials[:]
    envelope.state = state.SerializeToString()
    return envelope.SerializeToString()


@pytest.mark.parametrize(
    ("served", "says"),
    [
        (_without_credentials(), "the state is refused"),
        (shop.changed_shop_payload(), "by the official resolver"),
        (b"\xff no state", "is not a ClientResolverState"),
    ],
    ids=["findings", "gate", "no state"],
)
def test_it_ends_whatever_the_cdn_serves(live: Sync, monkeypatch: pytest.MonkeyPatch, served: bytes, says: str) -> None:
    """A state that may not be live keeps no override alive; after that it is refused as ever, and nothing is due."""
    before = live.resolve(visitor_id="v")
    assert live.command(*SET, "--for", "1s")[0] == 0
    compile_plan = prepare.compile_plan

    def compile_wrongly(decoded: DecodedState, *, etag: str) -> Any:
        plan = compile_plan(decoded, etag=etag)
        return replace(plan, text=plan.text.replace("live-chat/variants/on", "live-chat/variants/no"))

    live.operator.publish(served)
    live.operator.environ["PROBE_URL"] = live.operator.edge.worker_url(WORKER)
    if served == shop.changed_shop_payload():
        monkeypatch.setattr(prepare, "compile_plan", compile_wrongly)
    time.sleep(1.1)
    live.run()
    assert live.resolve(visitor_id="v") == before
    assert live.command("override", "--list")[1].strip() == "no flag is overridden"
    live.requests()
    code, _, err = live.run()
    assert (code, says in err.splitlines()[-1]) == (1, True), err
    assert live.resolve(visitor_id="v") == before


def test_a_flag_that_goes_takes_its_override_along(live: Sync) -> None:
    """With a warning; the rest of the state is deployed."""
    live.command("override", "recommendations", "--off", "--why", "slow")
    payload = shop.shop_payload()
    live.operator.publish(payload.replace(b"recommendations", b"recommendashuns"))
    live.operator.environ["PROBE_URL"] = live.operator.edge.worker_url(WORKER)
    code, _, err = live.run()
    [dropped] = events(err, "override.dropped")
    assert (code, dropped["flag"]) == (0, "flags/recommendations")
    assert live.command("override", "--list")[1].strip() == "no flag is overridden"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("chekout-layout", "--off", "--why", "x"), "Did you mean checkout-layout?"),
        (("checkout-layout", "--variant", "one-pag", "--why", "x"), "Did you mean one-page?"),
        (("checkout-layout", "--off", "--why", "x" * 501), "a reason has at most 500 characters"),
        (("--clear", "--all", "--why", "x" * 501), "a reason has at most 500 characters"),
        (("--clear", "live-chat"), "there is no override of flags/live-chat"),
    ],
)
def test_what_cannot_be_is_refused(live: Sync, arguments: tuple[str, ...], says: str) -> None:
    """Before anything is written."""
    live.requests()
    code, _, err = live.command("override", *arguments)
    assert code == 1
    assert says in err.splitlines()[-1]
    assert not [call for call in live.requests() if not call.startswith("GET")]


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--off",),
        ("checkout-layout", "--off"),
        ("--clear",),
        ("checkout-layout", "--clear", "--all"),
        ("checkout-layout", "--off", "--why", "x", "--for", "9999999d"),
        ("checkout-layout", "--off", "--why", " "),
        ("checkout-layout", "--off", "--why", "\udcff\n"),
    ],
)
def test_wrong_arguments(sync: Sync, arguments: tuple[str, ...]) -> None:
    """A flag, and a reason where one is set; clearing needs a flag or all of them."""
    with pytest.raises(SystemExit) as exit_:
        sync.command("override", *arguments)
    assert exit_.value.code == 2


def test_the_gate_judges_it(live: Sync, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan that says something else than the override gets no traffic, and nobody finds the override later."""
    before = layout(live)
    compile_plan = prepare.compile_plan

    def forget_overrides(decoded: DecodedState, *, etag: str) -> Any:
        plan = compile_plan(decoded, etag=etag)
        return replace(plan, text=plan.text.replace(f'["{ONE_PAGE}",2]', f'["{ONE_PAGE}",1]'))

    with monkeypatch.context() as patch:
        patch.setattr(prepare, "compile_plan", forget_overrides)
        code, _, err = live.command(*SET)
    assert code == 1
    assert f"{LAYOUT} for" in err.splitlines()[-1]
    assert layout(live) == before
    assert live.run()[0] == 0
    assert layout(live) == before


def test_the_gate_holds_other_flags_against_the_state(live: Sync, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does one that damages another flag."""
    compile_plan = prepare.compile_plan

    def damage_another(decoded: DecodedState, *, etag: str) -> Any:
        return compile_plan(replace(decoded, resolver_state=_without_chat_rules(decoded)), etag=etag)

    monkeypatch.setattr(prepare, "compile_plan", damage_another)
    code, _, err = live.command(*SET)
    assert code == 1
    assert "flags/live-chat for" in err.splitlines()[-1]


def _without_chat_rules(decoded: DecodedState) -> Any:
    state = type(decoded.resolver_state)()
    state.CopyFrom(decoded.resolver_state)
    for flag in state.flags:
        if flag.name == "flags/live-chat":
            del flag.rules[:]
    return state


def test_a_run_that_has_the_lease_is_waited_for(live: Sync) -> None:
    """Somebody breaks the glass while a scheduled run deploys: it takes a moment longer."""
    where = str(live.operator.edge.directory / "lease")
    lease = open_lease(where, f"{live.account_id()}/{WORKER}")
    lease.__enter__()
    threading.Timer(0.5, lambda: lease.__exit__(None, None, None)).start()
    assert live.command(*SET, LEASE=where)[0] == 0
    assert layout(live) == ONE_PAGE
