"""Scripts, their versions and deployments, as rows of the store.

A version never changes. A deployment names the versions that get traffic; the newest deployment is the active one.
"""

from __future__ import annotations

import json
import secrets
import uuid
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from local_edge.envelope import RefusalError
from local_edge.store import now_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from local_edge.store import Store


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


@dataclass(frozen=True, slots=True)
class Script:
    """A script's own, unversioned facts; `port` is where it was served last."""

    name: str
    created_on: str
    modified_on: str
    subdomain_enabled: bool
    previews_enabled: bool
    port: int | None


class Scripts:
    """The scripts of the account."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def names(self) -> list[str]:
        return [name for (name,) in self._store.db.execute("select name from scripts order by name")]

    def find(self, name: str) -> Script | None:
        columns = "name, created_on, modified_on, subdomain_enabled, previews_enabled, port"
        row = self._store.db.execute(f"select {columns} from scripts where name = ?", (name,)).fetchone()  # noqa: S608 - a constant
        return Script(row[0], row[1], row[2], bool(row[3]), bool(row[4]), row[5]) if row else None

    def get(self, name: str) -> Script:
        script = self.find(name)
        if script is None:
            raise RefusalError(404, 10007, f"This Worker does not exist on your account: {name}")
        return script

    def live(self, name: str) -> Version:
        """The version that the active deployment names; 10007 when the script does not exist."""
        self.get(name)
        row = self._store.db.execute(
            "select versions from deployments where script = ? order by deployment_no desc limit 1", (name,)
        ).fetchone()
        return self.version(json.loads(row[0])[0]["version_id"])

    def version(self, version_id: str) -> Version:
        row = self._store.db.execute("select body from versions where version_id = ?", (version_id,)).fetchone()
        body = json.loads(row[0])
        body["modules"] = tuple(StoredModule(**module) for module in body["modules"])
        body["bindings"] = tuple(body["bindings"])
        body["compatibility_flags"] = tuple(body["compatibility_flags"])
        return Version(**body)

    def next_number(self, name: str) -> int:
        newest = "select coalesce(max(number), 0) + 1 from versions where script = ?"
        return int(self._store.db.execute(newest, (name,)).fetchone()[0])

    def derive(self, version: Version, bindings: tuple[Mapping[str, Any], ...]) -> Version:
        """The same code with other bindings, as a new version."""
        number = self.next_number(version.script)
        return replace(version, version_id=str(uuid.uuid4()), number=number, created_on=now_text(), bindings=bindings)

    def record(self, version: Version) -> None:
        """Keep a version and deploy it to everyone, in one transaction."""
        at = now_text()
        versions = json.dumps([{"version_id": version.version_id, "percentage": 100}])
        with self._store.transaction() as db:
            db.execute(
                """insert into scripts (name, created_on, modified_on) values (?, ?, ?)
                   on conflict (name) do update set modified_on = excluded.modified_on""",
                (version.script, at, at),
            )
            db.execute(
                "insert into versions (version_id, script, number, body, created_on) values (?, ?, ?, ?, ?)",
                (version.version_id, version.script, version.number, json.dumps(asdict(version)), version.created_on),
            )
            db.execute(
                "insert into deployments (deployment_id, script, created_on, versions) values (?, ?, ?, ?)",
                (str(uuid.uuid4()), version.script, at, versions),
            )

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


def new_id() -> str:
    """An id as accounts, queues and namespaces have: 32 hex digits."""
    return secrets.token_hex(16)
