"""What log_consumer has landed in DuckDB, read only: units that flags were exposed to, and deployment records.

DuckDB is imported when it is asked for: no run needs it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flagedge.errors import LocalError

SEEN_UNITS_MAX = 20_000
"""Per flag; drawn by their hash, so that the same ones come again."""
_HASHED = "select count(*) from duckdb_tables() where table_name = 'hash_keys' and estimated_size > 0"
_SEEN_UNITS = """
    select flag, client_credential, coalesce(targeting_key_selector, ''), targeting_key
    from (
        select distinct flag, client_credential, targeting_key_selector, targeting_key
        from exposures
        where targeting_key is not null
    )
    qualify row_number() over (partition by flag order by md5(targeting_key), targeting_key_selector) <= ?
    order by all
"""
_DEPLOYMENTS = """
    select * from deployments
    where ? is null or record_id in (select record_id from flag_changes where flag = ? or flag = '')
    order by finished_at desc, record_id
    limit ?
"""
_CHANGES = """
    select record_id, flag, coalesce(rule, ''), field, change, old_value, new_value, text
    from flag_changes
    where list_contains(?, record_id) and (? is null or flag = ? or flag = '')
"""


def read_seen_units(database: Path) -> dict[str, list[tuple[str, str, str]]]:
    """By flag: client credential, targeting key selector and targeting key of the units that were given it.

    Raises LocalError also where units were hashed: no rule can be asked for what a unit was.
    """
    seen: dict[str, list[tuple[str, str, str]]] = {}
    with _open(database) as connection:
        if connection.execute(_HASHED).fetchone() != (0,):
            raise LocalError(
                f"the database {database} holds hashes of units, and rules ask for the units themselves",
                hint="Leave --database out: made-up units are asked for in any case",
            )
        for flag, *unit in connection.execute(_SEEN_UNITS, [SEEN_UNITS_MAX]).fetchall():
            seen.setdefault(flag, []).append(tuple(unit))
    return seen


def read_records(database: Path, *, flag: str, last: int) -> list[dict[str, Any]]:
    """The last records, the newest first, each with its changes; of one flag (a full name) where that is given."""
    with _open(database) as connection:
        named = flag or None
        records = [_plain(row) for row in _rows(connection, _DEPLOYMENTS, [named, named, last])]
        ids = [record["record_id"] for record in records]
        changes: dict[str, list[dict[str, Any]]] = {}
        for record_id, *change in connection.execute(_CHANGES, [ids, named, named]).fetchall():
            names = ("flag", "rule", "field", "change", "old", "new", "text")
            told = dict(zip(names, change, strict=True))
            changes.setdefault(record_id, []).append(told | {each: _json(told[each]) for each in ("old", "new")})
    return [record | {"changes": changes.get(record["record_id"], [])} for record in records]


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    """Raises LocalError, naming the file, for what cannot be opened or is no database of log_consumer."""
    import duckdb  # noqa: PLC0415 (slow to import)

    if not path.exists():
        raise LocalError(f"there is no database {path}", hint="Check --database; `log-consumer drain` makes one")
    try:
        with duckdb.connect(path, read_only=True) as connection:
            yield connection
    except duckdb.Error as error:
        said = str(error).partition("\n")[0]
        hint = "Is it a database of log-consumer, and does no other process write to it now?"
        raise LocalError(f"the database {path} cannot be read: {said}", hint=hint) from error


def _rows(connection: Any, statement: str, values: Sequence[Any]) -> Iterator[dict[str, Any]]:
    found = connection.execute(statement, values)
    names = [column[0] for column in found.description]
    for row in found.fetchall():
        yield dict(zip(names, row, strict=True))


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """Times as ISO 8601 in UTC, JSON as what it says, null as ""."""
    plain = {key: f"{value.isoformat()}Z" if hasattr(value, "isoformat") else value for key, value in row.items()}
    return {key: "" if value is None else value for key, value in plain.items()} | {
        "timings_ms": _json(row.get("timings_ms")) or {}
    }


def _json(text: str | None) -> Any:
    return None if text is None else json.loads(text)
