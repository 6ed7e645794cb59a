"""A whole deployment on loopback: what Terraform would make, as it would be called, and the unpacked functions in it.

Cloudflare is a local edge, AWS is moto, the catalogue a real Postgres. What Terraform applied through the stand-ins
says how everything is called, what the functions are told, and what their roles allow.
"""

from __future__ import annotations

import fnmatch
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import shop
from artefacts import call
from aws import REGION, Aws
from operators import API_TOKEN, operator_environ

from flagedge.settings import Secret
from local_edge.server import LocalEdge
from sync_job.workers_api import WorkersApi

ACCOUNT_ID = "123456789012"
SCHEDULED = {
    "version": "0",
    "id": "3f1f8a5e-7c0b-4b36-9a55-2a0c4f9d2b11",
    "detail-type": "Scheduled Event",
    "source": "aws.scheduler",
    "account": ACCOUNT_ID,
    "time": "2026-11-21T10:00:00Z",
    "region": REGION,
    "resources": [f"arn:aws:scheduler:{REGION}:{ACCOUNT_ID}:schedule/flagedge/sync-job"],
    "detail": "{}",
}
"""What EventBridge Scheduler sends when it is told no input."""
RULE = SCHEDULED | {
    "source": "aws.events",
    "resources": [f"arn:aws:events:{REGION}:{ACCOUNT_ID}:rule/flagedge"],
    "detail": {},
}
"""What a rule of EventBridge sends."""
S3_ACTIONS = {
    "GET": "s3:GetObject",
    "HEAD": "s3:GetObject",
    "PUT": "s3:PutObject",
    "POST": "s3:PutObject",
    "DELETE": "s3:DeleteObject",
}


@dataclass
class Site:
    """`environs` are the functions' by job. `calls` and `told` are what they asked of AWS and answered, by job."""

    edge: LocalEdge
    aws: Aws
    applied: dict[str, dict[str, Any]]
    unpacked: dict[str, Path]
    environs: dict[str, dict[str, str]]
    calls: dict[str, set[tuple[str, str]]] = field(default_factory=dict)
    told: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def call(self, job: str, *events: dict[str, Any], **settings: str) -> dict[str, Any]:
        """Call the function, each event in one process, as a warm function does; `settings` are changed ones."""
        del self.aws.calls[:], self.aws.paths[:]
        told = call(job, self.unpacked[job], self.environs[job] | settings, *events)
        self.calls.setdefault(job, set()).update(map(action_of, self.aws.calls, self.aws.paths))
        self.told.setdefault(job, []).append(told)
        return told

    def send_visitors(self, count: int) -> None:
        """Resolves that are exposures, and the time until their log is in the queue."""
        name = self.environs["sync-job"]["WORKER_NAME_PREFIX"] + "-confidence-cloudflare-resolver"
        for index in range(count):
            body = {"clientSecret": shop.WEB_SECRET, "evaluationContext": {"visitor_id": f"v{index}"}, "apply": True}
            httpx.post(f"{self.edge.worker_url(name)}/v1/flags:resolve", json=body).raise_for_status()
        time.sleep(1)

    def policy(self, job: str) -> list[dict[str, Any]]:
        """The statements of a function's role."""
        document = self.applied[f'module.aws.aws_iam_role_policy.job["{job}"]']["policy"]
        statements: list[dict[str, Any]] = json.loads(document)["Statement"]
        return statements

    def metrics(self, job: str) -> list[dict[str, Any]]:
        """The log lines that CloudWatch takes metrics from."""
        return [line for told in self.told[job] for line in told["log"] if "_aws" in line]


def action_of(called: tuple[str, str], path: str) -> tuple[str, str]:
    """The action that AWS asks a permission for, and the path of an object, empty for other services."""
    operation, _ = called
    if operation not in S3_ACTIONS:
        return f"secretsmanager:{operation}", ""
    parts = urlsplit(path)
    query = parse_qs(parts.query, keep_blank_values=True)
    if "list-type" in query:
        return "s3:ListBucket", query.get("prefix", [""])[0]
    if "delete" in query:
        return "s3:DeleteObject", ""
    if operation == "DELETE" and "uploadId" in query:
        return "s3:AbortMultipartUpload", parts.path
    return S3_ACTIONS[operation], parts.path.lstrip("/")


def is_allowed(statements: list[dict[str, Any]], action: str, path: str) -> bool:
    """Whether a statement allows the action on that object, or on what begins with that prefix; or on a secret."""
    for statement in (statement for statement in statements if action in statement["Action"]):
        prefixes = statement.get("Condition", {}).get("StringLike", {}).get("s3:prefix")
        objects = [resource.rpartition(":")[2] for resource in statement["Resource"]]
        patterns = prefixes if prefixes is not None else objects
        if not action.startswith("s3:") or any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns):
            return True
    return False


def make_site(
    edge: LocalEdge,
    aws: Aws,
    applied: dict[str, dict[str, Any]],
    unpacked: dict[str, Path],
    secrets: dict[str, str],
) -> Site:
    """Everything that Terraform makes, on loopback; `secrets` are values by setting."""
    edge.publish_state(shop.WEB_SECRET, shop.shop_payload())
    _make_cloudflare(edge, applied)
    bucket = applied["module.aws.aws_s3_bucket.data"]["bucket"]
    aws.client("s3").create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    arns = {}
    for values in (values for address, values in applied.items() if ".aws_secretsmanager_secret.setting" in address):
        setting = values["name"].rpartition("/")[2]
        made = aws.client("secretsmanager").create_secret(Name=values["name"], SecretString=secrets[setting])
        arns[values["arn"]] = made["ARN"]
    outside = {
        name: value
        for name, value in operator_environ(edge, shop.WEB_SECRET).items()
        if name in {"CLOUDFLARE_API_BASE_URL", "CONFIDENCE_RESOLVER_STATE_URL"}
    }
    environs = {}
    for job in unpacked:
        [environment] = applied[f'module.aws.aws_lambda_function.job["{job}"]']["environment"]
        given = {name: arns.get(value, value) for name, value in environment["variables"].items()}
        environs[job] = given | outside | lambda_environ(job, aws)
    # The account is the edge's, and its Postgres speaks no TLS.
    for environ in environs.values():
        environ["CLOUDFLARE_ACCOUNT_ID"] = _account_id(edge)
    environs["log-consumer"]["DATABASE"] = environs["log-consumer"]["DATABASE"].replace("=require", "=disable")
    return Site(edge, aws, applied, unpacked, environs)


def lambda_environ(job: str, aws: Aws) -> dict[str, str]:
    """What Lambda itself sets, and the way to moto."""
    return {
        "AWS_LAMBDA_FUNCTION_NAME": f"flagedge-{job}",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "2048",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_ENDPOINT_URL": aws.url,
    }


def _make_cloudflare(edge: LocalEdge, applied: dict[str, dict[str, Any]]) -> None:
    made: dict[str, list[dict[str, Any]]] = {"queue": [], "queue_consumer": [], "workers_kv_namespace": []}
    for address, values in applied.items():
        kind = address.split(".cloudflare_")[-1].partition(".")[0]
        if kind in made:
            made[kind].append(values)
    with WorkersApi(api_token=Secret(API_TOKEN), account_id=_account_id(edge), base_url=edge.api_url) as api:
        ids = {values["queue_id"]: api.create_queue(values["queue_name"]).queue_id for values in made["queue"]}
        for values in made["queue_consumer"]:
            assert values["type"] == "http_pull"
            api.create_pull_consumer(ids[values["queue_id"]], dead_letter_queue=values["dead_letter_queue"] or "")
        for values in made["workers_kv_namespace"]:
            api.create_kv_namespace(values["title"])


def _account_id(edge: LocalEdge) -> str:
    answer = httpx.get(f"{edge.api_url}/accounts", headers={"authorization": f"Bearer {API_TOKEN}"}).raise_for_status()
    account_id: str = answer.json()["result"][0]["id"]
    return account_id
