"""Settings whose value names a secret in AWS instead of being one.

    arn:PARTITION:secretsmanager:REGION:ACCOUNT:secret:NAME    Secrets Manager, in the ARN's region
    aws-secretsmanager:NAME                                    Secrets Manager, in the default region
    arn:PARTITION:ssm:REGION:ACCOUNT:parameter/NAME            Parameter Store, in the ARN's region
    aws-ssm:NAME                                               Parameter Store, in the default region

`#KEY` behind any of them takes one key out of a JSON object; neither service allows a `#` in a name. Credentials,
default region and endpoint are AWS's own settings, which boto3 reads from the process's environment and files.
boto3 is imported only for a value that is a reference: nobody else waits for it, or has to install it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from flagedge.errors import SettingsError
from flagedge.settings import SettingsReader, is_reference

ENVIRONMENT = "environment"
SECRETS_MANAGER, PARAMETER_STORE = "secretsmanager", "ssm"
_SHORT_FORMS = {"aws-secretsmanager:": SECRETS_MANAGER, "aws-ssm:": PARAMETER_STORE}
_ACTIONS = {SECRETS_MANAGER: "secretsmanager:GetSecretValue", PARAMETER_STORE: "ssm:GetParameter"}

_MISSING = "there is no such {thing} in {region}: create it, or correct its name or its region"
_NO_KEY = "AWS cannot decrypt it: is its KMS key enabled, and is kms:Decrypt allowed?"
_BAD_CREDENTIALS = "AWS does not accept the credentials ({code}): renew or correct them, and check the clock"
_PROBLEMS = {
    "ResourceNotFoundException": _MISSING,
    "ParameterNotFound": _MISSING,
    "ParameterVersionNotFound": "the parameter has no such version or label",
    "AccessDeniedException": "access denied: allow {action} on it, and kms:Decrypt where its key is your own",
    "InvalidRequestException": "it is scheduled for deletion, or has no current version: restore it",
    "DecryptionFailure": _NO_KEY,
    "InvalidKeyId": _NO_KEY,
    "UnrecognizedClientException": _BAD_CREDENTIALS,
    "InvalidClientTokenId": _BAD_CREDENTIALS,
    "InvalidSignatureException": _BAD_CREDENTIALS,
    "ExpiredTokenException": _BAD_CREDENTIALS,
}
"""By AWS's error code."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """The settings that are there, and where each came from: `environment`, or the reference as it was written."""

    values: Mapping[str, str] = field(repr=False)
    sources: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Secret:
    """A secret or parameter; an empty `region` is the default one."""

    service: str
    region: str
    identifier: str


def open_reader(environ: Mapping[str, str], read: Callable[[SettingsReader], object]) -> SettingsReader:
    """A reader in which what references name stands in their place. `read` reads all settings once, for their names.

    Raises SettingsError with every reference that leads nowhere.
    """
    if not any(is_reference(value) for value in environ.values()):
        return SettingsReader(environ)
    dry = SettingsReader(environ)
    read(dry)
    resolved = resolve_references(environ, dry.in_force.keys())
    return SettingsReader(resolved.values, sources=resolved.sources)


def resolve_references(environ: Mapping[str, str], names: Collection[str]) -> Resolved:
    """The settings called `names` that are there and not empty, references replaced by what they name.

    What was fetched is taken as it is, also where it looks like a reference. Each secret is fetched once. Raises
    SettingsError with every problem found; no secret's value is in it.
    """
    written = {name: text for name in names if (text := environ.get(name, "").strip())}
    sources = dict.fromkeys(written, ENVIRONMENT)
    values, problems, store = dict(written), [], _Store()
    for name, text in written.items():
        identifier, hash_sign, key = text.partition("#")
        secret = _parse(identifier)
        if secret is None:
            continue
        sources[name] = text
        try:
            values[name] = _pick(store.read(secret), key) if hash_sign else store.read(secret)
        except SettingsError as exc:
            problems += [f"{name} names {text}: {problem}" for problem in exc.problems]
    if problems:
        raise SettingsError(problems)
    return Resolved(values, sources)


def open_client(service: str, region: str = "") -> Any:
    """A boto3 client whose calls end, after at most three attempts, in about half a minute.

    Raises SettingsError, also for what is wrong with AWS's own settings.
    """
    try:
        from boto3.session import Session  # noqa: PLC0415
        from botocore.config import Config  # noqa: PLC0415
        from botocore.exceptions import BotoCoreError  # noqa: PLC0415
    except ImportError:
        raise SettingsError(["boto3 is not installed: pip install 'flagedge[aws]'"]) from None
    # At debug it logs the bodies of answers, secrets included; a Lambda function's log level reaches it.
    logging.getLogger("botocore").setLevel(logging.WARNING)
    retries = {"mode": "standard", "total_max_attempts": 3}
    try:
        # A session of its own: the default one remembers credentials and endpoints for ever.
        return Session().client(
            service, region_name=region or None, config=Config(connect_timeout=4, read_timeout=8, retries=retries)
        )
    except (BotoCoreError, ValueError) as exc:  # a ValueError is an endpoint that is no URL.
        raise SettingsError([explain_failure(exc)]) from exc


def explain_failure(failure: Exception) -> str:
    """What kept boto3 from asking AWS, or AWS from answering, and the way out."""
    from botocore.exceptions import CredentialRetrievalError, NoCredentialsError, NoRegionError  # noqa: PLC0415

    if isinstance(failure, NoRegionError):
        return "no AWS region is set: set AWS_DEFAULT_REGION, or write the whole ARN"
    if isinstance(failure, NoCredentialsError | CredentialRetrievalError):
        return "no AWS credentials were found: give the function or machine a role, or set AWS_PROFILE"
    if is_network_failure(failure):
        return "AWS did not answer: is there a way to it (a NAT gateway or VPC endpoint), or is AWS_ENDPOINT_URL wrong?"
    return f"boto3 says: {failure}"


def is_network_failure(failure: Exception) -> bool:
    """Whether there was no answer, or half of one; what was asked for may have been done."""
    from botocore.exceptions import ConnectionError as NoConnectionError  # noqa: PLC0415
    from botocore.exceptions import HTTPClientError, IncompleteReadError  # noqa: PLC0415
    from botocore.parsers import ResponseParserError  # noqa: PLC0415

    return isinstance(failure, NoConnectionError | HTTPClientError | IncompleteReadError | ResponseParserError)


def _parse(identifier: str) -> _Secret | None:
    """What a value names, or None: other ARNs, for one, are values like any."""
    for prefix, service in _SHORT_FORMS.items():
        if identifier.startswith(prefix):
            return _Secret(service, "", identifier.removeprefix(prefix).strip())
    match identifier.split(":", 5):
        case ["arn", _, "secretsmanager", region, _, path] if path.startswith("secret:"):
            return _Secret(SECRETS_MANAGER, region, identifier)
        case ["arn", _, "secretsmanager", *_]:
            # Half an ARN is a mistake, not a password.
            return _Secret(SECRETS_MANAGER, "", "")
        case ["arn", _, "ssm", region, _, path] if path.startswith("parameter/"):
            return _Secret(PARAMETER_STORE, region, identifier)
    return None


def _pick(text: str, key: str) -> str:
    """One key of a JSON object. Raises SettingsError, which does not quote the object."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise SettingsError(["it is not JSON, so it has no keys: drop the # and what follows"]) from None
    if not isinstance(document, dict):
        raise SettingsError(["it is JSON, but no object, so it has no keys: drop the # and what follows"])
    if key not in document:
        raise SettingsError(["its JSON has no such key"])
    if not isinstance(document[key], str):
        raise SettingsError(["the key's value is no text: put it in quotes"])
    return _filled(document[key])


def _filled(text: str) -> str:
    if not text.strip():
        # It would count as a setting that is not there.
        raise SettingsError(["it is empty"])
    return text


class _Store:
    """Secrets as they were fetched, and what failed, so that neither is tried twice."""

    def __init__(self) -> None:
        self._clients: dict[tuple[str, str], Any] = {}
        self._outcomes: dict[_Secret, str | SettingsError] = {}

    def read(self, secret: _Secret) -> str:
        if secret not in self._outcomes:
            try:
                self._outcomes[secret] = self._fetch(secret)
            except SettingsError as exc:
                self._outcomes[secret] = exc
        outcome = self._outcomes[secret]
        if isinstance(outcome, SettingsError):
            raise outcome
        return outcome

    def _fetch(self, secret: _Secret) -> str:
        if not secret.identifier:
            raise SettingsError(["it is not whole: a name is missing"])
        client = self._client(secret)
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415
        from botocore.parsers import ResponseParserError  # noqa: PLC0415

        try:
            return _filled(_ask(client, secret))
        except ClientError as exc:
            raise SettingsError([_explain_refusal(exc, secret, client.meta.region_name)]) from None
        except (BotoCoreError, ResponseParserError) as exc:
            problem = SettingsError([explain_failure(exc)])
            if is_network_failure(exc):
                # The next secret there would wait as long for nothing.
                self._clients[secret.service, secret.region] = problem
            raise problem from None

    def _client(self, secret: _Secret) -> Any:
        place = (secret.service, secret.region)
        if place not in self._clients:
            self._clients[place] = open_client(*place)
        if isinstance(self._clients[place], SettingsError):
            raise self._clients[place]
        return self._clients[place]


def _ask(client: Any, secret: _Secret) -> str:
    if secret.service == PARAMETER_STORE:
        answer = client.get_parameter(Name=secret.identifier, WithDecryption=True)
        value = answer.get("Parameter", {}).get("Value")
    else:
        answer = client.get_secret_value(SecretId=secret.identifier)
        value = answer.get("SecretString") or answer.get("SecretBinary")
    if value is None:
        raise SettingsError(["AWS answered without a value"])
    try:
        return value.decode() if isinstance(value, bytes) else str(value)
    except UnicodeDecodeError:
        raise SettingsError(["it is binary, and no UTF-8 text: store it as text, base64 for example"]) from None


def _explain_refusal(refusal: Any, secret: _Secret, region: str) -> str:
    """A ClientError in our words: AWS's own may quote what it was asked."""
    code = refusal.response.get("Error", {}).get("Code", "")
    thing = "parameter" if secret.service == PARAMETER_STORE else "secret"
    problem = _PROBLEMS.get(code, "AWS answered {code}")
    return problem.format(thing=thing, region=region, action=_ACTIONS[secret.service], code=code)
