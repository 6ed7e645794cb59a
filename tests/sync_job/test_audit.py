"""What a run tells of itself: records in the queue, notices, the limit of the blast radius; over a whole account."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import httpx
import pytest
import shop
from operators import API_TOKEN
from sync_command import WORKER, Sync
from webhooks import Webhook, listening

from flagedge.cloudflare import Cloudflare
from flagedge.settings import Secret
from log_consumer.cli import main as log_consumer
from sync_job import gate as gate_module
from sync_job import prepare
from sync_job.database import Database
from sync_job.gate import Gate, GateError
from sync_job.handler import handler
from sync_job.history import read_history

LAYOUT = "flags/checkout-layout"


@pytest.fixture
def hook() -> Iterator[Webhook]:
    with listening() as hook:
        yield hook


@pytest.fixture
def live(sync: Sync) -> Sync:
    """An operator with the shop's state live, and the account named."""
    assert sync.run()[0] == 0
    sync.operator.environ["CLOUDFLARE_ACCOUNT_ID"] = sync.account_id()
    return sync


def records(sync: Sync) -> list[dict[str, Any]]:
    """The deployment records in the queue, in the order in which they came."""
    with Cloudflare(api_token=Secret(API_TOKEN), base_url=sync.operator.edge.api_url) as api:
        queue = api.find_queue("flag-logs-queue")
        assert queue is not None
        answer = json.loads(api.pull_messages(queue.queue_id, batch_size=100, visibility_timeout_ms=0))
    bodies = [json.loads(message["body"]) for message in answer["result"]["messages"]]
    return [body for body in bodies if body["format"] == "flagedge/deployment/1"]


def events(err: str, name: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in err.splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == name]


def tags(sync: Sync) -> list[str]:
    return list(sync.operator.edge.edge.scripts.get(WORKER).settings["tags"])


def fail(sync: Sync, match: str, **fault: Any) -> None:
    httpx.post(f"{sync.operator.edge.url}/local/faults", json=[{"match": match, "kind": "status", **fault}])


def mend(sync: Sync) -> None:
    httpx.delete(f"{sync.operator.edge.url}/local/faults")


def drain(sync: Sync, database: Path) -> None:
    """Let the consumer land all that is in the queue."""
    with sync._monkeypatch.context() as patch:
        for name, value in (sync.operator.environ | {"DATABASE": str(database)}).items():
            patch.setenv(name, value)
        assert log_consumer(["drain"]) == 0
    sync._capsys.readouterr()


# Deployments


def test_a_deployment_is_recorded(live: Sync) -> None:
    """Who, what, when, field by field, with the shares that are in force; in the queue and as one line of the log."""
    live.operator.publish(shop.changed_shop_payload())
    _, out, err = live.run("--json")
    result = json.loads(out)
    first, second = records(live)
    assert first["deployment"]["previous_state_etag"] == ""
    assert {change["flag"] for change in first["changes"] if change["change"] == "added"} > {LAYOUT, "flags/live-chat"}
    told = second["deployment"]
    assert second["state_etag"] == result["etag"]
    assert told["previous_state_etag"] == result["previous_etag"] == first["state_etag"]
    assert (told["worker"], told["outcome"], told["trigger"], told["reason"]) == (WORKER, "deployed", "schedule", "")
    assert told["version_id"] != told["previous_version_id"] == first["deployment"]["version_id"]
    assert told["started_at_ms"] <= told["finished_at_ms"] == second["sent_at_ms"]
    assert set(told["timings_ms"]) >= {"fetch", "compile", "upload"}
    assert [change["text"] for change in second["changes"]][:1] == ["variant classic: 50 % → 20 %"]
    shares = {(each["rule"], each["variant"]): each["share"] for each in second["allocations"]}
    assert shares[f"{LAYOUT}/rules/experiment", f"{LAYOUT}/variants/one-page"] == 0.5
    [line] = events(err, "deployment.recorded")
    assert (line["record_id"], line["change_count"]) == (second["isolate"], len(second["changes"]))


@pytest.mark.parametrize(
    ("arguments", "trigger"),
    [
        (("run",), "schedule"),
        (("run", "--force"), "command"),
        (("keys", "rotate"), "command"),
        (("rollback",), "rollback"),
    ],
)
def test_what_started_it(live: Sync, arguments: tuple[str, ...], trigger: str) -> None:
    """A schedule is nobody; a command is the user who ran it."""
    live.operator.publish(shop.changed_shop_payload())
    if trigger != "schedule":
        live.run()
    assert live.command(*arguments)[0] == 0
    told = records(live)[-1]["deployment"]
    assert told["trigger"] == trigger
    assert bool(told["actor"]) == (trigger != "schedule")


def test_a_webhook_is_a_trigger(live: Sync, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind a function URL somebody knows that flags changed; an event of a schedule is a schedule."""
    for name, value in live.operator.environ.items():
        monkeypatch.setenv(name, value)

    class Context:
        def get_remaining_time_in_millis(self) -> int:
            return 120_000

    live.operator.publish(shop.changed_shop_payload())
    handler({}, Context())
    assert records(live)[-1]["deployment"]["trigger"] == "schedule"


def test_a_run_that_died_before_its_mark_was_off(live: Sync) -> None:
    """The next one does it all again and sends the same record, whose second copy the consumer drops."""
    live.operator.publish(shop.changed_shop_payload())
    fail(live, "PATCH .*/script-settings", nth=2, status=403)
    assert live.run()[0] == 1
    mend(live)
    live.operator.environ["MAX_BLAST_RADIUS"] = "0"  # what is live already is not held against it
    assert live.run()[0] == 0
    _, died, again = records(live)
    assert died["isolate"] == again["isolate"]
    assert died["changes"] == again["changes"] != []
    assert died["deployment"]["previous_state_etag"] == again["deployment"]["previous_state_etag"]
    assert tags(live) == []


def test_a_forced_deployment_is_another_record(live: Sync) -> None:
    """The same state once more is a deployment of its own, without changes; also when the run before died early."""
    fail(live, "POST .*/versions", times=4, status=403)
    assert live.run("--force")[0] == 1
    mend(live)
    assert live.run()[0] == 0
    first, second = records(live)
    assert first["isolate"] != second["isolate"]
    assert (second["changes"], second["deployment"]["trigger"]) == ([], "schedule")


def test_a_queue_that_cannot_be_written(live: Sync) -> None:
    """The deployment stands, with a warning; later runs send the record, and then it is two requests again."""
    live.operator.publish(shop.changed_shop_payload())
    fail(live, "POST .*/messages", times=99, status=403)
    code, _, err = live.run()
    assert (code, [line["level"] for line in events(err, "deployment.unrecorded")]) == (0, ["warning"])
    assert live.resolve(visitor_id="v")["flags/live-chat"].endswith("/on")
    [tag] = tags(live)
    assert live.run()[0] == 0
    assert tags(live) == [tag]
    mend(live)
    live.requests()
    code, out, _ = live.run("--json")
    calls = live.requests()
    assert (code, json.loads(out)["outcome"]) == (0, "unchanged")
    assert not {"POST versions", "POST deployments"}.intersection(calls)
    record = records(live)[-1]
    assert tag == f"flagedge:record:{record['isolate']}"
    assert [change["flag"] for change in record["changes"]] == [LAYOUT] * 3 + ["flags/live-chat"]
    assert tags(live) == []
    live.requests()
    live.run()
    assert len(live.requests()) == 2


def test_a_record_is_sent_also_while_a_state_is_blocked(live: Sync, hook: Webhook) -> None:
    """What is live is recorded late, whatever waits behind it."""
    live.operator.publish(shop.changed_shop_payload())
    fail(live, "POST .*/messages", times=99, status=403)
    assert live.run()[0] == 0
    live.operator.environ |= {"MAX_BLAST_RADIUS": "0.1", "ALERT_WEBHOOK_URL": hook.url}
    live.operator.publish(shop.shop_payload())
    assert live.run()[0] == 1
    mend(live)
    assert [live.run()[0] for _ in range(2)] == [1, 1]
    outcomes = [each["deployment"]["outcome"] for each in records(live)]
    assert outcomes == ["deployed", "deployed", "refused"]
    assert len(hook.texts) == 1  # though the refusal was recorded a run later
    assert [tag.partition(":")[2].partition(":")[0] for tag in tags(live)] == ["told"]


def test_without_an_archive(live: Sync) -> None:
    """What changed is not known, and the record says so; the shares are."""
    live.operator.publish(shop.changed_shop_payload())
    assert live.run(STATE_ARCHIVE="off")[0] == 0
    record = records(live)[-1]
    assert record["changes"] == []
    assert "the archive does not have the state before" in record["deployment"]["reason"]
    assert len(record["allocations"]) == 14


def test_what_cannot_be_told_does_not_end_a_run(live: Sync, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even a bug in telling: the deployment is done, and its mark is off."""

    def fail_oddly(*_: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("sync_job.audit.diff_states", fail_oddly)
    live.operator.publish(shop.changed_shop_payload())
    code, _, err = live.run()
    assert (code, [line["error"] for line in events(err, "deployment.unrecorded")]) == (0, ["a bug"])
    assert all(tag.startswith("flagedge:record:") for tag in tags(live))


# Refusals


def test_the_limit_blocks_and_tells_once(live: Sync, hook: Webhook) -> None:
    """Above it nothing is deployed, at no scheduled run; people are told once, and the approval is for that state."""
    before = live.resolve(visitor_id="v")
    live.operator.environ |= {"MAX_BLAST_RADIUS": "0.2", "ALERT_WEBHOOK_URL": hook.url}
    live.operator.publish(shop.changed_shop_payload())
    for _ in range(3):
        code, _, err = live.run()
        assert code == 1
        assert "live-chat for 100.0 % of 5,000 units" in err.splitlines()[-1]
        assert hook.url not in err
    assert live.resolve(visitor_id="v") == before
    assert len(hook.texts) == 1
    assert "is not deployed" in hook.texts[0]
    assert "checkout-layout for 60.2 %" in hook.texts[0]
    refused = records(live)[1:]
    assert [each["deployment"]["outcome"] for each in refused] == ["refused"]
    assert (refused[0]["allocations"], len(refused[0]["changes"])) == ([], 4)
    etag = refused[0]["state_etag"]
    assert live.run("--approve", "another")[0] == 1
    code, out, _ = live.run("--json", "--approve", etag.strip('"'))
    assert (code, json.loads(out)["etag"]) == (0, etag)
    assert live.resolve(visitor_id="v") != before
    assert (len(hook.texts), tags(live)) == (1, [])


def test_below_the_limit(live: Sync, hook: Webhook) -> None:
    """A change of fewer units goes through by itself."""
    live.operator.environ |= {"MAX_BLAST_RADIUS": "20%", "ALERT_WEBHOOK_URL": hook.url}
    live.operator.publish(shop.shop_payload(checkout_split=(45, 30, 25)))
    assert live.run()[0] == 0
    assert hook.texts == []


def test_the_same_state_is_told_of_again_after_another(live: Sync, hook: Webhook) -> None:
    """What was told belongs to a state that is not live; a state in between makes it news."""
    live.operator.environ |= {"MAX_BLAST_RADIUS": "20%", "ALERT_WEBHOOK_URL": hook.url}
    for state in (
        shop.changed_shop_payload(),
        shop.shop_payload(checkout_split=(45, 30, 25)),
        shop.changed_shop_payload(),
    ):
        live.operator.publish(state)
        live.run()
    assert len(hook.texts) == 2


def test_nobody_knows_how_much(live: Sync) -> None:
    """Where the live state is not in the archive, a limit blocks: it says so, and how to go on."""
    live.operator.publish(shop.changed_shop_payload())
    live.operator.environ |= {"MAX_BLAST_RADIUS": "1", "STATE_ARCHIVE": str(live.operator.edge.directory / "new")}
    code, _, err = live.run()
    assert code == 1
    assert "nobody knows how much" in err.splitlines()[-1]
    etag = records(live)[-1]["state_etag"]
    assert live.run("--approve", etag)[0] == 0


def test_an_operator_s_rollback_is_not_limited(live: Sync) -> None:
    """Somebody asked for that very state."""
    live.operator.publish(shop.changed_shop_payload())
    live.run()
    live.operator.environ["MAX_BLAST_RADIUS"] = "0"
    assert live.command("rollback")[0] == 0
    assert live.command("rollback", "--clear")[0] == 0


def test_a_dead_webhook_changes_nothing(live: Sync, hook: Webhook) -> None:
    """It is warned of, and tried again at the next run; the record is sent once."""
    hook.status = 500
    live.operator.environ |= {"MAX_BLAST_RADIUS": "20%", "ALERT_WEBHOOK_URL": hook.url}
    live.operator.publish(shop.changed_shop_payload())
    code, _, err = live.run()
    assert (code, len(events(err, "alert.failed"))) == (1, 1)
    hook.status = 200
    for _ in range(2):
        assert live.run()[0] == 1
    assert len(hook.texts) == 2
    assert [each["deployment"]["outcome"] for each in records(live)] == ["deployed", "refused"]


def test_a_state_with_findings_is_told_of(live: Sync, hook: Webhook) -> None:
    """Another account's state is refused; the schedule meets it again and again, people hear of it once."""
    live.operator.environ["ALERT_WEBHOOK_URL"] = hook.url
    live.operator.publish(shop.shop_payload(account="somebody-else"))
    assert [live.run()[0] for _ in range(2)] == [1, 1]
    assert len(hook.texts) == 1
    assert records(live)[-1]["deployment"]["outcome"] == "refused"
    live.operator.publish(shop.changed_shop_payload())
    assert live.run()[0] == 0


def test_before_there_is_a_worker(sync: Sync, hook: Webhook, monkeypatch: pytest.MonkeyPatch) -> None:
    """A first state with findings is its operator's; a first version that the gate refuses is told of once."""
    sync.operator.environ["ALERT_WEBHOOK_URL"] = hook.url
    assert sync.run(CONFIDENCE_CLIENT_SECRET="another")[0] == 1
    assert not [call for call in sync.requests() if not call.startswith("GET")]
    assert hook.texts == []
    monkeypatch.setattr(Gate.__init__, "__defaults__", (1, 0.2, None, lambda _: None))
    for _ in range(2):
        assert sync.run(PROBE_URL="http://127.0.0.1:9")[0] == 1
    [text] = hook.texts
    assert "No state is live." in text


def test_the_gate_s_refusal_is_told_of(live: Sync, hook: Webhook, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gate says no at every run, and people hear of it once; what is deployed later is told as it is."""
    monkeypatch.setattr(Gate.__init__, "__defaults__", (20, 1.5, None, lambda _: None))
    live.operator.environ["PROBE_URL"] = live.operator.edge.worker_url(WORKER)
    live.operator.environ["ALERT_WEBHOOK_URL"] = hook.url
    live.operator.publish(shop.changed_shop_payload())
    compile_plan = prepare.compile_plan

    def compile_wrongly(decoded: Any, *, etag: str) -> Any:
        plan = compile_plan(decoded, etag=etag)
        return replace(plan, text=plan.text.replace("/variants/on", "/variants/no"))

    with monkeypatch.context() as patch:
        patch.setattr(prepare, "compile_plan", compile_wrongly)
        assert [live.run()[0] for _ in range(2)] == [1, 1]
    [text] = hook.texts
    assert "by the official resolver" in text
    assert live.run()[0] == 0
    outcomes = [each["deployment"]["outcome"] for each in records(live)]
    assert outcomes == ["deployed", "refused", "deployed"]
    assert records(live)[-1]["deployment"]["previous_state_etag"] == records(live)[0]["state_etag"]
    assert tags(live) == []


def test_a_return_is_told_of(live: Sync, hook: Webhook, monkeypatch: pytest.MonkeyPatch) -> None:
    """It had all the traffic and stopped answering: what was live before is again, and people know."""
    monkeypatch.setattr(Gate.__init__, "__defaults__", (1, 0.2, None, lambda _: None))
    live.operator.environ["PROBE_URL"] = live.operator.edge.worker_url(WORKER)
    live.operator.environ["ALERT_WEBHOOK_URL"] = hook.url
    live.operator.publish(shop.changed_shop_payload())
    before = live.resolve(visitor_id="v")

    def fail_late(*_: Any) -> None:
        raise GateError("it does not answer any more")

    with monkeypatch.context() as patch:
        patch.setattr(gate_module.Gate, "check", fail_late)
        assert live.run()[0] == 1
    assert live.resolve(visitor_id="v") == before
    assert "was taken back" in hook.texts[0]
    record = records(live)[-1]
    assert (record["deployment"]["outcome"], record["allocations"]) == ("returned", [])


# All the way


def test_history_out_of_database_and_archive(live: Sync, tmp_path: Path) -> None:
    """Drained, the records are rows; `history` reads them there, or in the archive, and both say the same."""
    live.operator.publish(shop.changed_shop_payload())
    live.run()
    database = tmp_path / "exposures.duckdb"
    drain(live, database)
    landed_in = Database(str(database), os.environ)
    landed = read_history(database=landed_in, store=None, flag="", last=9)
    assert [len(record["changes"]) for record in landed] == [4, 8]
    code, out, _ = live.command("history", "--json", "--flag", "checkout-layout")
    archived = json.loads(out)
    assert code == 0
    of_flag = read_history(database=landed_in, store=None, flag="checkout-layout", last=9)
    keys = ("record_id", "state_etag", "outcome", "previous_state_etag", "version_id", "timings_ms", "trigger")
    assert [[record[key] for key in keys] for record in archived] == [
        [record[key] for key in keys] for record in of_flag
    ]
    texts = [sorted(change["text"] for change in record["changes"]) for record in archived]
    assert texts == [sorted(change["text"] for change in record["changes"]) for record in of_flag]
    code, out, _ = live.command("history", "--last", "1", "--database", str(database))
    assert code == 0
    assert "  flags/live-chat/rules/launch: switched on" in out.splitlines()
    assert out.count("deployed") == 1


def test_exposures_and_shares_under_an_override(live: Sync, tmp_path: Path) -> None:
    """The rule tells it in every row; the record has who and why, and the flag's share is the override's."""
    assert live.command("override", "checkout-layout", "--off", "--why", "checkout is down")[0] == 0
    live.resolve(visitor_id="v")
    database = tmp_path / "exposures.duckdb"
    drain(live, database)
    with duckdb.connect(database, read_only=True) as connection:
        exposures = connection.execute(
            "select rule, variant, assignment_id, reason, is_default from exposures where flag = ?", [LAYOUT]
        ).fetchall()
        [deployment] = connection.execute(
            "select record_id, why, actor is not null from deployments where trigger = 'override'"
        ).fetchall()
        shares = connection.execute(
            "select rule, kind, variant, share from allocations where flag = ? and record_id = ?",
            [LAYOUT, deployment[0]],
        ).fetchall()
        changes = connection.execute(
            "select flag, field, text from flag_changes where record_id = ?", [deployment[0]]
        ).fetchall()
    assert exposures == [(f"{LAYOUT}/rules/override", None, "off", "MATCH", True)]
    assert deployment[1:] == ("checkout is down", True)
    assert shares == [(f"{LAYOUT}/rules/override", "client_default", None, 1.0)]
    assert [(flag, field) for flag, field, _ in changes] == [(LAYOUT, "override")]
    assert "checkout is down" in changes[0][2]


def test_diff_of_what_is_live_and_what_comes(live: Sync, tmp_path: Path) -> None:
    """By default live against the CDN; a file or an entity tag can stand on either side; seen units from a database."""
    for visitor in shop.visitors(40):
        live.resolve(**visitor)
    live.operator.publish(shop.changed_shop_payload())
    database = tmp_path / "exposures.duckdb"
    drain(live, database)
    code, out, _ = live.command("diff", "--units", "500", "--database", str(database), "--json")
    told = json.loads(out)
    assert code == 0
    assert [impact["flag"] for impact in told["impacts"]] == ["flags/live-chat", LAYOUT]
    assert {impact["flag"]: impact["unit_count"] for impact in told["seen_impacts"]} == {
        "flags/live-chat": 40,
        LAYOUT: 40,
    }
    assert len(told["changes"]) == 4
    file = tmp_path / "state"
    file.write_bytes(shop.shop_payload())
    code, out, _ = live.command("diff", "--to", str(file), "--from", told["old_etag"])
    assert (code, "nothing that decides has changed" in out) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("history", "--database", "missing.duckdb"), "there is no database missing.duckdb"),
        (("history", "--database", __file__), "cannot open"),
        (("diff", "--from", "unknown"), "has no state unknown"),
    ],
)
def test_what_cannot_be_read(live: Sync, arguments: tuple[str, ...], says: str) -> None:
    """One clear line, and exit 1."""
    code, _, err = live.command(*arguments)
    assert code == 1
    assert says in err.splitlines()[-1]


def test_nothing_to_read_history_from(live: Sync) -> None:
    """Without a database and an archive there are no records; the error says where they could be."""
    code, _, err = live.command("history", STATE_ARCHIVE="off")
    assert code == 1
    assert "--database" in err.splitlines()[-1]


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("MAX_BLAST_RADIUS", "20", "MAX_BLAST_RADIUS must be a share such as 0.2 or 20%"),
        ("MAX_BLAST_RADIUS", "nan", "MAX_BLAST_RADIUS must be a share such as 0.2 or 20%"),
        ("STATE_ARCHIVE", "off", "MAX_BLAST_RADIUS compares with the live state, which STATE_ARCHIVE has to keep"),
        ("ALERT_WEBHOOK_URL", "hooks.example/secret", "ALERT_WEBHOOK_URL must be an http(s) URL"),
        ("ALERT_WEBHOOK_URL", "https://[secret", "ALERT_WEBHOOK_URL must be an http(s) URL"),
        ("PROBE_URL", "https://secret@[::1", "PROBE_URL must be an http(s) URL"),
    ],
)
def test_wrong_settings(sync: Sync, name: str, value: str, says: str) -> None:
    """Exit 2; a webhook's URL is a secret and is not shown."""
    code, out, err = sync.run(**{"MAX_BLAST_RADIUS": "1", name: value})
    assert code == 2
    assert says in err
    assert "hooks.example" not in out + err
