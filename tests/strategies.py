"""Hypothesis strategies over the one generator: states, requests for a state, and both together.

Long fuzz runs use `generator.random_case` instead, which is the same generator on a seeded `random.Random`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from builders import payload
from generator import Draw, StateGenerator
from generator_contexts import RequestGenerator
from hypothesis import strategies as st

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn, SearchStrategy

    from flagedge.wire.state_pb2 import ResolverState

_sources = st.randoms(use_true_random=False)


def states() -> SearchStrategy[ResolverState]:
    """Resolver states of one to four flags."""
    return _sources.map(lambda source: StateGenerator(Draw(source)).state())


def requests_for(state: ResolverState) -> SearchStrategy[dict[str, Any]]:
    """Requests in HTTP JSON shape with contexts near the state's criteria."""
    return _sources.map(lambda source: RequestGenerator(Draw(source), state).request())


@st.composite
def cases(draw: DrawFn, *, most_requests: int = 3) -> tuple[bytes, list[dict[str, Any]]]:
    """A state as the CDN serves it, and requests for it."""
    state = draw(states())
    return payload(state), draw(st.lists(requests_for(state), min_size=1, max_size=most_requests))
