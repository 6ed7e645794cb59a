"""Scripts, their versions and deployments, as rows of the store.

A version never changes. A deployment names one or two versions and the share of traffic of each; the newest deployment
is the active one. What a script has beside its versions (tags, logs, addresses) is its own and changes in place.
"""

from __future__ import annotations

import json
import secrets
import uuid
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from local_edge.envelope import RefusalError
from local_edge.store import now_text

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence

    from local_edge.store import Store

COLUMNS = "name, created_on, modified_on, subdomain_enabled, previews_enabled, port, settings"


@dataclass(frozen=True, slots=True)
class StoredModule:
    """A module of a version: `kind` is a workerd module kind, `digest` names the file that holds the content."""

    name: str
    kind: str
    digest: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Version:
    """What was uploaded, resolved: inherited bindings are filled in, secrets have their values.

    `modules` starts with the main module; `metadata` is the rest of the upload's metadata, to be shown again.
    `handlers` are the event handlers of the default export, `named_handlers` those of the others.
    """

    version_id: str
    script: str
    number: int
    created_on: str
    etag: str
    compatibility_date: str
    compatibility_flags: tuple[str, ...]
    bindings: tuple[Mapping[str, Any], ...]
    modules: tuple[StoredModule, ...]
    metadata: Mapping[str, Any]
    annotations: Mapping[str, str] = field(default_factory=dict)
    handlers: tuple[str, ...] = ("fetch",)
    named_handlers: tuple[Mapping[str, Any], ...] = ()
    startup_ms: int = 0


@dataclass(frozen=True, slots=True)
class Share:
    """What part of a script's traffic a version gets."""

    version_id: str
    percentage: float


@dataclass(frozen=True, slots=True)
class Deployment:
    """Who gets the traffic; `shares` add up to 100."""

    deployment_id: str
    script: str
    created_on: str
    shares: tuple[Share, ...]
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Script:
    """A script's own, unversioned facts; `port` is where it was served last."""

    name: str
    created_on: str
    modified_on: str
    subdomain_enabled: bool
    previews_enabled: bool
    port: int | None
    settings: Mapping[str, Any]


class Scripts:
    """The scripts of the account."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def names(self) -> list[str]:
        return [name for (name,) in self._store.db.execute("select name from scripts order by name")]

    def find(self, name: str) -> Script | None:
        row = self._store.db.execute(f"select {COLUMNS} from scripts where name = ?", (name,)).fetchone()  # noqa: S608 - a constant
        return Script(row[0], row[1], row[2], bool(row[3]), bool(row[4]), row[5], json.loads(row[6])) if row else None

    def get(self, name: str) -> Script:
        script = self.find(name)
        if script is None:
            raise RefusalError(404, 10007, f"This Worker does not exist on your account: {name}")
        return script

    def deployments(self, name: str) -> list[Deployment]:
        """The newest, and so the active one, first."""
        self.get(name)
        rows = self._store.db.execute(
            """select deployment_id, created_on, versions, annotations from deployments
               where script = ? order by deployment_no desc""",
            (name,),
        )
        return [_read_deployment(name, *row) for row in rows]

    def active(self, name: str) -> Deployment:
        """Who gets the traffic now; 10007 when the script does not exist."""
        return self.deployments(name)[0]

    def deployed(self, name: str) -> list[Version]:
        """The versions that the active deployment names, with no share of the traffic too."""
        return [self.version(name, share.version_id) for share in self.active(name).shares]

    def live(self, name: str) -> Version:
        """The version that gets most of the traffic; 10007 when the script does not exist."""
        share = max(self.active(name).shares, key=lambda share: share.percentage)
        return self.version(name, share.version_id)

    def latest(self, name: str) -> Version:
        """The version that was made last, deployed or not; 10007 when the script does not exist."""
        return self.versions(name, limit=1)[0]

    def versions(self, name: str, *, limit: int = -1) -> list[Version]:
        """The newest first."""
        self.get(name)
        rows = self._store.db.execute(
            "select body from versions where script = ? order by number desc limit ?", (name, limit)
        )
        return [_read_version(body) for (body,) in rows]

    def version(self, name: str, version_id: str) -> Version:
        row = self._store.db.execute(
            "select body from versions where script = ? and version_id = ?", (name, version_id)
        ).fetchone()
        if row is None:
            raise RefusalError(404, 10071, f"Version {version_id} of Worker {name} was not found")
        return _read_version(row[0])

    def next_number(self, name: str) -> int:
        newest = "select coalesce(max(number), 0) + 1 from versions where script = ?"
        return int(self._store.db.execute(newest, (name,)).fetchone()[0])

    def add_version(self, version: Version) -> None:
        """Keep a version that nothing deploys yet."""
        with self._store.transaction() as db:
            _insert_version(db, version)

    def deploy(
        self, name: str, shares: Sequence[Share], *, annotations: Mapping[str, str], new: Version | None = None
    ) -> Deployment:
        """Make a deployment, and the script and the version where they are new, in one transaction."""
        at = now_text()
        deployment = Deployment(str(uuid.uuid4()), name, at, tuple(shares), annotations)
        versions = json.dumps([asdict(share) for share in shares])
        with self._store.transaction() as db:
            db.execute(
                """insert into scripts (name, created_on, modified_on) values (?, ?, ?)
                   on conflict (name) do update set modified_on = excluded.modified_on""",
                (name, at, at),
            )
            if new is not None:
                _insert_version(db, new)
            db.execute(
                "insert into deployments (deployment_id, script, created_on, versions, annotations) values (?, ?, ?, ?, ?)",  # noqa: E501 - one statement
                (deployment.deployment_id, name, at, versions, json.dumps(annotations)),
            )
        return deployment

    def delete_deployment(self, deployment_id: str) -> None:
        self._store.db.execute("delete from deployments where deployment_id = ?", (deployment_id,))

    def set_settings(self, name: str, settings: Mapping[str, Any]) -> None:
        change = "update scripts set settings = ?, modified_on = ? where name = ?"
        self._store.db.execute(change, (json.dumps(settings), now_text(), name))

    def set_subdomain(self, name: str, *, enabled: bool, previews_enabled: bool) -> None:
        change = "update scripts set subdomain_enabled = ?, previews_enabled = ? where name = ?"
        self._store.db.execute(change, (enabled, previews_enabled, name))

    def set_port(self, name: str, port: int) -> None:
        self._store.db.execute("update scripts set port = ? where name = ?", (port, name))

    def delete(self, name: str) -> None:
        with self._store.transaction() as db:
            db.execute("delete from scripts where name = ?", (name,))
            db.execute("delete from versions where script = ?", (name,))
            db.execute("delete from deployments where script = ?", (name,))


def _insert_version(db: sqlite3.Connection, version: Version) -> None:
    db.execute(
        "insert into versions (version_id, script, number, body, created_on) values (?, ?, ?, ?, ?)",
        (version.version_id, version.script, version.number, json.dumps(asdict(version)), version.created_on),
    )


def _read_version(text: str) -> Version:
    body = json.loads(text)
    body["modules"] = tuple(StoredModule(**module) for module in body["modules"])
    for name in ("bindings", "compatibility_flags", "handlers", "named_handlers"):
        if name in body:
            body[name] = tuple(body[name])
    return Version(**body)


def _read_deployment(script: str, deployment_id: str, created_on: str, versions: str, annotations: str) -> Deployment:
    shares = tuple(Share(**share) for share in json.loads(versions))
    return Deployment(deployment_id, script, created_on, shares, json.loads(annotations))


def new_id() -> str:
    """An id as accounts, queues and namespaces have: 32 hex digits."""
    return secrets.token_hex(16)
