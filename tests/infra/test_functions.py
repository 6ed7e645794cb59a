"""Both functions from their zips, with what Terraform tells them and allows them, in a deployment on loopback."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import shop
from artefacts import HANDLERS
from aws import run_aws
from deployment import RULE, SCHEDULED, Site, is_allowed, make_site
from terraform_run import REPOSITORY, Terraform

from local_edge.server import LocalEdge

sys.path.append(str(Path(__file__).parents[1] / "log_consumer"))
from postgres import PASSWORD, USER, Postgres

VISITOR_COUNT = 20
WITHOUT_A_CALL = {
    "sync-job": {},
    "log-consumer": {
        "s3:DeleteObject": "maintenance deletes files that no snapshot of the last day needs; here none is that old",
    },
}
"""Allowed though these calls do not ask for it, and why, by job."""
OWN = "flagedge"
OPERATIONS = (REPOSITORY / "docs/operations.md").read_text()
MAC_KEY = base64.b64encode(bytes(range(32))).decode()


@pytest.fixture(scope="module")
def site(
    variables: dict[str, Any], unpacked: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """Applied, filled with secrets, and called: a sync, visitors, a drain, and both once more."""
    folder = tmp_path_factory.mktemp("site")
    postgres = Postgres()
    monkeypatch = pytest.MonkeyPatch()
    try:
        lake = postgres.make_lake("s3://given-elsewhere")
        catalogue = {"host": lake.host, "port": lake.port, "database": lake.name, "user": USER}
        applied = Terraform(".", folder / "terraform").apply(
            **variables
            | {"catalogue": catalogue, "more_secrets": [], "secret_versions": {}, "secret_values": {}}
            | {"create_api_tokens": False}
        )
        secrets = {
            "CLOUDFLARE_API_TOKEN": "token-of-the-function",
            "CONFIDENCE_CLIENT_SECRET": shop.WEB_SECRET,
            "DATABASE_PASSWORD": PASSWORD,
            "STATE_MAC_KEY": MAC_KEY,
            "PAGE_ATTRIBUTE_KEYS": json.dumps({"k": MAC_KEY}),
        }
        with run_aws(monkeypatch) as aws, LocalEdge(dir=folder / "edge", grace_s=0.5) as edge:
            made = make_site(edge, aws, applied, unpacked, secrets)
            made.call("sync-job", SCHEDULED, RULE)
            # Another setting, the same state: that comes out of the archive.
            made.call("sync-job", SCHEDULED, LOG_LINGER_MS="100")
            edge.publish_state(shop.WEB_SECRET, shop.changed_shop_payload())
            made.call("sync-job", SCHEDULED, LOG_LINGER_MS="100", MAX_BLAST_RADIUS="1")
            made.send_visitors(VISITOR_COUNT)
            [maintain] = applied["module.aws.aws_scheduler_schedule.maintain[0]"]["target"]
            made.call("log-consumer", SCHEDULED, RULE, json.loads(maintain["input"]))
            yield made
    finally:
        monkeypatch.undo()
        postgres.close()


def test_a_schedule_deploys_and_drains(site: Site) -> None:
    """The sync deploys, and publishes the next state; the consumer loads what visitors left, and finds nothing more."""
    outcomes = [result["outcome"] for told in site.told["sync-job"] for result in told["results"]]
    assert outcomes == ["deployed", "unchanged", "deployed", "published"]
    [drained] = site.told["log-consumer"]
    first, second, maintained = drained["results"]
    assert first["exposures_rows"] >= VISITOR_COUNT
    assert second["loaded_count"] == 0
    assert maintained["files_after"] < maintained["files_before"]


def test_a_deployment_needs_no_more_time_than_the_function_has(site: Site) -> None:
    """The longest thing that a function does on this machine is far below its timeout."""
    for job in HANDLERS:
        timeout_s = site.applied[f'module.aws.aws_lambda_function.job["{job}"]']["timeout"]
        durations = [line.get("run_duration", line.get("drain_duration", 0)) for line in site.metrics(job)]
        assert max(durations) < timeout_s / 2


@pytest.mark.parametrize("job", HANDLERS)
def test_roles_allow_what_is_called_and_no_more(job: str, site: Site) -> None:
    """Each call is allowed on the object it was for, and each allowed action was called."""
    statements = [statement for statement in site.policy(job) if not statement["Sid"].startswith("Runtime")]
    called = site.calls[job]
    assert {call for call in called if not is_allowed(statements, *call)} == set()
    allowed = {action for statement in statements for action in statement["Action"]}
    assert allowed - {action for action, _ in called} == WITHOUT_A_CALL[job].keys()


@pytest.mark.parametrize("job", HANDLERS)
def test_secrets_are_not_logged(job: str, site: Site) -> None:
    """Nothing that came from Secrets Manager stands in a log line or in an answer."""
    text = json.dumps([(told["log"], told["results"]) for told in site.told[job]])
    assert shop.WEB_SECRET not in text
    assert json.dumps(PASSWORD)[1:-1] not in text
    assert "token-of-the-function" not in text
    assert MAC_KEY not in text


def test_alarms_and_dashboard_name_metrics_that_are_sent(site: Site) -> None:
    """Every metric of ours that something looks at came out of a run, under the very dimensions, and is paid for."""
    sent = {
        (metric["Name"], tuple((name, line[name]) for name in dimensions))
        for job in HANDLERS
        for line in site.metrics(job)
        for group in line["_aws"]["CloudWatchMetrics"]
        for dimensions in group["Dimensions"]
        for metric in group["Metrics"]
    }
    looked_at = set(alarmed_metrics(site.applied)) | set(shown_metrics(site.applied))
    assert len(looked_at) >= 10
    assert looked_at - sent == set()
    assert f"; {len(sent)} metrics " in OPERATIONS
    alarmed = list(alarmed_metrics(site.applied, namespaces=("AWS/Lambda", "AWS/SQS", OWN)))
    assert f"; {len(alarmed)} metrics\nthat alarms look at " in OPERATIONS


def alarmed_metrics(
    applied: dict[str, dict[str, Any]], *, namespaces: tuple[str, ...] = (OWN,)
) -> Iterator[tuple[str, tuple[tuple[str, str], ...]]]:
    for address, alarm in applied.items():
        if ".aws_cloudwatch_metric_alarm." not in address:
            continue
        assert alarm["alarm_actions"] == [applied["module.aws.aws_sns_topic.alarms"]["arn"]], address
        queried = [query["metric"][0] for query in alarm["metric_query"] or [] if query["metric"]]
        for metric in queried or [alarm]:
            if metric["namespace"] in namespaces:
                yield metric["metric_name"], tuple(metric["dimensions"].items())


def shown_metrics(applied: dict[str, dict[str, Any]]) -> Iterator[tuple[str, tuple[tuple[str, str], ...]]]:
    body = json.loads(applied["module.aws.aws_cloudwatch_dashboard.overview"]["dashboard_body"])
    for widget in body["widgets"]:
        for namespace, name, *dimensions in widget["properties"]["metrics"]:
            if namespace == OWN:
                yield name, tuple(zip(dimensions[::2], dimensions[1::2], strict=True))
