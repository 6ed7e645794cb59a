"""Who gets which version: shares of the traffic, shifted only from what is known to serve."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from flagedge.errors import FlagedgeError
from sync_job.deadline import Deadline
from sync_job.lease import Lease
from sync_job.workers_api import Deployment, WorkersApi

UPLOAD_S = 30.0
"""What an upload may take, for a deadline."""


class OvertakenError(FlagedgeError):
    """Somebody else deployed while this run prepared its own; theirs stays."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """A Worker's traffic, within a lease and a deadline."""

    api: WorkersApi
    worker_name: str
    lease: Lease
    deadline: Deadline

    def go_on(self, step: str) -> None:
        """Raises OutOfTimeError and LeaseLostError where a step must not be begun."""
        self.deadline.require(UPLOAD_S, step=step)
        self.lease.renew()

    def shift(
        self, base: Deployment | None, shares: Mapping[str, float], *, message: str, step: str = "promote the Worker"
    ) -> Deployment:
        """Serve versions to shares in percent. Raises OvertakenError unless `base` serves, None being nothing."""
        self.go_on(step)
        return self._shift(base, shares, message)

    def shift_back(self, base: Deployment | None, version_id: str) -> None:
        """Serve what was live before to everyone, however late it is. Raises OvertakenError."""
        self._shift(base, {version_id: 100}, "flagedge: back to what was live")

    def confirm(self, base: Deployment | None, *, step: str) -> None:
        """Go on while `base` serves. Raises OvertakenError."""
        self.go_on(step)
        self._require(base)

    def _shift(self, base: Deployment | None, shares: Mapping[str, float], message: str) -> Deployment:
        self._require(base)
        return self.api.create_deployment(self.worker_name, shares, message=message)

    def _require(self, base: Deployment | None) -> None:
        active = self.api.get_deployment(self.worker_name)
        if (active and active.deployment_id) != (base and base.deployment_id):
            raise OvertakenError(
                f"{self.worker_name} was deployed by somebody else meanwhile",
                hint="Theirs stays live; the next run begins from it",
            )
