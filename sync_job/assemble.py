"""What is uploaded: the Worker's modules, the plan's modules and the metadata that binds them.

Same plan, same settings, same bytes. Secrets are no part of it: they are added at the moment of the upload.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flagedge import __version__
from flagedge.errors import LocalError
from flagedge.settings import Secret
from sync_job.compiled import PLAN_FORMAT, Plan
from sync_job.occasion import OCCASION_NAME
from sync_job.overrides import OVERRIDES_NAME
from sync_job.pointer import Bundle, digest_part
from sync_job.settings import WorkerSettings
from sync_job.token_keys import TokenKey, write_keys
from sync_job.workers_api import Module

COMPATIBILITY_DATE = "2026-10-01"
MAIN_MODULE = "worker.js"
FULL_MODULE = "worker_full.js"
"""The build with every part; the other one is without those that `_uses_parts` names."""
BUNDLE = Path(__file__).parent / "bundle"
CLIENT_SECRET_NAME = "CONFIDENCE_CLIENT_SECRET"  # noqa: S105 (its name)
ETAG_NAME = "RESOLVER_STATE_ETAG"
VERSION_NAME = "DEPLOYER_VERSION"
DIGEST_NAME = "SETTINGS_DIGEST"
ACCOUNT_NAME = "STATE_ACCOUNT"
SINCE_NAME = "STATE_SINCE"
ROLLED_BACK_NAME = "STATE_ROLLED_BACK_FROM"
KEYS_NAME = "RESOLVE_TOKEN_KEYS"
BUNDLE_NAME = "STATE_BUNDLE"
MAC_KEY_NAME = "STATE_MAC_KEY"
SCRIPT_KEYS = ("observability", "tail_consumers", "logpush")
"""Metadata that belongs to the script and not to a version."""
SEALING_NAME = "RESOLVE_TOKEN_SEALING_KEY"


@dataclass(frozen=True, slots=True)
class Upload:
    """Modules and metadata of one Worker version, and what belongs to the script whatever its version."""

    metadata: dict[str, Any]
    modules: tuple[Module, ...]
    script_settings: dict[str, Any]

    def with_bindings(self, bindings: Sequence[Mapping[str, Any]]) -> Upload:
        """The same with more bindings."""
        return replace(self, metadata=self.metadata | {"bindings": [*self.metadata["bindings"], *bindings]})

    @property
    def message(self) -> str:
        return str(self.metadata["annotations"]["workers/message"])

    @property
    def size_bytes(self) -> int:
        return sum(len(module.content) for module in self.modules)


@dataclass(frozen=True, slots=True)
class DeployedFacts:
    """What an upload tells later runs beside its etag.

    `state_since_s` is the epoch second since when it is served, `rolled_back_from` the entity tag of the state that it
    replaces, "" for none. `overrides` and `occasion` are texts as those modules write them;
    `sequence` orders versions and what is published to KV between them, 0 where nothing is.
    """

    settings_digest: str
    state_since_s: int = 0
    rolled_back_from: str = ""
    token_keys: tuple[TokenKey, ...] = ()
    overrides: str = ""
    occasion: str = ""
    sequence: int = 0


def assemble_upload(plan: Plan, settings: WorkerSettings, *, facts: DeployedFacts) -> Upload:
    """Put modules and metadata together, but for what has to be made or kept secret first: namespaces and secrets.

    Raises LocalError when the Worker has not been built.
    """
    modules = (
        Module(MAIN_MODULE, _script(settings), "application/javascript+module"),
        Module("murmur3.wasm", _bundled("murmur3.wasm"), "application/wasm"),
        Module("plan.json", plan.text.encode(), "text/plain"),
        Module("bitsets.bin", plan.bits, "application/octet-stream"),
    )
    bindings = [
        *worker_bindings(settings),
        _text(ETAG_NAME, plan.etag),
        _text(DIGEST_NAME, facts.settings_digest),
        _text(ACCOUNT_NAME, plan.account),
        _text(SINCE_NAME, str(facts.state_since_s)),
    ]
    optional = {
        ROLLED_BACK_NAME: facts.rolled_back_from,
        OVERRIDES_NAME: facts.overrides,
        OCCASION_NAME: facts.occasion,
        BUNDLE_NAME: bundle_of(plan, facts.sequence).to_text() if facts.sequence else "",
    }
    bindings += [_text(name, text) for name, text in optional.items() if text]
    if facts.token_keys:
        bindings += [_text(KEYS_NAME, write_keys(facts.token_keys)), _text(SEALING_NAME, facts.token_keys[-1].name)]
    extras = settings.extras
    annotations = {"workers/message": extras.message or f"flagedge {__version__}: state {plan.etag}"}
    if extras.tag:
        annotations["workers/tag"] = extras.tag
    script_settings: dict[str, Any] = {"observability": {"enabled": True}}
    script_settings |= {key: extras.metadata[key] for key in SCRIPT_KEYS if key in extras.metadata}
    metadata = {
        "main_module": MAIN_MODULE,
        "compatibility_date": COMPATIBILITY_DATE,
        "bindings": bindings,
        "keep_bindings": ["secret_text", "secret_key"],
        "annotations": annotations,
        **{key: value for key, value in extras.metadata.items() if key not in SCRIPT_KEYS},
    }
    return Upload(metadata, modules, script_settings)


def bundle_of(plan: Plan, sequence: int) -> Bundle:
    return Bundle(sequence, digest_part(plan.text.encode()), digest_part(plan.bits))


def worker_bindings(settings: WorkerSettings) -> list[dict[str, Any]]:
    """The bindings that follow from settings alone."""
    bindings = [
        _text(VERSION_NAME, __version__),
        _text("LOG_LINGER_MS", str(settings.log_linger_ms)),
        _text("LOG_FORMAT", settings.log_format),
        _text("TOKEN_FORMAT", settings.token_format),
        _text("TOKEN_TTL_SECONDS", str(settings.token_ttl_s)),
        {"type": "queue", "name": "flag_logs_queue", "queue_name": settings.queue_name},
    ]
    if settings.allowed_origin:
        bindings.append(_text("ALLOWED_ORIGIN", settings.allowed_origin))
    if settings.force_apply is not None:
        bindings.append(_text("FORCE_APPLY", "true" if settings.force_apply else "false"))
    if settings.ofrep_clients:
        bindings.append({"type": "json", "name": "OFREP_CLIENTS", "json": settings.ofrep_clients})
    if settings.materialization_ttl_s:
        bindings.append(_text("MATERIALIZATION_TTL_SECONDS", str(settings.materialization_ttl_s)))
    bindings += settings.pages.bindings()
    if settings.publishes:
        bindings.append(_text("RULES_TTL_MS", str(settings.rules_ttl_ms)))
    return bindings + [dict(binding) for binding in settings.extras.bindings]


def namespace_bindings(namespace_ids: Mapping[str, str]) -> list[dict[str, Any]]:
    """KV namespaces by binding."""
    return [
        {"type": "kv_namespace", "name": name, "namespace_id": namespace_id}
        for name, namespace_id in namespace_ids.items()
    ]


def digest_settings(settings: WorkerSettings, secrets: dict[str, Secret]) -> str:
    """16 hex digits that change when anything but the state would make another Worker.

    Secrets enter as digests, so that a rotated one is noticed and none can be read back.
    """
    facts = {
        "bindings": worker_bindings(settings),
        "namespaces": settings.namespaces,
        "extras": [settings.extras.tag, settings.extras.message, dict(settings.extras.metadata)],
        "workers_dev": settings.workers_dev,
        "compatibility_date": COMPATIBILITY_DATE,
        "plan_format": PLAN_FORMAT,
        "worker": hashlib.sha256(_script(settings)).hexdigest(),
        "secrets": {name: hashlib.sha256(secret.reveal().encode()).hexdigest() for name, secret in secrets.items()},
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def write_upload(upload: Upload, directory: Path) -> None:
    """Write metadata.json and the modules, as they would be uploaded. Raises LocalError."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for module in upload.modules:
            (directory / module.name).write_bytes(module.content)
        (directory / "metadata.json").write_text(json.dumps(upload.metadata | upload.script_settings, indent=2) + "\n")
    except OSError as error:
        raise LocalError(f"cannot write to {directory} ({error.strerror})", hint="Choose another --out") from error


def _text(name: str, text: str) -> dict[str, Any]:
    return {"type": "plain_text", "name": name, "text": text}


def _script(settings: WorkerSettings) -> bytes:
    """The Worker's code; under one name whichever build it is, so that a Worker can go from one to the other."""
    return _bundled(FULL_MODULE if _uses_parts(settings) else MAIN_MODULE)


def _uses_parts(settings: WorkerSettings) -> bool:
    """Whether anything is bound for pages, sticky assignments, metrics, plans from KV or upstream's log messages."""
    return bool(settings.namespaces or settings.pages.flags) or settings.log_format == "upstream"


def _bundled(name: str) -> bytes:
    try:
        return (BUNDLE / name).read_bytes()
    except FileNotFoundError as error:
        raise LocalError(f"the Worker is not built: {name} is missing", hint="Run `make worker`") from error
