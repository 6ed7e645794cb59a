"""The functions' environment against what the handlers read."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from module_files import read_locals
from terraform_run import environment_of

from flagedge.errors import SettingsError
from log_consumer.settings import read_settings
from sync_job.settings import read_log_level, read_sync_settings

LAMBDA = {"AWS_LAMBDA_FUNCTION_NAME": "f", "AWS_REGION": "eu-central-1", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1024"}
"""What Lambda itself sets."""
SECRETS = {
    "CLOUDFLARE_API_TOKEN": "token",
    "CONFIDENCE_CLIENT_SECRET": "secret",
    "DATABASE_PASSWORD": "password",
    "STATE_ENCRYPTION_KEY": "0" * 64,
    "STATE_MAC_KEY": base64.b64encode(bytes(32)).decode(),
    "PAGE_ATTRIBUTE_KEYS": json.dumps({"k": base64.b64encode(bytes(32)).decode()}),
}


def read_sync(environ: Mapping[str, str]) -> None:
    read_log_level(environ)
    read_sync_settings(environ)


HANDLERS: dict[str, tuple[str, Callable[[Mapping[str, str]], Any]]] = {
    "sync-job": ("sync_environment", read_sync),
    "log-consumer": ("consumer_environment", read_settings),
}
"""By job: the local value that holds its environment, and what reads it."""


class Watched(dict[str, str]):
    """An environment that remembers what it was asked for."""

    def __init__(self, values: Mapping[str, str]) -> None:
        super().__init__(values)
        self.asked: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.asked.add(name)
        return super().get(name, default)


@pytest.mark.parametrize("job", HANDLERS)
def test_what_is_set_is_read_and_what_is_needed_is_set(job: str) -> None:
    """No variable that nobody reads; none missing that has no default."""
    local, read = HANDLERS[job]
    values = read_locals("aws")
    names = set(values[local]) | set(values["required_secrets"][job])
    watched = Watched(LAMBDA)
    with pytest.raises(SettingsError) as error:
        read(watched)
    assert names - watched.asked == set()
    missing = {problem.split(" ")[0] for problem in error.value.problems}
    assert missing
    assert missing - names == set()


@pytest.mark.parametrize("job", HANDLERS)
def test_the_environment_as_it_is_applied_is_right(job: str, applied: dict[str, dict[str, Any]]) -> None:
    """The handler's own settings accept it, once the secrets are there."""
    environ = environment_of(applied, job)
    assert all(environ.values())
    references = {name for name, value in environ.items() if value.startswith("arn:")}
    assert references >= set(read_locals("aws")["required_secrets"][job])
    read = HANDLERS[job][1]
    read(LAMBDA | environ | {name: SECRETS[name] for name in references})


def test_names_are_those_that_the_jobs_use(applied: dict[str, dict[str, Any]]) -> None:
    """Queues and namespaces are called as the jobs look for them."""
    environ = LAMBDA | environment_of(applied, "sync-job") | SECRETS
    settings = read_sync_settings(environ)
    queues = {values["queue_name"] for address, values in applied.items() if ".cloudflare_queue." in address}
    assert queues == {settings.worker.queue_name, settings.dead_letter_queue_name}
    titles = {values["title"] for address, values in applied.items() if ".cloudflare_workers_kv_namespace." in address}
    assert titles == {title for _, title in settings.worker.namespaces}
    consumer = read_settings(LAMBDA | environment_of(applied, "log-consumer") | SECRETS)
    assert consumer.queue_name == settings.worker.queue_name


def test_pages_and_publishing_arrive(applied: dict[str, dict[str, Any]]) -> None:
    """What the variables say of them is what the job reads."""
    settings = read_sync_settings(LAMBDA | environment_of(applied, "sync-job") | SECRETS)
    worker, pages = settings.worker, settings.worker.pages
    assert (worker.publishes, worker.rules_ttl_ms, settings.max_blast_radius) == (True, 10_000, 0.5)
    assert pages.flags == {"/shop/*": ("checkout-layout",)}
    assert pages.context == {"targeting_key": "access:sub", "country": "cf:country", "plan": "signed:plan"}
    assert (pages.origin, pages.cookie) == ("https://origin.example.com", "flag_visitor")
    assert (pages.access_team, pages.access_audience) == ("https://example.cloudflareaccess.com", "app")
