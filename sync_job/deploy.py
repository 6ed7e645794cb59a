"""Getting an upload live, every step safe to repeat: queues, consumer, namespaces, script, deployment, workers.dev.

A failed read raises and so never leads to a write; in particular no token key is made unless the Worker is known
to have none. While a deployment is under way the script carries a tag: a run that finds it goes through all steps,
whatever the bindings say, for those are of the version that was uploaded last, deployed or not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flagedge.errors import FlagedgeError
from flagedge.settings import Secret
from sync_job.assemble import ACCOUNT_NAME, DIGEST_NAME, ETAG_NAME, KEYS_NAME, SINCE_NAME, VERSION_NAME, Upload
from sync_job.deadline import Deadline
from sync_job.gate import Gate, GateError
from sync_job.lease import Lease, LeaseLostError
from sync_job.settings import SyncSettings, WorkerSettings
from sync_job.token_keys import TokenKey, read_keys
from sync_job.workers_api import Deployment, WorkersApi

UNDER_WAY = "flagedge:deploying"
"""The tag of a script from before an upload until everything after it is done."""
UPLOAD_S = 30.0
"""What an upload may take, for a deadline."""


class OvertakenError(FlagedgeError):
    """Somebody else deployed while this run prepared its own; theirs stays."""


class PushConsumerError(FlagedgeError):
    """The flag-logs queue feeds a Worker, so nobody could pull from it."""


class MissingResourceError(FlagedgeError):
    """A queue, consumer or namespace is missing that somebody else is to make."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what}, and MAKE_RESOURCES=false leaves making it to others",
            hint="Let them make it (`terraform apply`, for one), or drop MAKE_RESOURCES",
        )


@dataclass(frozen=True, slots=True)
class LiveWorker:
    """What the deployed Worker says of itself, in its bindings; nothing of it is secret."""

    exists: bool = False
    etag: str = ""
    version: str = ""
    settings_digest: str = ""
    account: str = ""
    state_since_s: int = 0
    token_keys: tuple[TokenKey, ...] = ()
    tags: tuple[str, ...] = ()

    @property
    def is_under_way(self) -> bool:
        return UNDER_WAY in self.tags


def read_live_worker(api: WorkersApi, worker_name: str) -> LiveWorker:
    """Ask the API what was uploaded last; unless a deployment is under way, that is what is live."""
    settings = api.get_script_settings(worker_name)
    if settings is None:
        return LiveWorker()
    return describe_worker(settings.get("bindings") or [], tags=settings.get("tags") or ())


def describe_worker(bindings: Sequence[Mapping[str, Any]], *, tags: Sequence[str] = ()) -> LiveWorker:
    """What the bindings of a version say."""
    texts = {binding["name"]: binding.get("text", "") for binding in bindings if binding["type"] == "plain_text"}
    secret_names = {binding["name"] for binding in bindings if binding["type"] == "secret_text"}
    return LiveWorker(
        exists=True,
        etag=texts.get(ETAG_NAME, ""),
        version=texts.get(VERSION_NAME, ""),
        settings_digest=texts.get(DIGEST_NAME, ""),
        account=texts.get(ACCOUNT_NAME, ""),
        state_since_s=int(since) if (since := texts.get(SINCE_NAME, "")).isdecimal() else 0,
        token_keys=read_keys(texts.get(KEYS_NAME, ""), secret_names),
        tags=tuple(tags),
    )


def ensure_queue(api: WorkersApi, settings: SyncSettings, *, adopt: bool) -> None:
    """The flag-logs queue, its dead-letter queue and its pull consumer: made if absent.

    `adopt` detaches a push consumer, such as the official Worker; without it that is a PushConsumerError. Raises
    MissingResourceError where others are to make them.
    """
    queue = api.find_queue(settings.worker.queue_name)
    consumers = api.list_queue_consumers(queue.queue_id) if queue else []
    if any(consumer.get("type") == "http_pull" for consumer in consumers):
        return
    if not settings.make_resources:
        name = settings.worker.queue_name
        raise MissingResourceError(f"queue {name} has no pull consumer" if queue else f"there is no queue {name}")
    if consumers and not adopt:
        names = ", ".join(str(consumer.get("script_name") or consumer.get("script") or "?") for consumer in consumers)
        raise PushConsumerError(
            f"queue {settings.worker.queue_name} feeds the Worker {names}, so flag logs could not be pulled",
            hint="Run once with --adopt to detach that consumer (its messages stay in the queue), "
            "or choose other names with WORKER_NAME_PREFIX",
        )
    queue = queue or api.create_queue(settings.worker.queue_name)
    if api.find_queue(settings.dead_letter_queue_name) is None:
        api.create_queue(settings.dead_letter_queue_name)
    for consumer in consumers:
        api.delete_queue_consumer(queue.queue_id, str(consumer["consumer_id"]))
    api.create_pull_consumer(queue.queue_id, dead_letter_queue=settings.dead_letter_queue_name)


def ensure_namespaces(api: WorkersApi, settings: SyncSettings) -> dict[str, str]:
    """The ids of the KV namespaces by binding; those that do not exist are made, or a MissingResourceError."""
    ids = {}
    for binding, title in settings.worker.namespaces:
        found = api.find_kv_namespace(title)
        if found is None and not settings.make_resources:
            raise MissingResourceError(f"there is no KV namespace {title}")
        ids[binding] = found or api.create_kv_namespace(title)
    return ids


def find_address(api: WorkersApi, settings: WorkerSettings) -> str | None:
    """The Worker's address below workers.dev, deployed or not; None where it is to have none."""
    subdomain = api.get_subdomain() if settings.workers_dev else None
    return f"https://{settings.worker_name}.{subdomain}.workers.dev" if subdomain else None


@dataclass(frozen=True, slots=True)
class Deployer:
    """Brings one upload live, within a lease and a deadline; without a gate unproved.

    `address` is the Worker's below workers.dev, None where it is to have none.
    """

    api: WorkersApi
    worker_name: str
    address: str | None
    lease: Lease
    deadline: Deadline
    gate: Gate | None

    def deploy(self, live: LiveWorker, base: Deployment | None, upload: Upload, secrets: Mapping[str, Secret]) -> None:
        """Upload, prove and serve to everyone.

        `base` is the deployment that the run began with. Raises OvertakenError when another one serves by now, and
        GateError when the version does not prove itself; then what was live stays live, or is live again.
        """
        tags = [tag for tag in live.tags if tag != UNDER_WAY]
        marked = {**upload.script_settings, "tags": [*tags, UNDER_WAY]}
        metadata = upload.with_bindings(_secret_bindings(secrets)).metadata
        self._go_on("upload the Worker")
        if live.exists:
            self.api.patch_script_settings(self.worker_name, marked)
            version_id = self.api.upload_version(self.worker_name, metadata=metadata, modules=upload.modules)
        else:
            self.api.upload_script(self.worker_name, metadata=metadata | marked, modules=upload.modules)
            version_id = ""
        # Before the proof, as probes may come in there; a first run may have died before it, or failed to prove itself.
        was_public = self.api.is_on_workers_dev(self.worker_name)
        self._attach(was_public=was_public)
        try:
            if version_id:
                self._promote(version_id, base, upload.message)
            elif self.gate:
                self.gate.prove()
        except GateError:
            if self.address and not was_public:
                # Nobody is led to a Worker that nobody used yet and that does not prove itself.
                self.api.set_workers_dev(self.worker_name, enabled=False)
            raise
        except (OvertakenError, LeaseLostError):
            # Whoever came first took the mark off, and our version is the latest: nobody may take it for live.
            self.api.patch_script_settings(self.worker_name, {"tags": marked["tags"]})
            raise
        self.api.patch_script_settings(self.worker_name, {"tags": tags})

    def _promote(self, version_id: str, base: Deployment | None, message: str) -> None:
        """Beside the live version at 0 %, proved, then for everyone; back to the live one if that goes wrong."""
        live_id = base.live_version_id if base else ""
        try:
            if self.gate and live_id:
                self._go_on("deploy the Worker")
                self._expect(base)
                base = self.api.create_deployment(self.worker_name, {live_id: 100, version_id: 0}, message=message)
                self.gate.prove(version_id)
            self._go_on("promote the Worker")
            self._expect(base)
            base = self.api.create_deployment(self.worker_name, {version_id: 100}, message=message)
            if self.gate:
                self.gate.check()
        except GateError:
            if live_id:
                self._expect(base)
                self.api.create_deployment(self.worker_name, {live_id: 100}, message="flagedge: back to what was live")
            raise

    def _expect(self, base: Deployment | None) -> None:
        active = self.api.get_deployment(self.worker_name)
        if (active and active.deployment_id) != (base and base.deployment_id):
            raise OvertakenError(
                f"{self.worker_name} was deployed by somebody else meanwhile",
                hint="Theirs stays live; the next run begins from it",
            )

    def _attach(self, *, was_public: bool) -> None:
        """See to it that workers.dev leads to the Worker, if it is to."""
        wanted = self.address is not None
        if was_public != wanted:
            self._go_on("set its address")
            self.api.set_workers_dev(self.worker_name, enabled=wanted)

    def _go_on(self, step: str) -> None:
        self.deadline.require(UPLOAD_S, step=step)
        self.lease.renew()


def _secret_bindings(secrets: Mapping[str, Secret]) -> list[dict[str, str]]:
    return [{"type": "secret_text", "name": name, "text": secret.reveal()} for name, secret in secrets.items()]
