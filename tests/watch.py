"""A visitor who never rests: resolves and applies without a pause, and notes every answer that is not right."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import httpx
import shop
from oracle import Oracle

from flagedge.errors import LocalError

_PAUSE_S = 0.004
_ENOUGH = 2
"""So many answers are waited for, before and after what is watched."""
NOT_THERE = "error code: 1042"

Answers = Mapping[str, dict[str, dict[str, Any]]]
"""By the visitor's id, their flags by name."""


def right_answers(state: bytes, contexts: Sequence[Mapping[str, Any]]) -> Answers:
    """What the official resolver answers to each visitor."""
    oracle = Oracle(state)
    return {context["visitor_id"]: oracle.resolve_flags(resolve_body(context)) for context in contexts}


def resolve_body(context: Mapping[str, Any]) -> dict[str, Any]:
    """A resolve that does not apply, so that it is answered with a token."""
    return {"clientSecret": shop.WEB_SECRET, "evaluationContext": dict(context), "apply": False, "flags": []}


def apply_body(token: str, flags: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Apply all that the resolve says is to be applied."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    shown = [{"flag": flag["flag"], "applyTime": now} for flag in flags if flag.get("shouldApply")]
    return {"clientSecret": shop.WEB_SECRET, "resolveToken": token, "sendTime": now, "flags": shown}


@dataclass
class Watch:
    """Use as a context manager around what is done to the Worker.

    `right` are the answers that may come, by the name of their state, in the order in which these may follow each
    other. A Worker that is not there yet may be missing, until its first answer.
    """

    find_url: Callable[[], str]
    contexts: Sequence[Mapping[str, Any]]
    right: Mapping[str, Answers]
    was_live: bool = True
    wrong: list[str] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    """The states that answered, each when it first did after another."""
    answer_count: int = 0
    _tokens: list[dict[str, Any]] = field(default_factory=list)
    """What to apply: a token of the first answer, and one of the last."""

    def __post_init__(self) -> None:
        self._leave = threading.Event()
        self._thread = threading.Thread(target=self._look, name="watch")
        self._http = httpx.Client(timeout=20, verify=False)

    def __enter__(self) -> Self:
        self._thread.start()
        if self.was_live:
            try:
                self.wait()
            except BaseException:
                self._stop()
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.wait()
        finally:
            self._stop()

    def _stop(self) -> None:
        self._leave.set()
        self._thread.join()
        self._http.close()

    def wait(self) -> None:
        """Until some more answers have come."""
        enough, until = self.answer_count + _ENOUGH, time.monotonic() + 20
        while self.answer_count < enough and time.monotonic() < until and not self.wrong:
            time.sleep(_PAUSE_S)
        assert self.answer_count >= enough or self.wrong, "the Worker did not answer"

    def _look(self) -> None:
        for context in itertools.cycle(self.contexts):
            if self._leave.wait(_PAUSE_S):
                return
            try:
                self._resolve(self.find_url(), context)
            except LocalError:
                if self.was_live:
                    self.wrong.append("the Worker is gone")
            except httpx.HTTPError as exc:
                self.wrong.append(repr(exc))

    def _resolve(self, url: str, context: Mapping[str, Any]) -> None:
        answer = self._http.post(f"{url}/v1/flags:resolve", json=resolve_body(context))
        if not self.was_live and answer.status_code == 404 and answer.text == NOT_THERE:
            return
        self.was_live = True
        if answer.status_code != 200:
            self.wrong.append(f"a resolve was answered {answer.status_code} {answer.text}")
            return
        body = answer.json()
        self._judge(context["visitor_id"], body["resolvedFlags"])
        if not body["resolveToken"]:
            self.wrong.append("there is no token")
            return
        token = apply_body(body["resolveToken"], body["resolvedFlags"])
        self._tokens = [*self._tokens[:1], token]
        for each in self._tokens:
            applied = self._http.post(f"{url}/v1/flags:apply", json=each)
            if applied.status_code != 200:
                self.wrong.append(f"a token was answered {applied.status_code} {applied.text}")
        self.answer_count += 1

    def _judge(self, visitor_id: str, flags: list[dict[str, Any]]) -> None:
        by_name = {flag["flag"]: flag for flag in flags}
        states = [name for name, answers in self.right.items() if answers[visitor_id] == by_name]
        if not states:
            self.wrong.append(f"{visitor_id} got {by_name}")
        elif not self.seen or self.seen[-1] not in states:
            self.seen.append(states[0])
