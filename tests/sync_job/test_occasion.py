"""What is bound to a version and tagged on a script: why it was deployed, and who was told; and how long steps took."""

from __future__ import annotations

import itertools
import subprocess
import sys

import pytest

from sync_job.live import LiveWorker, describe_worker
from sync_job.occasion import OCCASION_NAME, Occasion, find_actor, read_occasion, told_tag, told_tags_of
from sync_job.overrides import OVERRIDES_NAME, Override, write_overrides
from sync_job.timings import Timings

OCCASION = Occasion("id", '"before"', "override", "sam", "it ist dööwn")


def test_an_occasion_is_read_back() -> None:
    """Whatever stands in it; what is not ours is none."""
    assert read_occasion(OCCASION.to_text()) == OCCASION
    assert [read_occasion(text) for text in ("", "{", "[]", '{"record": 1}')] == [Occasion()] * 4


def test_a_worker_tells_what_is_bound() -> None:
    """Overrides and occasion are read with all the rest that a version says of itself."""
    override = Override("flags/a", "", "why", 1)
    texts = {OVERRIDES_NAME: write_overrides([override]), OCCASION_NAME: OCCASION.to_text()}
    bindings = [{"type": "plain_text", "name": name, "text": text} for name, text in texts.items()]
    live = describe_worker(bindings, tags=["mine", "flagedge:record:id"])
    assert (live.overrides, live.occasion) == ((override,), OCCASION)
    assert live.is_occasion_marked
    assert live.is_unrecorded


@pytest.mark.parametrize(
    ("tags", "own", "lasting", "is_unrecorded"),
    [
        (["mine"], ["mine"], ["mine"], False),
        (["mine", "flagedge:deploying", "flagedge:record:id"], ["mine"], ["mine", "flagedge:record:id"], False),
        (["flagedge:stepping", "flagedge:record:id"], [], ["flagedge:record:id"], True),
        ([told_tag("e", "x")], [], [told_tag("e", "x")], False),
    ],
)
def test_whose_tags_are_whose(tags: list[str], own: list[str], lasting: list[str], is_unrecorded: bool) -> None:  # noqa: FBT001
    """An operator's stay whatever we do; ours say how far a deployment came, or what is still to be told."""
    live = LiveWorker(exists=True, tags=tuple(tags))
    assert (live.own_tags, live.lasting_tags, live.is_unrecorded) == (own, lasting, is_unrecorded)


def test_told_tags() -> None:
    """One for each state and kind, short enough for a tag, without the entity tag's odd characters."""
    etag = 'W/"x,& ' + "y" * 500 + '"'
    assert told_tag(etag, "a") == told_tag(etag, "a") != told_tag(etag, "b")
    assert told_tag(etag, "a").startswith(told_tags_of(etag))
    assert not told_tag(etag, "a").startswith(told_tags_of("another"))
    assert len(told_tag(etag, "a")) < 50


def test_a_user_that_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container without an entry for its user a command still runs."""

    def fail() -> str:
        raise KeyError("getpwuid(): uid not found: 1234")

    assert find_actor()
    monkeypatch.setattr("getpass.getuser", fail)
    assert find_actor() == ""


def test_timings() -> None:
    """Milliseconds by step, in order; a step that is done twice counts together, one that fails counts too."""
    seconds = itertools.accumulate([0, 0.25, 1, 0.5, 1, 0.125])
    timings = Timings(lambda: next(seconds))
    with timings.measure("fetch"):
        pass
    with pytest.raises(ValueError, match="x"), timings.measure("upload"):
        raise ValueError("x")
    with timings.measure("fetch"):
        pass
    assert timings.to_ms() == {"fetch": 375, "upload": 500}
    assert list(timings.to_ms()) == ["fetch", "upload"]


def test_what_an_unchanged_run_imports() -> None:
    """Neither protobuf nor DuckDB: most runs find nothing to do and should cost nothing."""
    code = "import sys, sync_job.cli; print([name for name in ('duckdb', 'google.protobuf') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
