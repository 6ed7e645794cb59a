"""The lock of a lake: one writer at a time, over all processes and machines.

It is an advisory lock of the catalogue's Postgres database, held by an open transaction of a connection of its own: it
ends with that transaction, so also when the process dies, and works behind a pooler that hands out connections by
transaction. Nothing is written, so an open transaction costs the server nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from flagedge.errors import LocalError, SettingsError
from log_consumer.databases import Lake
from log_consumer.engine import HINTS

if TYPE_CHECKING:
    import psycopg

# Any number would do, as long as all consumers use the same; Postgres keeps these locks apart by database.
LOCK_KEY = int.from_bytes(b"flagedge")
CONNECT_TIMEOUT_S = 10
# A holder whose machine is gone is noticed after a minute, one that hangs after a quarter of an hour.
KEEPALIVES = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
MAX_HOLD = "15min"


class CatalogueLock:
    """Holds the lock again and again, over one connection. Not for several threads at once."""

    def __init__(self, lake: Lake, *, wait_s: float) -> None:
        self._lake = lake
        self._wait_s = wait_s
        self._connection: psycopg.Connection[Any] | None = None
        self.connection_number = 0

    @contextmanager
    def hold(self) -> Iterator[Callable[[], None]]:
        """Wait for the lock and hold it; gives what raises when it was lost meanwhile.

        Raises LocalError when the catalogue cannot be reached, or the wait was in vain.
        """
        connection = self._acquire()
        try:
            yield partial(self._verify, connection)
        finally:
            self._release(connection)

    def _acquire(self) -> psycopg.Connection[Any]:
        psycopg = _import_psycopg()
        if self._connection is not None and not self._connection.closed:
            try:
                return self._begin(self._connection)
            except psycopg.errors.LockNotAvailable as exc:
                self._release(self._connection)
                raise self._held() from exc
            except psycopg.Error:  # the server was restarted, or a gateway forgot an idle connection.
                self.close()
        connection = self._connect()
        try:
            return self._begin(connection)
        except psycopg.errors.LockNotAvailable as exc:
            self._release(connection)
            raise self._held() from exc
        except psycopg.Error as exc:
            self.close()
            raise self._unreachable(exc) from exc

    def _connect(self) -> psycopg.Connection[Any]:
        psycopg = _import_psycopg()
        lake = self._lake
        options: dict[str, Any] = {"connect_timeout": CONNECT_TIMEOUT_S, **KEEPALIVES, **dict(lake.tls)}
        if lake.password:
            options["password"] = lake.password.reveal()
        try:
            self._connection = psycopg.connect(
                host=lake.host,
                port=lake.port,
                user=lake.user,
                dbname=lake.name,
                autocommit=True,
                prepare_threshold=None,
                **options,
            )
        except psycopg.Error as exc:
            raise self._unreachable(exc) from exc
        self.connection_number += 1
        return self._connection

    def _begin(self, connection: psycopg.Connection[Any]) -> psycopg.Connection[Any]:
        # The server looks for a holder that is gone as we look for the server.
        settings = {f"tcp_{key}": value for key, value in KEEPALIVES.items()} | {
            "lock_timeout": f"'{round(self._wait_s * 1000)}ms'",
            "idle_in_transaction_session_timeout": f"'{MAX_HOLD}'",
        }
        local = "".join(f"set local {key} = {value}; " for key, value in settings.items())
        connection.execute(f"begin; {local}select pg_advisory_xact_lock({LOCK_KEY})".encode())
        return connection

    def _verify(self, connection: psycopg.Connection[Any]) -> None:
        psycopg = _import_psycopg()
        try:
            connection.execute("select 1")
        except psycopg.Error as exc:
            raise LocalError(f"lost the hold of {self._lake}: {_first_line(exc)}", hint=HINTS["write"]) from exc

    def _release(self, connection: psycopg.Connection[Any]) -> None:
        """Never fails: what was committed is committed, and a broken connection holds nothing."""
        psycopg = _import_psycopg()
        try:
            connection.execute("rollback")
        except psycopg.Error:
            self.close()

    def close(self) -> None:
        if self._connection is not None:
            with suppress(Exception):
                self._connection.close()
        self._connection = None

    def _held(self) -> LocalError:
        hint = f"It was waited for {self._wait_s:g} s; pg_locks, in the catalogue, names who has the advisory lock"
        return LocalError(f"{self._lake} is held by another consumer", hint=hint)

    def _unreachable(self, exc: Exception) -> LocalError:
        return LocalError(f"cannot reach {self._lake}: {self._lake.hide(_first_line(exc))}", hint=HINTS["reach"])


def _import_psycopg() -> Any:
    try:
        import psycopg  # noqa: PLC0415
    except ImportError:
        problem = "DATABASE is a lake, and psycopg is not installed: pip install 'flagedge[lake]'"
        raise SettingsError([problem]) from None
    return psycopg


def _first_line(exc: Exception) -> str:
    return str(exc).strip().partition("\n")[0].rstrip(".")
