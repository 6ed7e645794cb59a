"""Code that comes in steps: a new version of the Worker's code gets more of the traffic from run to run.

Only code does. Two states at once would show a visitor one variant now and another a moment later, and a flag that is
switched off must not wait; so a new state goes to everyone at once, and takes the code along. So does a new token key:
the version before could not open what it seals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from flagedge import __version__
from sync_job.gate import Gate, GateError, ReturnedError
from sync_job.live import UNDER_WAY, LiveWorker, describe_worker
from sync_job.token_keys import TokenKey
from sync_job.traffic import Traffic
from sync_job.workers_api import Deployment, WorkersApi

AT_ONCE = (100,)
_log = structlog.get_logger()


def find_first_share(steps: Sequence[int], live: LiveWorker, *, etag: str, keys: Sequence[TokenKey]) -> int:
    """The share of the traffic that an upload gets at first, in percent.

    `live` is what is served. Another setting while its code still has a share begins the steps anew.
    """
    is_new_code = bool(live.version) and (live.version != __version__ or live.is_stepping)
    if not is_new_code or steps[0] == 100:
        return 100
    reason = "the state is another" if live.etag != etag else ""
    reason = reason or ("there is a new token key" if tuple(keys) != live.token_keys else "")
    if reason:
        _log.info("steps.skipped", reason=reason, version=__version__, previous_version=live.version)
        return 100
    return steps[0]


@dataclass(frozen=True, slots=True)
class Step:
    """The share that the new version has by now, in percent; 100 ends the steps."""

    share: float


def take_step(api: WorkersApi, traffic: Traffic, gate: Gate | None, steps: Sequence[int], live: LiveWorker) -> Step:
    """Give the version that was uploaded last its next share, if it still proves itself.

    Raises ReturnedError when it does not; then the version before it is live again, and the next run begins anew.
    """
    base = api.get_deployment(traffic.worker_name)
    new_id, old_id = _tell_apart(api, traffic.worker_name, base, live)
    if base is None or not old_id:
        if not new_id:
            _log.warning("steps.ended", reason="somebody else deployed, theirs stays")
        api.patch_script_settings(traffic.worker_name, {"tags": live.lasting_tags})
        return Step(100)
    share = next((step for step in steps if step > base.percentages[new_id]), 100)
    message = f"flagedge {__version__}: {share} % of the traffic"
    try:
        if gate:
            gate.check(new_id)
        rest = {old_id: 100 - share} if share < 100 else {}
        base = traffic.shift(base, rest | {new_id: share}, message=message)
        if gate:
            gate.check(new_id if rest else "")
    except GateError as error:
        try:
            # Else the next run would take the version for live.
            api.patch_script_settings(traffic.worker_name, {"tags": [*live.lasting_tags, UNDER_WAY]})
        finally:
            traffic.shift_back(base, old_id)
        raise ReturnedError(error.message, hint=error.hint) from error
    if share == 100:
        api.patch_script_settings(traffic.worker_name, {"tags": live.lasting_tags})
    _log.info("step.taken", share=share, version=__version__)
    return Step(share)


def _tell_apart(api: WorkersApi, worker_name: str, base: Deployment | None, live: LiveWorker) -> tuple[str, str]:
    """Of a deployment, the id of the version that was uploaded last and that of the other; "" for one that is not."""
    new_id = old_id = ""
    for version_id in base.percentages if base else ():
        found = describe_worker(api.get_version_bindings(worker_name, version_id))
        if (found.version, found.settings_digest, found.etag) == (live.version, live.settings_digest, live.etag):
            new_id = version_id
        else:
            old_id = version_id
    return (new_id, old_id) if new_id else ("", "")
