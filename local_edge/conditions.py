"""How unkind the account is: what production does to its clients and tests ask for, switched over HTTP.

    GET    /local/conditions  all of them
    PATCH  /local/conditions  {"propagation_ms": 300, …} changes those named
    DELETE /local/conditions  back to the defaults

Faults (faults.py) strike single requests; conditions hold until they are changed.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from local_edge.envelope import RefusalError, json_response, read_object

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request
    from starlette.responses import Response


@dataclass(slots=True)
class Conditions:
    """One account's conditions; with the defaults everything is at once and without limit but for KV writes.

    `propagation_ms`: for so long after a change of deployment or workers.dev the edge answers as before;
    `propagation_mixed`: meanwhile each request meets the old or the new one by chance, as in two places of the world.
    `kv_stale_s`: bindings read for so long what they read before, absence included; `kv_read_ms`: so long each of their
    reads takes. `kv_write_limit`: one write a second and key. `rate_limit`: requests a token has in
    `rate_limit_window_s`; 0 is no limit.
    `consumer_settle_ms`: for so long after a pull consumer was made its queue answers 405.
    `short_pulls`: the probability that a pull brings fewer messages than it could, down to none.
    """

    propagation_ms: int = 0
    propagation_mixed: bool = False
    kv_stale_s: float = 0.0
    kv_read_ms: int = 0
    kv_write_limit: bool = True
    rate_limit: int = 0
    rate_limit_window_s: float = 300.0
    consumer_settle_ms: int = 0
    short_pulls: float = 0.0

    def change(self, changes: Mapping[str, Any]) -> None:
        """All or nothing; 10026 for a name that is none or a value of another type."""
        kinds = {field.name: type(field.default) for field in fields(self)}
        for name, value in changes.items():
            if name not in kinds:
                raise RefusalError(400, 10026, f"there is no condition {name!r}; known: {', '.join(kinds)}")
            if not _fits(value, kinds[name]):
                raise RefusalError(400, 10026, f"{name} must be a {kinds[name].__name__}, and not negative")
        for name, value in changes.items():
            setattr(self, name, value)

    async def show(self, _request: Request) -> Response:
        return json_response(asdict(self))

    async def patch(self, request: Request) -> Response:
        self.change(await read_object(request))
        return json_response(asdict(self))

    async def reset(self, _request: Request) -> Response:
        self.change(asdict(Conditions()))
        return json_response(asdict(self))


def _fits(value: Any, kind: type[Any]) -> bool:
    if kind is bool or isinstance(value, bool):
        return kind is bool and isinstance(value, bool)
    return isinstance(value, (int, float) if kind is float else kind) and value >= 0
