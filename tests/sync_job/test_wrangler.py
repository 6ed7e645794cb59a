"""The WRANGLER_* settings: what becomes of them, and that nothing of them is ignored."""

from __future__ import annotations

from pathlib import Path

import pytest

from flagedge.errors import SettingsError
from sync_job.assemble import CLIENT_SECRET_NAME, MAC_KEY_NAME, DeployedFacts, assemble_upload, namespace_bindings
from sync_job.compiled import Plan
from sync_job.settings import read_worker_settings
from sync_job.token_keys import TokenKey
from sync_job.wrangler import OWN_NAMES, UploadExtras

TOML = """
# appended to wrangler.toml
[observability]
enabled = true
head_sampling_rate = 0.5

[[tail_consumers]]
service = "tailer"

[vars]
REGION = "eu"
LIMITS = { a = 1 }

[[services]]
binding = "AUTH"
service = "auth"

[[kv_namespaces]]
binding = "OTHER"
id = "0123"
"""


def extras(**environ: str) -> UploadExtras:
    return read_worker_settings(environ).extras


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "append.toml"


def test_tag_and_message() -> None:
    """Both are annotations of the version; arguments say the same, on one line or two."""
    assert extras(WRANGLER_DEPLOY_TAG="v1", WRANGLER_DEPLOY_MESSAGE="why") == UploadExtras("v1", "why")
    assert extras(WRANGLER_DEPLOY_ARGS="--tag=v1\n--message\nwhy not") == UploadExtras("v1", "why not")


def test_configuration(file: Path) -> None:
    """Metadata passes as it is, variables and bindings become the API's."""
    file.write_text(TOML)
    found = extras(WRANGLER_CONFIG_APPEND_FILE=str(file))
    assert found.metadata["tail_consumers"] == [{"service": "tailer"}]
    assert found.metadata["observability"] == {"enabled": True, "head_sampling_rate": 0.5}
    assert list(found.bindings) == [
        {"type": "plain_text", "name": "REGION", "text": "eu"},
        {"type": "json", "name": "LIMITS", "json": {"a": 1}},
        {"type": "service", "name": "AUTH", "service": "auth"},
        {"type": "kv_namespace", "name": "OTHER", "namespace_id": "0123"},
    ]


def test_json_configuration(tmp_path: Path) -> None:
    """A file that ends in .json is read as JSON."""
    path = tmp_path / "append.json"
    path.write_text('{"limits": {"cpu_ms": 50}}')
    assert extras(WRANGLER_CONFIG_APPEND_FILE=str(path)).metadata == {"limits": {"cpu_ms": 50}}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[routes]]\npattern = 'x'", "routes in .* has no equivalent"),
        ("[[services]]\nservice = 'auth'", "services in .* not as wrangler has it"),
        ("vars = 3", "vars in .* not as wrangler has it"),
        ("[broken", "cannot be read"),
        ("[vars]\nFORCE_APPLY = 'x'", "FORCE_APPLY .* is the Worker's own"),
    ],
)
def test_what_has_no_equivalent_is_refused(file: Path, text: str, says: str) -> None:
    """A setting that would be without effect is an error that names it."""
    file.write_text(text)
    with pytest.raises(SettingsError, match=says):
        extras(WRANGLER_CONFIG_APPEND_FILE=str(file))


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"WRANGLER_DEPLOY_ARGS": "--minify"}, "--minify has no equivalent"),
        ({"WRANGLER_DEPLOY_ARGS_FILE": "nowhere/args"}, "cannot read nowhere/args"),
        ({"WRANGLER_CONFIG_APPEND_FILE": "nowhere/append.toml"}, "cannot read nowhere/append.toml"),
        ({"WRANGLER_DEPLOY_TAG": "x" * 101}, "longer than 100 bytes"),
    ],
)
def test_arguments_and_files_are_checked_before_anything_is_done(environ: dict[str, str], says: str) -> None:
    """They are settings as all others: wrong ones are reported with exit 2."""
    with pytest.raises(SettingsError, match=says):
        extras(**environ)


def test_the_workers_own_names_are_those_that_an_upload_binds() -> None:
    """With every setting on: a binding that is made without being reserved could be replaced by an operator's."""
    settings = read_worker_settings(
        {
            "CONFIDENCE_RESOLVER_ALLOWED_ORIGIN": "*",
            "FORCE_APPLY": "false",
            "MATERIALIZATION_TTL_SECONDS": "60",
            "OFREP_CLIENTS": '{"clients/web": {"backend": true}}',
            "ENABLE_STICKY_ASSIGNMENTS": "true",
            "ENABLE_METRICS": "true",
            "PAGE_FLAGS": '{"/": ["checkout"]}',
            "PAGE_ORIGIN": "https://shop.example.com",
            "PAGE_CLIENT": "clients/web",
            "PAGE_ATTRIBUTE_KEYS": '{"a": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}',
            "PAGE_ACCESS_TEAM": "https://example.cloudflareaccess.com",
            "PAGE_ACCESS_AUDIENCE": "app",
            "PUBLISH": "kv",
        }
    )
    plan = Plan(text="{}", bits=b"", etag='"e"', account="a", flag_count=0)
    facts = DeployedFacts("digest", 1, "rolled back", (TokenKey("RESOLVE_TOKEN_KEY"),), "overrides", "occasion", 1)
    upload = assemble_upload(plan, settings, facts=facts)
    bound = [
        each["name"]
        for each in upload.with_bindings(namespace_bindings(dict(settings.namespaces))).metadata["bindings"]
    ]
    secrets = {CLIENT_SECRET_NAME, MAC_KEY_NAME, *settings.pages.secrets()}
    assert {name for name in bound if not name.startswith("RESOLVE_TOKEN_")} | secrets == OWN_NAMES
