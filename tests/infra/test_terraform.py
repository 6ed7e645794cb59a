"""The modules through Terraform itself: valid, stable, without a secret in what it stores, wrong values refused."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from terraform_run import CLIENT_SECRET, MODULES, TERRAFORM, Terraform, TerraformError, environment_of

FUNCTIONS = ("sync-job", "log-consumer")


def test_format() -> None:
    """`terraform fmt` has nothing to change."""
    if shutil.which("terraform") is None:
        pytest.skip("there is no terraform on this machine")
    command = ["terraform", "fmt", "-check", "-recursive", "-diff", str(TERRAFORM)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("module", MODULES)
def test_each_module_is_valid_by_itself(module: str, tmp_path: Path) -> None:
    """Arguments, types and references are right, of the children without the root too."""
    Terraform(module, tmp_path).validate()


def test_terraforms_own_tests(tmp_path: Path) -> None:
    """`terraform test`, which mocks the providers and takes their schemas from the stand-ins."""
    assert "4 passed, 0 failed" in Terraform(".", tmp_path).run("test")


def test_applying_twice_changes_nothing(root: Terraform, applied: Any, variables: dict[str, Any]) -> None:
    """A second plan finds every resource as it should be."""
    changes = root.plan(**variables)["resource_changes"]
    assert len(changes) > 40
    assert {change["address"] for change in changes if change["change"]["actions"] != ["no-op"]} == set()


def test_secrets_are_in_neither_plan_nor_state(root: Terraform, applied: Any, variables: dict[str, Any]) -> None:
    """A value that goes through Terraform leaves no trace, and functions hold names."""
    plan = root.plan(**variables)
    assert CLIENT_SECRET not in str(plan)
    given = {root.folder / "variables.tfvars.json", root.written}
    files = [path for path in root.folder.rglob("*") if path.is_file() and path not in given]
    assert {"plan", "state"} <= {path.name for path in files}
    assert not [path for path in files if CLIENT_SECRET.encode() in path.read_bytes()]
    environment = environment_of(applied, "sync-job")
    for name in ("CLOUDFLARE_API_TOKEN", "CONFIDENCE_CLIENT_SECRET", "STATE_ENCRYPTION_KEY"):
        assert environment[name].startswith("arn:aws:secretsmanager:"), name


def test_one_run_at_a_time_and_no_old_events(applied: dict[str, dict[str, Any]]) -> None:
    """Concurrency is one; an event that waited longer than the schedule's rate is dropped, and none is tried again."""
    for job, minutes in (("sync-job", 1), ("log-consumer", 5)):
        function = applied[f'module.aws.aws_lambda_function.job["{job}"]']
        events = applied[f'module.aws.aws_lambda_function_event_invoke_config.job["{job}"]']
        schedule = applied[f'module.aws.aws_scheduler_schedule.job["{job}"]']
        assert function["reserved_concurrent_executions"] == 1
        assert (events["maximum_event_age_in_seconds"], events["maximum_retry_attempts"]) == (minutes * 60, 0)
        assert schedule["schedule_expression"] == f"rate({minutes} minute{'s' if minutes > 1 else ''})"
        [target] = schedule["target"]
        assert target["arn"] == function["arn"]
        assert target["dead_letter_config"][0]["arn"] == applied["module.aws.aws_sqs_queue.undelivered"]["arn"]


def test_what_does_not_run_sets_an_alarm_off(applied: dict[str, dict[str, Any]]) -> None:
    """No word of the live state or of the queue is bad news; of all else it is none."""
    alarms = {
        values["alarm_name"]: values["treat_missing_data"]
        for address, values in applied.items()
        if ".aws_cloudwatch_metric_alarm." in address
    }
    breaching = {name for name, treatment in alarms.items() if treatment == "breaching"}
    assert breaching == {"flagedge-state-unconfirmed", "flagedge-backlog-growing"}
    assert {alarms[name] for name in alarms.keys() - breaching} == {"notBreaching"}


def test_only_the_consumer_is_in_the_network(applied: dict[str, dict[str, Any]]) -> None:
    """The sync needs no catalogue, and so no NAT gateway."""
    networks = {job: applied[f'module.aws.aws_lambda_function.job["{job}"]']["vpc_config"] for job in FUNCTIONS}
    assert networks["sync-job"] == []
    assert networks["log-consumer"][0]["subnet_ids"] == ["subnet-1", "subnet-2"]


def test_each_job_has_its_own_token_and_role(applied: dict[str, dict[str, Any]]) -> None:
    """The consumer's token cannot touch Workers, and neither role reads the other's; both know the client's secret."""
    tokens = {job: applied[f'module.cloudflare.cloudflare_account_token.job["{job}"]'] for job in FUNCTIONS}
    groups = {job: token["policies"][0]["permission_groups"] for job, token in tokens.items()}
    assert {job: len(each) for job, each in groups.items()} == {"sync-job": 3, "log-consumer": 1}
    for job, other in zip(FUNCTIONS, reversed(FUNCTIONS), strict=True):
        policy = applied[f'module.aws.aws_iam_role_policy.job["{job}"]']["policy"]
        assert f"flagedge/{job}/CLOUDFLARE_API_TOKEN" in policy
        assert f"flagedge/{other}/CLOUDFLARE_API_TOKEN" not in policy
        assert "flagedge/sync-job/CONFIDENCE_CLIENT_SECRET" in policy
        named = {value for value in environment_of(applied, job).values() if value.startswith("arn:")}
        [readable] = [each["Resource"] for each in json.loads(policy)["Statement"] if each["Sid"] == "Secrets"]
        assert set(readable) == named


MAC_KEY = "sync-job/STATE_MAC_KEY"


def test_a_key_for_states_is_made(variables: dict[str, Any], tmp_path: Path) -> None:
    """Base64 of 32 random bytes goes into the secret, and stays; neither plan nor state has it."""
    keys = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        terraform = Terraform(".", folder)
        terraform.apply(**variables)
        keys += [each for secret, each in terraform.written_secrets() if secret.endswith(MAC_KEY)]
        changed = variables | {"log_level": "debug"}
        terraform.apply(**changed)
        assert [each for secret, each in terraform.written_secrets() if secret.endswith(MAC_KEY)] == keys[-1:]
        stored = [path for path in folder.rglob("*") if path.is_file() and path != terraform.written]
        assert not [path for path in stored if keys[-1].encode() in path.read_bytes()]
    assert [len(base64.b64decode(key, validate=True)) for key in keys] == [32, 32]
    assert len(set(keys)) == 2


def test_a_key_for_states_may_be_given(variables: dict[str, Any], tmp_path: Path) -> None:
    """Also after one was made; and none is made where the secret is another's, or nobody publishes."""
    terraform = Terraform(".", tmp_path)
    terraform.apply(**variables)
    given = {
        "secret_values": variables["secret_values"] | {MAC_KEY: "given"},
        "secret_versions": variables["secret_versions"] | {MAC_KEY: 1},
    }
    terraform.apply(**variables | given)
    assert [each for secret, each in terraform.written_secrets() if secret.endswith(MAC_KEY)][1:] == ["given"]
    arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:mine"
    applied = terraform.apply(**variables | {"existing_secrets": {MAC_KEY: arn}})
    assert environment_of(applied, "sync-job")["STATE_MAC_KEY"] == arn
    assert not [address for address in applied if MAC_KEY in address]
    applied = terraform.apply(**variables | {"publish": "deploy", "pages": None})
    assert not [address for address in applied if MAC_KEY in address or "resolver-state" in address]
    environment = environment_of(applied, "sync-job")
    assert environment["PUBLISH"] == "deploy"
    assert not [name for name in environment if name.startswith(("PAGE_", "STATE_MAC", "RULES_"))]


@pytest.mark.parametrize(("owner", "makes"), [("terraform", "false"), ("sync-job", "true")])
def test_queues_have_one_owner(owner: str, makes: str, variables: dict[str, Any], tmp_path: Path) -> None:
    """Either Terraform makes queue, consumer and namespaces, or sync-job is told that it may."""
    applied = Terraform(".", tmp_path).apply(**variables | {"resources_owner": owner})
    made = [address for address in applied if ".cloudflare_queue" in address or "kv_namespace" in address]
    assert bool(made) == (owner == "terraform")
    assert {environment_of(applied, job)["MAKE_RESOURCES"] for job in FUNCTIONS} == {makes}


def test_without_a_consumer(variables: dict[str, Any], tmp_path: Path) -> None:
    """Where the consumer runs elsewhere, nothing of it is made here."""
    packages = variables["packages"] | {"log_consumer": None}
    changed = {"packages": packages, "catalogue": None, "secret_values": {}, "secret_versions": {}}
    applied = Terraform(".", tmp_path).apply(**variables | changed)
    assert not [address for address in applied if "log-consumer" in address and ".cloudflare" not in address]


EXAMPLES = {
    "minimal": {"catalogue": {"host": "db.example.com", "database": "lake", "user": "flagedge"}},
    "production": {
        "region": "eu-central-1",
        "private_subnet_ids": ["subnet-1"],
        "consumer_security_group_ids": ["sg-1"],
        "catalogue_security_group_ids": ["sg-2"],
        "catalogue_subnet_group": "private",
        "confidence_client_secret": CLIENT_SECRET,
        "alarm_emails": ["on-call@example.com"],
    },
}
"""What each example has to be told beside account and packages."""


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_apply_at_once(example: str, variables: dict[str, Any], tmp_path: Path) -> None:
    """What is known only after something else was made stops no plan, and a second one changes nothing."""
    terraform = Terraform(f"examples/{example}", tmp_path)
    given = EXAMPLES[example] | {name: variables[name] for name in ("cloudflare_account_id", "packages")}
    applied = terraform.apply(**given)
    changes = terraform.plan(**given)["resource_changes"]
    assert {change["address"] for change in changes if change["change"]["actions"] != ["no-op"]} == set()
    assert len(changes) == len([address for address in applied if ".data." not in f".{address}"])


def test_the_catalogues_password_stays_with_rds(variables: dict[str, Any], tmp_path: Path) -> None:
    """In the production example the consumer reads the key of RDS's own secret."""
    given = EXAMPLES["production"] | {name: variables[name] for name in ("cloudflare_account_id", "packages")}
    applied = Terraform("examples/production", tmp_path).apply(**given)
    address = 'module.flagedge.module.aws.aws_lambda_function.job["log-consumer"]'
    password = applied[address]["environment"][0]["variables"]["DATABASE_PASSWORD"]
    arn = applied["aws_db_instance.catalogue"]["master_user_secret"][0]["secret_arn"]
    assert password == f"{arn}#password"
    policy = applied['module.flagedge.module.aws.aws_iam_role_policy.job["log-consumer"]']["policy"]
    assert f'"{arn}"' in policy


WRONG = {
    "name": ("Flag Edge", "3 to 24 lower-case"),
    "packages": ({"sync_job": "/no/such.zip"}, "make package"),
    "architecture": ("riscv", "arm64"),
    "cloudflare_account_id": ("me@example.com", "32 hexadecimal digits"),
    "worker_name_prefix": ("-shop", "hyphen at either end"),
    "resources_owner": ("nobody", "terraform"),
    "message_retention_s": (10, "60 seconds to 14 days"),
    "publish": ("git", '"deploy" or "kv"'),
    "rules_ttl_ms": (10, "100 to 3600000"),
    "max_blast_radius": (20, "a share from 0 to 1"),
    "pages": ({"flags": {"shop": ["a"]}}, "flags by path"),
    "pages ": ({"flags": {}}, "flags by path"),
    "pages  ": ({"flags": {"/": ["a"]}, "context": {"ip": "ip"}}, "sources of pages.context"),
    "pages   ": ({"flags": {"/": ["a"]}, "context": {"staff": "access:email"}}, "need pages.access"),
    "pages    ": ({"flags": {"/": ["a"]}, "context": {"targeting_key": "cookie:id"}}, "The unit in pages.context"),
    "pages     ": (
        {"flags": {"/": ["a"]}, "context": {"ip": "header:CF-Connecting-IP"}},
        "An IP address is no attribute",
    ),
    "sync": ({"timeout_s": 10}, "a deployment takes up to a minute"),
    "sync ": ({"settings": {"LEASE": "off"}}, "repeats a setting"),
    "sync  ": ({"settings": {"CLOUDFLARE_API_TOKEN": "hunter2"}}, "a secret of its own"),
    "sync   ": ({"settings": {"ALERT_WEBHOOK_URL": "aws-ssm:/hook"}}, "may not read"),
    "consumer": ({"schedule_minutes": 1}, "no longer than the time to the next run"),
    "consumer ": ({"memory_mb": 128}, "1024 to 10240"),
    "consumer  ": ({"maintain_at_utc": "daily"}, "six fields"),
    "consumer   ": ({"maintain_at_utc": "17 3 * * * *"}, "a question mark"),
    "consumer    ": ({"timeout_s": 30}, "the last 30 seconds pull nothing"),
    "consumer     ": ({"settings": {"DATABASE_PASSWORD": "hunter2"}}, "a secret of its own"),
    "consumer      ": (
        {"settings": {"ALERT_WEBHOOK_URL": "arn:aws:ssm:eu-central-1:1:parameter/hook"}},
        "may not read",
    ),
    "catalogue": (None, "give both"),
    "catalogue ": ({"host": "h", "database": "lake;", "user": "u"}, "letters, digits"),
    "catalogue  ": ({"host": "h", "database": "d", "user": "u", "sslmode": "disable"}, "sslmode"),
    "catalogue   ": ({"host": "db.example.com:5432", "database": "d", "user": "u"}, "without a port"),
    "network": ({"subnet_ids": [], "security_group_ids": []}, "at least one subnet"),
    "more_secrets": (["TOKEN"], "named by job and setting"),
    "existing_secrets": ({"sync-job/WEBHOOK_SECRET": "hunter2"}, "its ARN"),
    "secret_values": ({"sync-job/CONFIDENCE_CLIENT_SECRET": " "}, "is empty"),
    "secret_versions": ({"sync-job/WEBHOOK_SECRET": 1}, "not made here"),
    "secret_versions ": ({"log-consumer/DATABASE_PASSWORD": 1}, "without a value"),
    "bucket_name": ("My_Bucket", "3 to 63 lower-case"),
    "noncurrent_days": (0, "1 to 365"),
    "kms_key_arn": ("alias/mine", "by its ARN"),
    "kms_key_arn ": ("arn:aws:kms:eu-central-1:123456789012:alias/mine", "not by an alias"),
    "log_retention_days": (31, "CloudWatch keeps logs"),
    "log_level": ("loud", "debug, info, warning or error"),
    "alarm_emails": (["nobody"], "no e-mail address"),
    "alarms": ({"unconfirmed_minutes": 1}, "less time than passes between runs"),
    "alarms ": ({"backlog_minutes": 1445}, "looks back one day"),
}
"""By variable (blanks tell several of one apart): a wrong value, and what the message says."""


@pytest.mark.parametrize("variable", WRONG)
def test_wrong_values_are_refused(variable: str, variables: dict[str, Any], root: Terraform, applied: Any) -> None:
    """Each with a message that says what is right."""
    value, message = WRONG[variable]
    with pytest.raises(TerraformError) as refused:
        root.plan(**variables | {variable.strip(): value})
    assert message in str(refused.value)
