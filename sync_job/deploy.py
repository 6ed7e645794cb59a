"""Getting an upload live, every step safe to repeat: script, address, proof, traffic.

A failed read raises and so never leads to a write; in particular no token key is made unless the Worker is known
to have none. While a deployment is under way the script carries a tag: a run that finds it goes through all steps,
whatever the bindings say, for those are of the version that was uploaded last, deployed or not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flagedge.settings import Secret
from sync_job.assemble import Upload
from sync_job.gate import Gate, GateError, ReturnedError
from sync_job.lease import LeaseLostError
from sync_job.live import STEPPING, UNDER_WAY, LiveWorker, read_uploaded_worker
from sync_job.settings import WorkerSettings
from sync_job.timings import Timings
from sync_job.traffic import OvertakenError, Traffic
from sync_job.workers_api import Deployment, WorkersApi

if TYPE_CHECKING:
    from sync_job.decode import DecodedState


@dataclass(frozen=True, slots=True)
class Release:
    """What is to go live: an upload, the secrets to bind with it, and the state that it is held against.

    `share` is how much of the traffic it gets at first, in percent; later steps are `steps.py`'s. While the deployment
    is under way the script carries `record_tag`, and after it where its record could not be sent.
    """

    upload: Upload
    secrets: Mapping[str, Secret]
    decoded: DecodedState = field(repr=False)
    record_tag: str
    told_tags: tuple[str, ...] = ()
    """Tags of what people were told of other states."""
    share: int = 100


def find_address(api: WorkersApi, settings: WorkerSettings) -> str | None:
    """The Worker's address below workers.dev, deployed or not; None where it is to have none."""
    subdomain = api.get_subdomain() if settings.workers_dev else None
    return f"https://{settings.worker_name}.{subdomain}.workers.dev" if subdomain else None


@dataclass(frozen=True, slots=True)
class Deployer:
    """Brings one release live; without a gate unproved.

    `address` is the Worker's below workers.dev, None where it is to have none. As soon as a version serves, `record` is
    called with its id ("" for a Worker's first one); it returns whether the record was sent.
    """

    api: WorkersApi
    traffic: Traffic
    address: str | None
    gate: Gate | None
    record: Callable[[str], bool]
    timings: Timings

    @property
    def _name(self) -> str:
        return self.traffic.worker_name

    def deploy(self, live: LiveWorker, base: Deployment | None, release: Release) -> None:
        """Upload, prove and serve.

        `base` is the deployment that the run began with. Raises OvertakenError when another one serves by now, and
        GateError when the version does not prove itself; then what was live stays live, or is live again.
        """
        upload = release.upload
        tags = [*live.own_tags, *live.told_tags, UNDER_WAY, release.record_tag]
        marked = {**upload.script_settings, "tags": tags}
        metadata = upload.with_bindings(_secret_bindings(release.secrets)).metadata
        self.traffic.go_on("upload the Worker")
        with self.timings.measure("upload"):
            version_id = self._upload(live, metadata, marked, upload)
        # Before the proof, as probes may come in there; a first run may have died before it, or failed to prove itself.
        was_public = self.api.is_on_workers_dev(self._name)
        self._attach(was_public=was_public)
        try:
            if version_id:
                self._promote(version_id, base, release)
            elif self.gate:
                with self.timings.measure("prove"):
                    self.gate.prove(release.decoded)
        except GateError:
            if self.address and not was_public:
                # Nobody is led to a Worker that nobody used yet and that does not prove itself.
                self.api.set_workers_dev(self._name, enabled=False)
            raise
        except (OvertakenError, LeaseLostError):
            # Whoever came first took the mark off, and our version is the latest: nobody may take it for live.
            self.api.patch_script_settings(self._name, {"tags": marked["tags"]})
            raise
        # Before the mark is taken off: a run that dies before this is done is done again by the next one.
        left = list(release.told_tags) if self.record(version_id) else [*release.told_tags, release.record_tag]
        left += [STEPPING] if release.share < 100 else []
        left += [UNDER_WAY] if self._is_followed(release) else []
        self.api.patch_script_settings(self._name, {"tags": [*live.own_tags, *left]})

    def _is_followed(self, release: Release) -> bool:
        """Whether another run, without our lease, uploaded since: its version is the latest, ours is what serves."""
        return read_uploaded_worker(self.api, self._name).occasion.record_tag != release.record_tag

    def _upload(self, live: LiveWorker, metadata: Mapping[str, Any], marked: Mapping[str, Any], upload: Upload) -> str:
        """The id of the new version, "" where it is the Worker's first."""
        if not live.exists:
            self.api.upload_script(self._name, metadata={**metadata, **marked}, modules=upload.modules)
            return ""
        self.api.patch_script_settings(self._name, marked)
        return self.api.upload_version(self._name, metadata=metadata, modules=upload.modules)

    def _promote(self, version_id: str, base: Deployment | None, release: Release) -> None:
        """Beside the live version at 0 %, proved, then for its share; back to the live one if that goes wrong."""
        live_id = base.live_version_id if base else ""
        message, share = release.upload.message, release.share
        is_served = False
        try:
            if self.gate and live_id:
                shares = {live_id: 100, version_id: 0}
                base = self.traffic.shift(base, shares, message=message, step="deploy the Worker")
                with self.timings.measure("prove"):
                    self.gate.prove(release.decoded, version_id)
            rest = {live_id: 100 - share} if share < 100 else {}
            base = self.traffic.shift(base, rest | {version_id: share}, message=message)
            is_served = True
            if self.gate:
                with self.timings.measure("check"):
                    self.gate.check(version_id if rest else "")
        except GateError as error:
            if live_id:
                self.traffic.shift_back(base, live_id)
            if is_served and live_id:
                raise ReturnedError(error.message, hint=error.hint) from error
            raise

    def _attach(self, *, was_public: bool) -> None:
        """See to it that workers.dev leads to the Worker, if it is to."""
        wanted = self.address is not None
        if was_public != wanted:
            self.traffic.go_on("set its address")
            self.api.set_workers_dev(self._name, enabled=wanted)


def _secret_bindings(secrets: Mapping[str, Secret]) -> list[dict[str, str]]:
    return [{"type": "secret_text", "name": name, "text": secret.reveal()} for name, secret in secrets.items()]
