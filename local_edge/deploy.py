"""Getting versions made and deployed: what every endpoint that changes a script goes through.

One change of a script at a time: a second one meanwhile is refused with 10035, which production does too and expects
its clients to try again. What does not start, or leads nowhere, is refused before anything is recorded: what is
live stays live.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from local_edge.bindings import changed_secrets, check_targets, resolve_bindings
from local_edge.envelope import RefusalError
from local_edge.process import StartError, is_free
from local_edge.scripts import Deployment, Share, Version
from local_edge.serving import Portion
from local_edge.store import now_text
from local_edge.upload import make_version

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from local_edge.bindings import Account
    from local_edge.runtime import Runtime
    from local_edge.scripts import Scripts
    from local_edge.store import Store
    from local_edge.upload import Part

ROLLBACK_DEPTH = 100


class Deployer:
    """Changes the scripts of one account."""

    def __init__(self, *, store: Store, scripts: Scripts, runtime: Runtime, account: Account, worker_port: int) -> None:
        self._store = store
        self._scripts = scripts
        self._runtime = runtime
        self._account = account
        self._worker_port = worker_port
        self._changing: set[str] = set()

    @contextmanager
    def changing(self, name: str) -> Iterator[None]:
        """Raises 10035 when somebody else is changing the script."""
        if name in self._changing:
            raise RefusalError(400, 10035, f"Worker {name} is being changed by another request: try again")
        self._changing.add(name)
        try:
            yield
        finally:
            self._changing.discard(name)

    async def make_version(
        self,
        name: str,
        metadata: Mapping[str, Any],
        parts: Sequence[Part],
        *,
        annotations: Mapping[str, str],
        strict: bool,
    ) -> Version:
        """A version of what was uploaded, its global scope run once; it is not recorded yet."""
        bindings = resolve_bindings(metadata, script=name, scripts=self._scripts, account=self._account, strict=strict)
        number = self._scripts.next_number(name)
        version = make_version(
            self._store, name, metadata, parts, number=number, bindings=bindings, annotations=annotations
        )
        return await self.inspect(version)

    def derive_version(self, version: Version, *, annotations: Mapping[str, str], **changes: Any) -> Version:
        """The same code with other bindings or settings, as a new version; not recorded yet."""
        number = self._scripts.next_number(version.script)
        return replace(
            version,
            version_id=str(uuid.uuid4()),
            number=number,
            created_on=now_text(),
            annotations=annotations,
            **changes,
        )

    def get_deployed_latest(self, name: str, *, code: int, message: str) -> Version:
        """The latest version, refused unless all traffic is its own: what is changed in place goes live at once."""
        latest = self._scripts.latest(name)
        if [share.version_id for share in self._scripts.active(name).shares if share.percentage] != [latest.version_id]:
            raise RefusalError(400, code, message)
        return latest

    async def inspect(self, version: Version) -> Version:
        """The version with what its modules export; 10021 when its global scope fails, 10068 without a handler."""
        try:
            exports = await self._runtime.inspect(version)
        except StartError as exc:
            raise RefusalError(400, 10021, str(exc)) from exc
        if not exports.handlers and not exports.named_handlers:
            raise RefusalError(400, 10068, "The uploaded script has no registered event handlers")
        return replace(
            version,
            handlers=exports.handlers,
            named_handlers=exports.named_handlers,
            startup_ms=exports.startup_ms,
        )

    async def publish(self, version: Version) -> Deployment:
        """Record a new version and give it all traffic."""
        shares = [Share(version.version_id, 100)]
        return await self._deploy(version.script, shares, [version], annotations=version.annotations, new=version)

    async def deploy(
        self, name: str, shares: Sequence[Share], *, annotations: Mapping[str, str], force: bool
    ) -> Deployment:
        """Give the traffic to versions that there are; `force` lets an older one bring other secrets back."""
        recent = {version.version_id for version in self._scripts.versions(name, limit=ROLLBACK_DEPTH)}
        versions = []
        for share in shares:
            version = self._scripts.version(name, share.version_id)
            if share.version_id not in recent:
                raise RefusalError(400, 10210, f"Version {share.version_id} is not among the newest {ROLLBACK_DEPTH}")
            check_targets(version.bindings, self._account)
            versions.append(version)
        if not force:
            self._check_rollback(name, versions)
        return await self._deploy(name, shares, versions, annotations=annotations, new=None)

    def _check_rollback(self, name: str, versions: Sequence[Version]) -> None:
        """10220 for an older version with other secrets, unless it is deployed beside the newest one and stays so."""
        deployed = {version.version_id: version for version in self._scripts.deployed(name)}
        newest = max(deployed.values(), key=lambda version: version.number)
        staying = deployed.keys() if newest in versions else set()
        for version in versions:
            changed = changed_secrets(version, newest)
            if version.number < newest.number and version.version_id not in staying and changed:
                words = f"The following secrets have changed: {', '.join(changed)}"
                raise RefusalError(
                    400, 10220, f"Version {version.version_id} cannot be deployed without force. {words}"
                )

    async def _deploy(
        self,
        name: str,
        shares: Sequence[Share],
        versions: Sequence[Version],
        *,
        annotations: Mapping[str, str],
        new: Version | None,
    ) -> Deployment:
        if self._account.is_consumer(name) and any("queue" not in version.handlers for version in versions):
            raise RefusalError(400, 11001, f"Worker {name} consumes a queue, and has no queue handler in this version")
        try:
            prepared = await self._runtime.prepare(name, versions, port=self._choose_port(name))
        except StartError as exc:
            raise RefusalError(400, 10021, str(exc)) from exc
        deployment = self._scripts.deploy(name, shares, annotations=annotations, new=new)
        self._scripts.set_port(name, self._runtime.port(name) or 0)
        portions = [Portion(running, share.percentage) for running, share in zip(prepared, shares, strict=True)]
        await self._runtime.switch(name, portions)
        return deployment

    def _choose_port(self, name: str) -> int:
        """Where a script was, else the edge's own port for the first script, else any."""
        script = self._scripts.find(name)
        if script is not None and script.port:
            return script.port
        taken = {self._runtime.port(other) for other in self._scripts.names()}
        return 0 if self._worker_port in taken else self._worker_port

    async def restore(self) -> None:
        """Start what every recorded script deploys again, on its old port where that is free."""
        for name in self._scripts.names():
            script, deployment = self._scripts.get(name), self._scripts.active(name)
            port = script.port if script.port and is_free(script.port) else 0
            prepared = await self._runtime.prepare(name, self._scripts.deployed(name), port=port)
            self._scripts.set_port(name, self._runtime.port(name) or 0)
            shares = [share.percentage for share in deployment.shares]
            await self._runtime.switch(name, [Portion(*each) for each in zip(prepared, shares, strict=True)])
            await self._runtime.set_enabled(name, enabled=script.subdomain_enabled)
