"""Taking over what the official deployer left: nothing that its Worker promised is broken."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import shop
from builders import assignment, client, credential, flag, materialization, payload, rule, split, state, variant
from official import ORIGIN, TOKEN_KEY, OfficialAnswer, OfficialDeployer, official_answers, record_key
from segments import in_materialized, segment
from sync_site import Site
from watch import apply_body, resolve_body

from local_edge.server import LocalEdge
from sync_job.job import RunOptions
from sync_job.token_keys import FIRST_NAME

UNITS = [f"visitor:{number} 100%" for number in range(20)]
STATE = payload(
    state(
        flag(
            "layout",
            rule(
                "sticky",
                selector="visitor_id",
                assignments=split(one=50, two=50),
                materialization=materialization("kept", "kept"),
            ),
            variants=[variant("one"), variant("two")],
        ),
        flag("returning", rule("seen", segment="seen-before", selector="visitor_id", assignments=[assignment("on")])),
        segments=[segment("seen-before", in_materialized("kept"))],
        clients=[client()],
        credentials=[credential(secret=shop.WEB_SECRET)],
    ),
    shop.ACCOUNT,
)
RULE = "flags/layout/rules/sticky"
# Each against its bucket, or not: half of either variant's visitors would get the other one without its record.
RECORDS = {unit: f"flags/layout/variants/{'one' if number % 2 else 'two'}" for number, unit in enumerate(UNITS)}
LOGS = [{"flagAssigned": [{"resolveId": f"resolve-{number}"}]} for number in range(5)]


@dataclass
class Taken:
    """An account of the official deployer's, and the answers that its Worker gave."""

    site: Site
    answers: dict[str, OfficialAnswer]
    deployer: OfficialDeployer

    def post(self, path: str, body: dict[str, Any]) -> httpx.Response:
        return httpx.post(f"{self.site.url}{path}", json=body, verify=False, timeout=10)

    def consumer_types(self) -> list[str]:
        consumers = self.deployer.call("GET", f"/queues/{self.deployer.queue_id}/consumers")
        return [consumer["type"] for consumer in consumers]

    def shown_bindings(self) -> dict[str, dict[str, Any]]:
        """As the API shows them to anybody with a dashboard."""
        path = f"/workers/scripts/{self.site.worker_name}/settings"
        return {binding["name"]: binding for binding in self.deployer.call("GET", path)["bindings"]}


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalEdge]:
    with LocalEdge(dir=tmp_path_factory.mktemp("takeover") / "edge", grace_s=4.0) as edge:
        yield edge


def leave_official_account(edge: LocalEdge, folder: Path) -> Taken:
    """What the official deployer and half a day of traffic leave; the client's state is published."""
    site = Site(edge, folder)
    site.publish(STATE)
    answers = official_answers(STATE, [{"visitor_id": "before"}])
    deployer = OfficialDeployer(site)
    deployer.deploy(answers, {record_key(unit, "kept", RULE): name for unit, name in RECORDS.items()})
    deployer.push_messages(*LOGS)
    return Taken(site, answers, deployer)


@pytest.fixture
def official(edge: LocalEdge, tmp_path: Path) -> Iterator[Taken]:
    """Not yet taken over."""
    left = leave_official_account(edge, tmp_path)
    with left.deployer:
        yield left


@pytest.fixture(scope="module")
def taken(edge: LocalEdge, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Taken]:
    """Taken over with --adopt and the variables that the official deployer had; the tests only look."""
    left = leave_official_account(edge, tmp_path_factory.mktemp("taken"))
    with left.deployer:
        left.site.edge.take_requests()
        result = left.site.run(RunOptions(adopt=True), CONFIDENCE_RESOLVER_ALLOWED_ORIGIN=ORIGIN)
        assert result.outcome == "deployed"
        yield left


def test_without_adopt_nothing_is_written(official: Taken) -> None:
    """The run ends with exit 1 and says what to do, having only read; the official Worker goes on as it was."""
    official.site.edge.take_requests()
    with official.site.start("run") as process:
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    error = err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert official.site.worker_name in error
    assert "--adopt" in error
    assert {call.split()[0] for call in official.site.calls()} == {"GET"}
    assert official.consumer_types() == ["worker"]
    answer = official.post("/v1/flags:resolve", resolve_body({"visitor_id": "before"}))
    assert answer.json()["resolveToken"] == official.answers["before"].token


def test_a_detached_consumer_is_not_missed(official: Taken) -> None:
    """When the answer to detaching is lost, the takeover goes on: what is gone was detached."""
    official.site.edge.set_faults({"match": "DELETE .*/consumers/", "kind": "lost"})
    assert official.site.run(RunOptions(adopt=True), sleep=lambda _: None).outcome == "deployed"
    assert official.consumer_types() == ["http_pull"]


def test_tokens_of_before_still_apply(taken: Taken) -> None:
    """A token in upstream's layout, sealed with the old key before the takeover, is accepted after it."""
    before = taken.answers["before"]
    answer = taken.post("/v1/flags:apply", apply_body(before.token, list(before.flags.values())))
    assert (answer.status_code, answer.text) == (200, "{}")


def test_the_secret_is_inherited(taken: Taken) -> None:
    """No call names the token key: it is the one that was there, under its name, and new tokens carry its id."""
    assert taken.site.token_keys() == {FIRST_NAME: {base64.b64encode(TOKEN_KEY).decode()}}
    assert not [call for call in taken.site.calls() if "secret" in call]
    answer = taken.post("/v1/flags:resolve", resolve_body({"visitor_id": "after"})).json()
    assert base64.b64decode(answer["resolveToken"])[1:5] == hashlib.sha256(TOKEN_KEY).digest()[:4]


def test_sticky_assignments_are_honoured(taken: Taken) -> None:
    """Who has a record keeps its variant, whatever the bucket says, and is in what the record makes a segment."""
    for unit, name in RECORDS.items():
        flags = taken.post("/v1/flags:resolve", resolve_body({"visitor_id": unit})).json()["resolvedFlags"]
        variants = {each["flag"]: each.get("variant") for each in flags}
        assert variants == {"flags/layout": name, "flags/returning": "flags/returning/variants/on"}
    flags = taken.post("/v1/flags:resolve", resolve_body({"visitor_id": "somebody new"})).json()["resolvedFlags"]
    assert [each["reason"] for each in flags if each["flag"] == "flags/returning"] == [
        "RESOLVE_REASON_NO_SEGMENT_MATCH"
    ]


def test_messages_are_still_there(taken: Taken) -> None:
    """What the official Worker had logged and nobody had taken can be pulled."""
    assert taken.consumer_types() == ["http_pull"]
    pulled = taken.deployer.call("POST", f"/queues/{taken.deployer.queue_id}/messages/pull", {"batch_size": 100})
    sent_as_json = [each for each in pulled["messages"] if each["metadata"]["CF-Content-Type"] == "json"]
    assert [json.loads(base64.b64decode(each["body"])) for each in sent_as_json] == LOGS


def test_the_client_secret_becomes_one(taken: Taken) -> None:
    """It was a plain variable that the dashboard showed; now it is a secret binding, and the API shows no value."""
    binding = taken.shown_bindings()["CONFIDENCE_CLIENT_SECRET"]
    assert binding == {"type": "secret_text", "name": "CONFIDENCE_CLIENT_SECRET"}
    assert shop.WEB_SECRET not in str(taken.shown_bindings())


def test_settings_keep_their_meaning(taken: Taken) -> None:
    """The same variables make the same Worker: its name, its address, its queue, its namespace, its allowed origin."""
    bindings = taken.shown_bindings()
    assert bindings["ALLOWED_ORIGIN"]["text"] == ORIGIN
    assert bindings["flag_logs_queue"]["queue_name"] == taken.site.queue_name
    described = taken.site.describe()
    assert described["namespaces"] == ["resolver-materializations"]
    assert list(described["queues"]) == ["flag-logs-queue", "flag-logs-queue-dlq"]
    assert described["workers.dev"][0] is True
    health = httpx.get(f"{taken.site.url}/v1/health", verify=False).json()
    assert (health["status"], health["materializations"]) == ("ok", "bound")


def test_the_next_run_needs_no_adopt(taken: Taken) -> None:
    """Once taken over, it is a Worker like any other."""
    assert taken.site.run(CONFIDENCE_RESOLVER_ALLOWED_ORIGIN=ORIGIN).outcome == "unchanged"
