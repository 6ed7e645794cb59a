"""DuckDB itself: how it is set up, where its extensions come from, and its errors as ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import duckdb

from flagedge.errors import DecodeError, FlagedgeError, LocalError, SettingsError
from log_consumer.databases import Database, Lake

CONFIG: dict[str, str | bool | int | float | list[str]] = {
    # Nothing is fetched from a network behind the operator's back, nor read from his home directory.
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_unsigned_extensions": False,
    "allow_persistent_secrets": False,
    # SQL sees tables, never the variables of this program.
    "python_enable_replacements": False,
    # A commit writes the file itself, and no log beside it: that would write every row twice.
    "checkpoint_threshold": "0B",
    "auto_checkpoint_skip_wal_threshold": 0,
    # Rows go to the file as soon as a row group is full, and its memory is used again.
    "write_buffer_row_group_count": 1,
    "block_allocator_memory": "128MB",
}
# What DuckDB says, in a word of each, when a file is open in another process, or elsewhere in this one.
LOCK_HELD = ("Could not set lock", "Unique file handle conflict")
DATA_ERRORS = (duckdb.DataError, duckdb.InvalidInputException)
HINTS = {
    "open": "DATABASE names a DuckDB file, in a directory that exists",
    "write": "Nothing of this batch was acked; it is delivered again",
    "reach": "DATABASE and DATABASE_PASSWORD name its catalogue, LAKE_DATA_PATH its data",
}


@dataclass(frozen=True, slots=True)
class Engine:
    """What DuckDB may use; empty is its own default: four fifths of the memory, and `.tmp` below the current directory.

    `home` is given where the process has none that it may write to.
    """

    memory_limit: str = ""
    temp_directory: str = ""
    home: str = ""

    def connect(self, *, threads: int = 0) -> duckdb.DuckDBPyConnection:
        """A new database in memory, on all cores unless `threads` says how many.

        Raises SettingsError when DuckDB does not take the limits.
        """
        given: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": self.memory_limit,
            "temp_directory": self.temp_directory,
            "home_directory": self.home,
            "threads": threads,
        }
        try:
            return duckdb.connect(":memory:", config=CONFIG | {key: value for key, value in given.items() if value})
        except duckdb.Error as exc:
            raise SettingsError([f"DuckDB does not take its limits: {one_line(exc)}"]) from exc


def fetch_one(
    connection: duckdb.DuckDBPyConnection, statement: str, parameters: Mapping[str, Any] | None = None
) -> tuple[Any, ...]:
    """The one row that a statement has."""
    # All rows, for what a function did to a lake is only committed with its last one.
    (row,) = connection.execute(statement, dict(parameters or {})).fetchall()
    return tuple(row)


def load_extension(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    """Load an extension out of its PyPI package; DuckDB verifies its signature.

    Installing it, as DuckDB proposes, would write to a home directory, and fetch it from elsewhere. Raises
    SettingsError when the package is not there, LocalError when DuckDB does not take what is in it.
    """
    spec = find_spec(f"duckdb_extension_{name}")
    folders = spec.submodule_search_locations if spec else None
    found = [path for folder in folders or () for path in Path(folder).glob(f"extensions/*/{name}.duckdb_extension")]
    if not found:
        problem = f"DATABASE is a lake, and DuckDB's extension {name} is not installed: pip install 'flagedge[lake]'"
        raise SettingsError([problem])
    try:
        connection.execute(f"load {quote(str(found[0]))}")
    except duckdb.Error as exc:
        hint = "Install flagedge[lake] anew: it fits one version of DuckDB"
        raise LocalError(f"cannot load DuckDB's extension {name}: {one_line(exc)}", hint=hint) from exc


def quote(text: str) -> str:
    """Text as a string literal of SQL."""
    return "'" + text.replace("'", "''") + "'"


@contextmanager
def translate_errors(database: Database, verb: str) -> Iterator[None]:
    """DuckDB's errors as one LocalError that names the database and what to do; `verb` is a key of HINTS."""
    try:
        yield
    except FlagedgeError:
        raise
    except duckdb.Error as exc:
        said = database.hide(one_line(exc)) if isinstance(database, Lake) else one_line(exc)
        if is_lock_held(exc):
            hint = "Close what holds it (a DuckDB shell? another log-consumer?) and run this again"
            raise LocalError(f"{database} is held by another process", hint=hint) from exc
        raise LocalError(f"cannot {verb} {database}: {said}", hint=HINTS[verb]) from exc


def blames_data(exc: FlagedgeError) -> bool:
    """Whether what was decoded or written is to blame, and not where it was written to."""
    return isinstance(exc, DecodeError) or isinstance(exc.__cause__, DATA_ERRORS)


def describe_blame(exc: FlagedgeError) -> str:
    """Such an error as a reason to reject a message. What DuckDB says may quote it, so its kind has to do."""
    return f"could not be loaded ({type(exc.__cause__ or exc).__name__})"


def is_lock_held(exc: duckdb.Error) -> bool:
    return any(words in str(exc) for words in LOCK_HELD)


def one_line(exc: BaseException) -> str:
    """The first paragraph of an error, on one line."""
    return " ".join(str(exc).strip().split("\n\n", 1)[0].split()).rstrip(".!")
