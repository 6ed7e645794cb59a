"""One writer at a time: the lease around everything that a run changes.

A lease cannot stop a run that does not look: `renew()` before each step that writes. Where leases are kept is said in
`lease_places`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self

import structlog

from flagedge.errors import FlagedgeError

_log = structlog.get_logger()


class LeaseHeldError(FlagedgeError):
    """Another run is writing: this one leaves the work to it."""

    exit_code = 0

    def __init__(self, where: str, holder: str) -> None:
        super().__init__(
            f"another run has the lease {where}: {holder or 'it has not said which'}",
            hint="Nothing to do: it does the work of this one",
        )


class LeaseLostError(FlagedgeError):
    """The lease ran out and another run took it: this one must not write any more."""

    def __init__(self, where: str, holder: str) -> None:
        super().__init__(
            f"the lease {where} was lost to {holder or 'a run that is gone again'}",
            hint="Just run again: what is half done is done again from its start",
        )


class Lease(ABC):
    """Held inside its `with` block, which raises LeaseHeldError when another run has it."""

    def __init__(self, where: str) -> None:
        self.where = where

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.where!r})"

    def __enter__(self) -> Self:
        self._take()
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            self._release()
        except Exception as error:  # noqa: BLE001 (what the block did or raised counts for more; a lease ends without us)
            _log.warning("lease.release_failed", lease=self.where, error=str(error))

    @abstractmethod
    def renew(self) -> None:
        """Make sure that the lease is still ours; asks nobody before a third of its time is gone.

        Raises LeaseLostError when it is another's, and ApiError when that cannot be found out.
        """

    @abstractmethod
    def _take(self) -> None: ...

    @abstractmethod
    def _release(self) -> None: ...
