"""What is served of one script: its processes, and what its front has been told about them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from local_edge.capnp import SLOT_COUNT
from local_edge.process import StartError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import httpx

    from local_edge.process import Workerd
    from local_edge.scripts import Version


@dataclass(slots=True, eq=False)
class Running:
    """The process of a version, and the slot of the front that leads to it; both change when it is started again."""

    version: Version
    slot: int
    workerd: Workerd
    started_at: float


@dataclass(frozen=True, slots=True)
class Portion:
    """A running version and its share of the traffic."""

    running: Running
    percentage: float


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """What an edge location knows of a script."""

    enabled: bool = False
    portions: Sequence[Portion] = ()

    def describe(self) -> dict[str, Any]:
        """For the front, newest version first."""
        newest_first = sorted(self.portions, key=lambda portion: -portion.running.version.number)
        versions = [
            {
                "id": portion.running.version.version_id,
                "slot": portion.running.slot,
                "percentage": portion.percentage,
            }
            for portion in newest_first
        ]
        return {"enabled": self.enabled, "versions": versions}


@dataclass(slots=True)
class Served:
    """A script that is being served: `shown` is what the front answers by, `coming` what spreads, oldest first.

    `running` has the processes by version id; those in `held` are about to be named by a view.
    """

    front: Workerd
    control: httpx.AsyncClient
    shown: View = field(default_factory=View)
    coming: list[View] = field(default_factory=list)
    running: dict[str, Running] = field(default_factory=dict)
    held: set[str] = field(default_factory=set)
    slots: set[int] = field(default_factory=set)
    last_slot: int = -1

    @property
    def port(self) -> int:
        return self.front.ports["http"]

    @property
    def newest(self) -> View:
        return self.coming[-1] if self.coming else self.shown

    def is_running(self, running: Running) -> bool:
        """Whether this, and not a later one, is the process of its version, and still wanted."""
        return self.running.get(running.version.version_id) is running

    def take_slot(self) -> int:
        """The next free slot in turn, so that a slot rests as long as possible before it is used again."""
        for step in range(1, SLOT_COUNT + 1):
            slot = (self.last_slot + step) % SLOT_COUNT
            if slot not in self.slots:
                self.slots.add(slot)
                self.last_slot = slot
                return slot
        raise StartError(f"{SLOT_COUNT} versions are still running: wait until old ones have ended")

    def arrive(self, view: View) -> bool:
        """Show a view that was coming, and forget those before it; False when a newer one arrived first."""
        if view not in self.coming:
            return False
        self.shown = view
        del self.coming[: self.coming.index(view) + 1]
        return True

    def take_unused(self) -> list[Running]:
        """The processes that no view needs any more; they are no longer among `running`."""
        views = [self.shown, *self.coming]
        needed = {portion.running.version.version_id for view in views for portion in view.portions}
        return [self.running.pop(version_id) for version_id in self.running.keys() - needed - self.held]
