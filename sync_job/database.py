"""What log_consumer has landed: units that flags were exposed to, and deployment records.

Asked by the consumer's own command, `log-consumer sql`, in a process of its own: it knows what DATABASE can name, a
file or a lake, how either is opened, and what to say where that fails.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flagedge.errors import FlagedgeError, LocalError, SettingsError
from sync_job.units import SeenUnit

SEEN_UNITS_MAX = 20_000
"""Per flag; drawn by their hash, so that the same ones come again."""
_COMMAND = "log-consumer"
_SEEN_UNITS = """
    select
        flag,
        client_credential as credential,
        coalesce(targeting_key_selector, '') as selector,
        list(targeting_key order by targeting_key) as targeting_keys,
        (select count(*) from hash_keys) as hash_key_count
    from (
        from (
            select distinct flag, client_credential, targeting_key_selector, targeting_key
            from exposures
            where targeting_key is not null
        )
        qualify row_number() over (partition by flag order by md5(targeting_key), targeting_key_selector) <= {units_max}
    )
    group by all
    order by flag, credential, selector
"""
_RECORDS = """
    with
        changes as (from flag_changes where {flag} = '' or flag in ({flag}, '')),
        records as (
            from deployments
            where {flag} = '' or record_id in (select record_id from changes)
            order by finished_at desc, record_id
            limit {last}
        )
    select
        records.*,
        (
            select list({{
                flag: flag, rule: coalesce(rule, ''), field: field, change: change,
                old: old_value, new: new_value, text: text
            }})
            from changes
            where changes.record_id = records.record_id
        ) as changes
    from records
    order by finished_at desc, record_id
"""


@dataclass(frozen=True, slots=True)
class Database:
    """A database of log_consumer: `name` is as in its setting DATABASE, its other settings are in `variables`."""

    name: str
    variables: Mapping[str, str] = field(repr=False)

    def read_seen_units(self, *, units_max: int = SEEN_UNITS_MAX) -> dict[str, list[SeenUnit]]:
        """By flag, the units that were given it.

        Raises FlagedgeError also where units were hashed: no rule can be asked for what a unit was.
        """
        seen: dict[str, list[SeenUnit]] = {}
        for row in self._ask(_SEEN_UNITS.format(units_max=units_max)):
            if row["hash_key_count"]:
                raise LocalError(
                    "the database holds hashes of units, and rules ask for the units themselves",
                    hint="Leave --database out: made-up units are asked for in any case",
                )
            units = [SeenUnit(row["credential"], row["selector"], key) for key in row["targeting_keys"]]
            seen.setdefault(row["flag"], []).extend(units)
        return seen

    def read_records(self, *, flag: str, last: int) -> list[dict[str, Any]]:
        """The last records, the newest first, each with its changes; of one flag (a full name) where that is given."""
        return [_plain(row) for row in self._ask(_RECORDS.format(flag=_quote(flag), last=last))]

    def _ask(self, sql: str) -> list[dict[str, Any]]:
        """Rows by column. Raises SettingsError or LocalError with what log-consumer said."""
        command = [_find_command(), "sql", sql, "--format", "json"]
        variables = {**self.variables, "DATABASE": self.name}
        done = subprocess.run(command, env=variables, capture_output=True, encoding="utf-8", check=False)  # noqa: S603
        if done.returncode != 0:
            raise _failure(done.returncode, done.stderr)
        rows: list[dict[str, Any]] = json.loads(done.stdout)
        return rows


def _find_command() -> str:
    found = shutil.which(_COMMAND, path=sysconfig.get_path("scripts")) or shutil.which(_COMMAND)
    if found is None:
        raise LocalError(
            f"--database is read by {_COMMAND}, which is not installed here",
            hint="Install flagedge with its commands, or leave --database out",
        )
    return found


def _failure(exit_code: int, stderr: str) -> FlagedgeError:
    """The command's error as ours."""
    lines = [line.removeprefix("error: ") for line in stderr.splitlines() if line.startswith("error: ")]
    if not lines:
        return LocalError(
            f"--database: {_COMMAND} ended with exit code {exit_code}",
            hint=f"Try `{_COMMAND} sql 'from deployments'` with DATABASE set to it",
        )
    if exit_code == SettingsError.exit_code:
        return SettingsError([f"--database: {lines[-1].removeprefix('wrong settings: ')}"])
    return LocalError(f"--database: {lines[-1]}")


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """Times as ISO 8601 in UTC, JSON as what it says, null as ""."""
    changes = [dict(change) | {name: _json(change[name]) for name in ("old", "new")} for change in row["changes"] or ()]
    plain = {key: "" if value is None else value for key, value in row.items()}
    times = {key: f"{value}Z" for key, value in plain.items() if key.endswith("_at") and value}
    return plain | times | {"timings_ms": _json(row["timings_ms"]) or {}, "changes": changes}


def _json(text: str | None) -> Any:
    return None if text is None else json.loads(text)


def _quote(text: str) -> str:
    """Text as a string literal of SQL."""
    return "'" + text.replace("'", "''") + "'"
