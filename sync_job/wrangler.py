"""What the official deployer left to wrangler, as the upload API knows it: tag, message, and a piece of configuration.

Source: wrangler's configuration keys and deploy options; the metadata of a script upload.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flagedge.settings import SettingsReader

TAG_MAX_BYTES = 100
OWN_NAMES = frozenset(
    {
        "ALLOWED_ORIGIN",
        "CONFIDENCE_CLIENT_SECRET",
        "CONFIDENCE_MATERIALIZATIONS_KV",
        "CONFIDENCE_METRICS_KV",
        "CONFIDENCE_STATE_KV",
        "DEPLOYER_VERSION",
        "DEPLOYMENT_OCCASION",
        "FLAG_OVERRIDES",
        "FORCE_APPLY",
        "LOG_FORMAT",
        "LOG_LINGER_MS",
        "MATERIALIZATION_TTL_SECONDS",
        "OFREP_CLIENTS",
        "PAGE_ACCESS_AUDIENCE",
        "PAGE_ACCESS_TEAM",
        "PAGE_ATTRIBUTE_KEYS",
        "PAGE_CLIENT",
        "PAGE_CONTEXT",
        "PAGE_COOKIE",
        "PAGE_FLAGS",
        "PAGE_ORIGIN",
        "RESOLVER_STATE_ETAG",
        "RULES_TTL_MS",
        "SETTINGS_DIGEST",
        "STATE_ACCOUNT",
        "STATE_BUNDLE",
        "STATE_MAC_KEY",
        "STATE_ROLLED_BACK_FROM",
        "STATE_SINCE",
        "TOKEN_FORMAT",
        "TOKEN_TTL_SECONDS",
        "flag_logs_queue",
    }
)
"""Bindings that the Worker reads; nobody else may set them."""
_METADATA_KEYS = ("observability", "tail_consumers", "placement", "limits", "logpush")


@dataclass(frozen=True, slots=True)
class UploadExtras:
    """What an operator adds to the upload: annotations, and metadata and bindings of their own."""

    tag: str = ""
    message: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    bindings: tuple[Mapping[str, Any], ...] = ()


def read_extras(reader: SettingsReader) -> UploadExtras:
    """The WRANGLER_* settings; what has no equivalent is a problem, not a silence."""
    options = _read_arguments(reader)
    tag = reader.text("WRANGLER_DEPLOY_TAG") or options.get("--tag", "")
    message = reader.text("WRANGLER_DEPLOY_MESSAGE") or options.get("--message", "")
    if len(tag.encode()) > TAG_MAX_BYTES:
        reader.problem(f"WRANGLER_DEPLOY_TAG is longer than {TAG_MAX_BYTES} bytes")
    metadata, bindings = _read_configuration(reader)
    return UploadExtras(tag, message, metadata, tuple(bindings))


def _read_arguments(reader: SettingsReader) -> dict[str, str]:
    """`--tag` and `--message` among extra arguments, one a line, value on the same line or the next."""
    lines = reader.text("WRANGLER_DEPLOY_ARGS").splitlines()
    if path := reader.text("WRANGLER_DEPLOY_ARGS_FILE"):
        lines += (_read_file(reader, "WRANGLER_DEPLOY_ARGS_FILE", path) or "").splitlines()
    arguments = iter([line.strip() for line in lines if line.strip()])
    options = {}
    for argument in arguments:
        name, is_joined, value = argument.partition("=")
        if name in {"--tag", "--message"}:
            options[name] = value if is_joined else next(arguments, "")
        else:
            reader.problem(
                f"WRANGLER_DEPLOY_ARGS: {name} has no equivalent here (known: --tag, --message); "
                "put configuration into WRANGLER_CONFIG_APPEND_FILE"
            )
    return options


def _read_configuration(reader: SettingsReader) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    name = "WRANGLER_CONFIG_APPEND_FILE"
    path = reader.text("WRANGLER_CONFIG_APPEND_FILE")
    text = _read_file(reader, name, path) if path else None
    if text is None:
        return {}, []
    try:
        configuration = json.loads(text) if path.endswith(".json") else tomllib.loads(text)
    except ValueError as exc:
        reader.problem(f"{name}: {path} cannot be read ({exc})")
        return {}, []
    if not isinstance(configuration, dict):
        reader.problem(f"{name}: {path} is not an object")
        return {}, []
    metadata = {key: configuration[key] for key in _METADATA_KEYS if key in configuration}
    bindings: list[dict[str, Any]] = []
    for key, entries in configuration.items():
        if key in _METADATA_KEYS:
            continue
        convert = _BINDINGS.get(key)
        if convert is None:
            known = ", ".join([*_METADATA_KEYS, *_BINDINGS])
            reader.problem(f"{name}: {key} in {path} has no equivalent here (known: {known})")
            continue
        try:
            bindings += convert(entries)
        except (KeyError, TypeError, AttributeError):
            reader.problem(f"{name}: {key} in {path} is not as wrangler has it")
    for binding in bindings:
        if binding["name"] in OWN_NAMES or binding["name"].startswith("RESOLVE_TOKEN_"):
            reader.problem(f"{name}: {binding['name']} in {path} is the Worker's own")
    return metadata, bindings


def _read_file(reader: SettingsReader, name: str, path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        reader.problem(f"{name}: cannot read {path} ({getattr(exc, 'strerror', None) or 'not UTF-8'})")
        return None


def _vars(entries: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    for name, value in entries.items():
        if isinstance(value, str):
            yield {"type": "plain_text", "name": name, "text": value}
        else:
            yield {"type": "json", "name": name, "json": value}


def _listed(kind: str, **keys: str) -> Callable[[Any], Iterable[dict[str, Any]]]:
    """Bindings from a list of tables, whose keys (by the API's name for them) are `keys`; absent ones are left out."""

    def convert(entries: Any) -> Iterable[dict[str, Any]]:
        for entry in entries:
            found = {theirs: entry[ours] for theirs, ours in keys.items() if ours in entry}
            yield {"type": kind, "name": entry["binding"], **found}

    return convert


_BINDINGS: dict[str, Callable[[Any], Iterable[dict[str, Any]]]] = {
    "vars": _vars,
    "kv_namespaces": _listed("kv_namespace", namespace_id="id"),
    "services": _listed(
        "service", service="service", environment="environment", entrypoint="entrypoint", props="props"
    ),
    "r2_buckets": _listed("r2_bucket", bucket_name="bucket_name", jurisdiction="jurisdiction"),
    "d1_databases": _listed("d1", id="database_id"),
    "analytics_engine_datasets": _listed("analytics_engine", dataset="dataset"),
}
