"""Everything that outlives the process: one SQLite database in WAL mode, and module contents as files by digest.

One connection, used from the server's event loop only, so nothing here locks. `synchronous=OFF` keeps what a
killed process wrote (the kernel has it) and loses only to a power cut, which is fair for a development tool.
"""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from flagedge.errors import LocalError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# One entry a format: a directory of an older one is brought up to date when it is opened, never thrown away.
MIGRATIONS = (
    """
create table account (key text primary key, value text not null) without rowid;
create table scripts (
    name text primary key, created_on text not null, modified_on text not null,
    subdomain_enabled integer not null default 0, previews_enabled integer not null default 0, port integer
) without rowid;
create table versions (
    version_id text primary key, script text not null, number integer not null, body text not null,
    created_on text not null
) without rowid;
create index versions_of_script on versions (script, number);
create table deployments (
    deployment_no integer primary key, deployment_id text not null, script text not null, created_on text not null,
    versions text not null
);
create index deployments_of_script on deployments (script, deployment_no);
create table queues (
    queue_no integer primary key, queue_id text not null unique, queue_name text not null unique,
    created_on text not null, modified_on text not null, settings text not null
);
create table consumers (
    consumer_id text primary key, queue_no integer not null unique, body text not null, created_on text not null
) without rowid;
create table messages (
    seq integer primary key autoincrement, queue_no integer not null, visible_at_ms integer not null,
    attempts integer not null default 0, lease text, enqueued_at_ms integer not null, size_bytes integer not null
);
create index messages_due on messages (queue_no, visible_at_ms, seq, attempts);
create table message_bodies (seq integer primary key, fragment text not null);
create table namespaces (namespace_id text primary key, title text not null unique) without rowid;
create table pairs (
    namespace_id text not null, key text not null, value blob not null, metadata text, expires_at_s integer,
    primary key (namespace_id, key)
);
""",
    """
alter table scripts add column settings text not null default '{}';
alter table deployments add column annotations text not null default '{}';
""",
)


def now_text() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


class Store:
    """The database and the module files below one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.blobs = directory / "blobs"
        try:
            self.blobs.mkdir(parents=True, exist_ok=True)
            self.db = sqlite3.connect(directory / "account.sqlite", isolation_level=None, check_same_thread=False)
            self._prepare()
        except (OSError, sqlite3.Error) as exc:
            hint = "Name a directory of local-edge's own with --dir"
            raise LocalError(f"cannot keep state in {directory}: {exc}", hint=hint) from exc

    def _prepare(self) -> None:
        self.db.execute("pragma journal_mode = wal")
        self.db.execute("pragma synchronous = off")
        (version,) = self.db.execute("pragma user_version").fetchone()
        if version > len(MIGRATIONS):
            self.db.close()
            raise sqlite3.DatabaseError(f"its format is {version}, this program writes {len(MIGRATIONS)}")
        for number, migration in enumerate(MIGRATIONS[version:], version + 1):
            self.db.executescript(f"begin; {migration} pragma user_version = {number}; commit;")

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        self.db.execute("begin immediate")
        try:
            yield self.db
        except BaseException:
            self.db.execute("rollback")
            raise
        self.db.execute("commit")

    def read_setting(self, key: str) -> str | None:
        row = self.db.execute("select value from account where key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def write_setting(self, key: str, value: str | None) -> None:
        if value is None:
            self.db.execute("delete from account where key = ?", (key,))
        else:
            self.db.execute("insert or replace into account (key, value) values (?, ?)", (key, value))

    def write_blob(self, content: bytes) -> str:
        """Keep `content` and return its digest; writing the same content again is free."""
        digest = hashlib.sha256(content).hexdigest()
        path = self.blobs / digest
        if not path.exists():
            unfinished = path.with_suffix(".part")
            unfinished.write_bytes(content)
            unfinished.replace(path)
        return digest

    def close(self) -> None:
        self.db.close()
