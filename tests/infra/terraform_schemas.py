"""What the providers' resources take, from the reference file beside the checkout and a few facts that it lacks.

Source: the schemas of the providers cloudflare 5.14 and aws 6 as their generated bindings give them.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from shared_files import SHARED

SCHEMAS = SHARED / "reference/terraform-schemas.json"
ADDED: dict[str, dict[str, dict[str, Any]]] = {
    "aws_s3_bucket_versioning": {
        "bucket": {"type": "string", "required": True},
        "versioning_configuration": {
            "type": "object",
            "required": True,
            "nested": {
                "status": {"type": "string", "required": True},
                "mfa_delete": {"type": "string", "required": False},
            },
        },
        "mfa": {"type": "string", "required": False},
        "region": {"type": "string", "required": False},
    },
    "aws_s3_bucket_server_side_encryption_configuration": {
        "bucket": {"type": "string", "required": True},
        "rule": {
            "type": "list(object)",
            "required": True,
            "nested": {
                "bucket_key_enabled": {"type": "bool", "required": False},
                "apply_server_side_encryption_by_default": {
                    "type": "object",
                    "required": False,
                    "nested": {
                        "sse_algorithm": {"type": "string", "required": True},
                        "kms_master_key_id": {"type": "string", "required": False},
                    },
                },
            },
        },
        "region": {"type": "string", "required": False},
    },
}
"""Resources that the reference file lacks."""
PROVIDERS: dict[str, dict[str, dict[str, Any]]] = {
    "aws": {
        "region": {"type": "string", "required": False},
        "default_tags": {
            "type": "object",
            "required": False,
            "nested": {"tags": {"type": "map(string)", "required": False}},
        },
    },
    "cloudflare": {"api_token": {"type": "string", "required": False}},
}
"""What a provider itself is told, as far as the examples do."""
COMPUTED = {
    "aws_cloudwatch_log_group": {"arn": "string"},
    "aws_db_instance": {
        "address": "string",
        "arn": "string",
        "master_user_secret": [{"secret_arn": "string", "secret_status": "string", "kms_key_id": "string"}],
    },
    "aws_iam_role": {"id": "string", "arn": "string"},
    "aws_kms_key": {"arn": "string"},
    "aws_lambda_function": {"arn": "string"},
    "aws_s3_bucket": {"id": "string", "arn": "string"},
    "aws_scheduler_schedule_group": {"arn": "string"},
    "aws_secretsmanager_secret": {"id": "string", "arn": "string"},
    "aws_sns_topic": {"arn": "string"},
    "aws_sqs_queue": {"arn": "string"},
    "cloudflare_account_token": {"id": "string", "value": "string"},
    "cloudflare_queue": {"queue_id": "string"},
    "cloudflare_workers_kv_namespace": {"id": "string"},
    "data.aws_caller_identity": {"account_id": "string"},
    "data.aws_iam_policy_document": {"json": "string"},
    "data.aws_partition": {"partition": "string"},
    "data.aws_region": {"region": "string"},
    "data.cloudflare_account_api_token_permission_groups_list": {
        "result": [{"id": "string", "name": "string", "scopes": ["string"]}]
    },
}
"""Attributes that a provider fills in, which the reference file leaves out, as far as the modules read them."""
WRITE_ONLY = {"aws_secretsmanager_secret_version": {"secret_string_wo"}}
UNNAMED = {
    "cloudflare_account_token": {"policies": {"permission_groups": {"id": {"type": "string", "required": True}}}},
    "aws_s3_bucket_lifecycle_configuration": {"rule": {"id": {"type": "string", "required": True}}},
    "aws_cloudwatch_metric_alarm": {"metric_query": {"id": {"type": "string", "required": True}}},
}
"""Arguments called `id`, which the reference file leaves out: by resource and the blocks around them."""


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument, attribute or nested block of a resource; `nested` is by name, and empty for plain values."""

    name: str
    type: str
    is_required: bool
    is_block: bool = False
    nested: dict[str, Argument] = field(default_factory=dict)

    @property
    def is_list(self) -> bool:
        return self.type.startswith("list(")


def has_schemas() -> bool:
    return SCHEMAS.exists()


@functools.cache
def read_schemas() -> dict[str, dict[str, Argument]]:
    """Arguments by resource type (`data.` before data sources) and name. Skips where the reference file is not."""
    if not has_schemas():
        pytest.skip(f"the providers' schemas are not at {SCHEMAS}")
    listed = json.loads(SCHEMAS.read_text())["resources"]
    assert not ADDED.keys() & listed.keys()
    schemas = {}
    for name, raw in (listed | ADDED).items():
        arguments = _merge(raw, UNNAMED.get(name, {}))
        is_aws = name.removeprefix("data.").startswith("aws_")
        schemas[name] = {key: _argument(key, value, is_aws=is_aws) for key, value in arguments.items()}
    return schemas


def read_provider(name: str) -> dict[str, Argument]:
    """Arguments of a `provider` block."""
    return {key: _argument(key, value, is_aws=True) for key, value in PROVIDERS[name].items()}


def _merge(raw: dict[str, Any], unnamed: dict[str, Any]) -> dict[str, Any]:
    merged = dict(raw)
    for name, added in unnamed.items():
        if "required" in added:
            merged[name] = added
        else:
            merged[name] = merged[name] | {"nested": _merge(merged[name]["nested"], added)}
    return merged


def _argument(name: str, raw: dict[str, Any], *, is_aws: bool) -> Argument:
    """Nested objects are blocks in the one provider and attributes in the other."""
    nested = {key: _argument(key, value, is_aws=is_aws) for key, value in raw.get("nested", {}).items()}
    return Argument(name, raw["type"], raw["required"], is_aws and "nested" in raw, nested)
