"""Values that name a secret in AWS, against moto over HTTP."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from aws import Aws, run_aws

from flagedge.errors import SettingsError
from flagedge.references import resolve_references
from log_consumer.settings import read_settings

SECRET = "hunter2-and-then-some"
ELSEWHERE = "us-east-2"


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    with run_aws(monkeypatch) as aws:
        yield aws


@pytest.fixture(autouse=True)
def _no_secret_is_printed(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """No test prints or logs the secret, although everything logs as much as it can."""
    caplog.set_level(logging.DEBUG)
    yield
    assert not [record for record in caplog.get_records("call") if SECRET in record.getMessage()]
    assert SECRET not in "".join(capfd.readouterr())


@contextmanager
def unlogged() -> Iterator[None]:
    """What the test itself tells AWS is not what is looked for."""
    logging.disable(logging.DEBUG)
    yield
    logging.disable(logging.NOTSET)


def store_secret(aws: Aws, name: str = "prod/cf", *, region: str = "eu-west-1", **value: str | bytes) -> str:
    """Make a secret with SecretString=SECRET, or what is given; its ARN."""
    with unlogged():
        client = aws.client("secretsmanager", region)
        return client.create_secret(Name=name, **(value or {"SecretString": SECRET}))["ARN"]


def store_parameter(aws: Aws, name: str, value: str = SECRET, *, region: str = "eu-west-1") -> str:
    """Make a SecureString; its ARN."""
    with unlogged():
        client = aws.client("ssm", region)
        client.put_parameter(Name=name, Value=value, Type="SecureString")
        return client.get_parameter(Name=name)["Parameter"]["ARN"]


def resolve(reference: str) -> str:
    return resolve_references({"TOKEN": reference}, ["TOKEN"]).values["TOKEN"]


def problems_of(**environ: str) -> list[str]:
    """What is wrong with these settings; no problem tells the secret."""
    with pytest.raises(SettingsError) as caught:
        resolve_references(environ, list(environ))
    assert SECRET not in repr(caught.value)
    assert caught.value.__context__ is None
    return caught.value.problems


def problem_of(reference: str) -> str:
    """The one problem, which begins with the variable and the reference."""
    (problem,) = problems_of(TOKEN=reference)
    start = f"TOKEN names {reference}: "
    assert problem.startswith(start)
    return problem.removeprefix(start)


def test_values_pass_and_absent_ones_stay_absent() -> None:
    """A value that is no reference is taken as it is; an empty one counts as absent."""
    environ = {"A": " plain ", "B": "", "C": "arn:aws:s3:::bucket", "D": "arn:aws:ssm:eu-west-1:1:document/x", "E": "e"}
    resolved = resolve_references(environ, ["A", "B", "C", "D", "MISSING"])
    assert resolved.values == {"A": "plain", "C": environ["C"], "D": environ["D"]}
    assert resolved.sources == dict.fromkeys("ACD", "environment")


def test_boto3_is_not_imported_without_a_reference() -> None:
    """Who names no secret pays nothing; the lease costs nothing either until it is in S3."""
    code = """
import sys
import sync_job.lease_places
from flagedge.references import resolve_references
from log_consumer.settings import read_settings
resolve_references({"TOKEN": "arn:aws:iam::1:role/x"}, ["TOKEN"])
print([name for name in sys.modules if name.startswith("boto")])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_secret_by_name_and_by_arn(aws: Aws) -> None:
    """A name is looked up in the default region, an ARN in its own."""
    store_secret(aws)
    arn = store_secret(aws, "far", region=ELSEWHERE)
    resolved = resolve_references({"A": "aws-secretsmanager:prod/cf", "B": arn}, ["A", "B"])
    assert resolved.values == {"A": SECRET, "B": SECRET}
    assert resolved.sources == {"A": "aws-secretsmanager:prod/cf", "B": arn}
    assert aws.calls == [("GetSecretValue", "eu-west-1"), ("GetSecretValue", ELSEWHERE)]
    assert SECRET not in repr(resolved)


def test_parameter_by_name_and_by_arn(aws: Aws) -> None:
    """Parameters are decrypted; an ARN's region counts here too."""
    store_parameter(aws, "/prod/token")
    arn = store_parameter(aws, "/far/token", region=ELSEWHERE)
    assert resolve("aws-ssm:/prod/token") == SECRET
    assert resolve(arn) == SECRET
    assert aws.calls == [("GetParameter", "eu-west-1"), ("GetParameter", ELSEWHERE)]


def test_keys_of_one_secret_are_fetched_once(aws: Aws) -> None:
    """Several settings may live in one JSON secret, or parameter; a key may have a # of its own."""
    arn = store_secret(aws, SecretString=json.dumps({"a": SECRET, "b#c": "other"}))
    store_parameter(aws, "json", '{"a": "third"}')
    environ = {"A": f"{arn}#a", "B": f"{arn}#b#c", "C": "aws-ssm:json#a"}
    resolved = resolve_references(environ, list(environ))
    assert resolved.values == {"A": SECRET, "B": "other", "C": "third"}
    assert resolved.sources == environ
    assert aws.operations == ["GetSecretValue", "GetParameter"]


def test_binary_secret(aws: Aws) -> None:
    """A binary secret may be UTF-8 text; anything else is refused."""
    store_secret(aws, "text", SecretBinary=SECRET.encode())
    store_secret(aws, "bytes", SecretBinary=b"\xff\x00")
    assert resolve("aws-secretsmanager:text") == SECRET
    assert "no UTF-8 text" in problem_of("aws-secretsmanager:bytes")


def test_what_was_fetched_is_no_reference(aws: Aws) -> None:
    """A secret cannot send us on to another one."""
    store_secret(aws, "one", SecretString="aws-secretsmanager:two")
    assert resolve("aws-secretsmanager:one") == "aws-secretsmanager:two"


def test_all_problems_at_once(aws: Aws) -> None:
    """Every setting has its own line, though a secret that several name is asked for once."""
    problems = problems_of(A="aws-secretsmanager:x#a", B="aws-secretsmanager:x#b", C="aws-ssm:y", D="fine")
    assert [problem.split(":")[0] for problem in problems] == [
        "A names aws-secretsmanager",
        "B names aws-secretsmanager",
        "C names aws-ssm",
    ]
    assert aws.operations == ["GetSecretValue", "GetParameter"]


@pytest.mark.parametrize(
    ("reference", "thing", "region"),
    [
        ("aws-secretsmanager:no/such", "secret", "eu-west-1"),
        ("arn:aws:secretsmanager:us-east-2:123456789012:secret:none-AbCdEf", "secret", ELSEWHERE),
        ("aws-ssm:/no/such", "parameter", "eu-west-1"),
        ("arn:aws:ssm:us-east-2:123456789012:parameter/no/such", "parameter", ELSEWHERE),
    ],
)
def test_missing(aws: Aws, reference: str, thing: str, region: str) -> None:
    """What is not there is said to be missing, and where."""
    assert problem_of(reference).startswith(f"there is no such {thing} in {region}: create it")


def test_missing_version_of_a_parameter(aws: Aws) -> None:
    """A parameter's version or label stands in its name."""
    store_parameter(aws, "token")
    assert resolve("aws-ssm:token:1") == SECRET
    assert "no such version" in problem_of("aws-ssm:token:7")


def test_deleted_secret(aws: Aws) -> None:
    """A secret that waits for its deletion can still be restored."""
    store_secret(aws)
    aws.client("secretsmanager").delete_secret(SecretId="prod/cf")
    assert "restore it" in problem_of("aws-secretsmanager:prod/cf")


@pytest.mark.parametrize(
    ("operation", "reference", "action"),
    [
        ("GetSecretValue", "aws-secretsmanager:x", "secretsmanager:GetSecretValue"),
        ("GetParameter", "aws-ssm:x", "ssm:GetParameter"),
    ],
)
def test_access_denied(aws: Aws, operation: str, reference: str, action: str) -> None:
    """A refusal names the IAM action that is missing."""
    aws.break_calls(operation, status=400, code="AccessDeniedException")
    assert f"allow {action}" in problem_of(reference)


@pytest.mark.parametrize(
    ("code", "way_out"),
    [
        ("ExpiredTokenException", "does not accept the credentials (ExpiredTokenException)"),
        ("UnrecognizedClientException", "does not accept the credentials"),
        ("DecryptionFailure", "kms:Decrypt"),
        ("SomethingNewException", "AWS answered SomethingNewException"),
    ],
)
def test_other_refusals(aws: Aws, code: str, way_out: str) -> None:
    """Known codes get a way out, unknown ones are named."""
    aws.break_calls("GetSecretValue", status=400, code=code)
    assert way_out in problem_of("aws-secretsmanager:x")


@pytest.mark.parametrize(
    ("text", "way_out"),
    [
        (SECRET, "is not JSON"),
        ("[" * 60_000, "is not JSON"),
        (f'["{SECRET}"]', "no object"),
        (f'{{"other": "{SECRET}"}}', "no such key"),
        (f'{{"key": ["{SECRET}"]}}', "no text"),
        ('{"key": 12345}', "no text"),
        ('{"key": " "}', "is empty"),
    ],
)
def test_wrong_json(aws: Aws, text: str, way_out: str) -> None:
    """A key needs a JSON object that has it, as text that says something."""
    store_secret(aws, SecretString=text)
    assert way_out in problem_of("aws-secretsmanager:prod/cf#key")


@pytest.mark.parametrize(
    "reference",
    ["aws-secretsmanager:", "aws-ssm:#key", "arn:aws:secretsmanager", "arn:aws:secretsmanager:eu-west-1:1:sec"],
)
def test_name_is_missing(aws: Aws, reference: str) -> None:
    """Half a reference is neither asked for nor taken for a value."""
    assert "a name is missing" in problem_of(reference)
    assert aws.calls == []


def test_region_that_is_none(aws: Aws) -> None:
    """boto3 knows what a region looks like."""
    assert "boto3 says: Provided region_name 'NO WHERE'" in problem_of("arn:aws:secretsmanager:NO WHERE:1:secret:x")


def test_answer_without_a_value(aws: Aws) -> None:
    """An answer that was cut in the middle is no empty secret, and is not quoted."""
    aws.break_calls("GetSecretValue", status=200, body=f'{{"SecretString": "{SECRET}'.encode())
    assert "without a value" in problem_of("aws-secretsmanager:x")


def test_no_region(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name needs a default region, an ARN does not."""
    arn = store_secret(aws)
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    assert "set AWS_DEFAULT_REGION" in problem_of("aws-secretsmanager:prod/cf")
    assert resolve(arn) == SECRET


def test_no_credentials(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without credentials nobody is asked."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert "no AWS credentials were found" in problem_of("aws-ssm:x")
    assert aws.calls == []


def test_wrong_profile(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is wrong with AWS's own settings is said in boto3's words."""
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    assert "boto3 says: The config profile (nobody) could not be found" in problem_of("aws-ssm:x")


def test_no_boto3(monkeypatch: pytest.MonkeyPatch) -> None:
    """boto3 is an extra, and who needs it is told which."""
    monkeypatch.setitem(sys.modules, "boto3.session", None)
    assert "pip install 'flagedge[aws]'" in problem_of("aws-ssm:x")


def test_a_passing_failure_is_not_seen(aws: Aws) -> None:
    """Two broken calls in a row are made good."""
    store_secret(aws)
    aws.break_calls("GetSecretValue")
    aws.break_calls("GetSecretValue", status=503, code="InternalServiceError")
    assert resolve("aws-secretsmanager:prod/cf") == SECRET


def test_no_answer(aws: Aws) -> None:
    """A service that does not answer is tried three times, and not again for the next secret."""
    aws.break_calls("GetSecretValue", times=9)
    problems = problems_of(A="aws-secretsmanager:x", B="aws-secretsmanager:y")
    assert len(problems) == 2
    assert all("AWS did not answer" in problem for problem in problems)
    assert aws.operations == ["GetSecretValue"] * 3


def test_the_consumers_settings_may_be_references(aws: Aws) -> None:
    """log-consumer takes its secrets from there as well, at once and with every problem."""
    arn = store_secret(aws)
    environ = {"CLOUDFLARE_API_TOKEN": arn, "DATABASE": "exposures.duckdb"}
    assert read_settings(environ).api_token.reveal() == SECRET
    with pytest.raises(SettingsError, match=r"CLOUDFLARE_API_TOKEN .*no such secret"):
        read_settings({"CLOUDFLARE_API_TOKEN": "aws-secretsmanager:absent"})
