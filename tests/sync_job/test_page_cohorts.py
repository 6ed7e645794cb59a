"""How many cohorts a page can have, told before there is traffic: what can differ, and nothing that cannot."""

from __future__ import annotations

import json
import random
from collections.abc import Collection
from typing import Any

import pytest
import structlog
from builders import (
    SECRET,
    assignment,
    client_default,
    compiled_plan,
    fallthrough,
    flag,
    materialization,
    payload,
    rule,
    split,
    state,
    variant,
)
from generator import Draw, StateGenerator
from generator_contexts import RequestGenerator
from operators import operator_environ
from segments import bitset, eq, segment

from flagedge.errors import DecodeError
from flagedge.settings import Secret
from flagedge.wire.state_pb2 import ResolverState
from local_edge.server import LocalEdge
from sync_job import job
from sync_job.compile import compile_plan
from sync_job.decode import DecodedState
from sync_job.evaluate import evaluate_flags
from sync_job.materializations import Materializations
from sync_job.page_cohorts import PathCohorts, count_cohorts, warn_of_cohorts
from sync_job.pages import PageSettings
from sync_job.plan import load_plan
from sync_job.settings import read_sync_settings
from sync_job.workers_api import WorkersApi

NAMES = ("one", "two", "three")
VARIANTS = [variant(name, {"name": name}) for name in NAMES]


def count(built: ResolverState, *flags: str, **pages: Any) -> PathCohorts:
    """Of a path with these flags, for the first credential."""
    plan = compiled_plan(built)
    [cohorts] = count_cohorts(
        load_plan(plan.text, plan.bits).credentials[0], PageSettings(flags={"/*": tuple(flags)}, **pages)
    )
    return cohorts


def ways(*rules: Any, **state_parts: Any) -> int:
    """In how many ways a flag with these rules is shown."""
    return count(state(flag("f", *rules, variants=VARIANTS), **state_parts), "f").ways["f"]


def whole(name: str, **options: Any) -> Any:
    return rule(f"{name}-for-all", assignments=[assignment(name)], **options)


SWEDES = segment("se", eq("country", "SE"))


def test_what_one_flag_can_be() -> None:
    """Each variant that a rule gives away, and the default unless every visitor has another."""
    assert ways(rule(assignments=split(one=50, two=50))) == 2
    assert ways(rule(assignments=split(one=50, two=30), bucket_count=100)) == 3
    assert ways(rule(assignments=split(one=50, two=50), segment="se"), segments=[SWEDES]) == 3
    assert ways(rule(assignments=[assignment("one", (0, 50)), client_default((50, 100))])) == 2
    assert ways(rule(assignments=split(one=50, two=50), selector="visitor_id")) == 3
    assert ways(whole("one")) == 1


def test_rules_that_nobody_comes_to() -> None:
    """Behind one that decides for all, disabled ones, those of other environments, and variants without a bucket."""
    assert ways(whole("one"), whole("two")) == 1
    assert ways(whole("one", enabled=False), whole("two")) == 1
    assert ways(whole("one", environments=["environments/test"]), whole("two")) == 1
    assert ways(rule(assignments=[assignment("one", (0, 100)), assignment("two", (100, 200))], bucket_count=100)) == 1
    assert ways(rule(assignments=[assignment("one", (0, 50)), fallthrough((50, 100))]), whole("two")) == 2
    empty = bitset("none-of-them", share=0)
    assert ways(whole("one", segment="none-of-them"), segments=[segment("none-of-them")], bitsets=[empty]) == 1


def test_what_a_record_may_say() -> None:
    """A sticky rule gives what it gave once, whatever its buckets are today."""
    sticky = materialization("m", "m")
    moved = [assignment("one", (0, 100)), assignment("two", (100, 200)), assignment("three", (200, 300))]
    assert ways(rule(assignments=moved, bucket_count=100, materialization=sticky)) == 4


def test_a_path_multiplies() -> None:
    """Flags of a path are taken together, each once; unknown ones are told and count for nothing."""
    halves = [flag(name, rule(assignments=split(one=50, two=50)), variants=VARIANTS) for name in "abc"]
    cohorts = count(state(*halves), "a", "b", "c", "a", "d")
    assert (cohorts.count, cohorts.ways, cohorts.unknown) == (8, {"a": 2, "b": 2, "c": 2}, ("d",))


def test_nobody_has_what_is_not_counted() -> None:
    """Whatever the state and the context, a visitor's variant or default is one of the counted ways."""
    draw = Draw(random.Random(7))
    compared, reached = 0, 0
    while compared < 3_000:
        built = StateGenerator(draw).state()
        compiled = compile_plan(DecodedState("account", built), etag="")
        plan = load_plan(compiled.text, compiled.bits)
        requests = RequestGenerator(draw, built)
        for each in plan.credentials:
            names = tuple(name.removeprefix("flags/") for name in each.flags)
            [counted] = count_cohorts(each, PageSettings(flags={"/": names}))
            seen: dict[str, set[Any]] = {name: set() for name in names}
            for _ in range(20):
                context = requests.request().get("evaluationContext", {})
                compared += _decide(plan, each, context | {"targeting_key": f"{draw.number(0, 10**9):024}"}, seen)
            assert {name for name in names if len(seen[name]) > counted.ways[name]} == set()
            reached += sum(len(seen[name]) == counted.ways[name] for name in names)
    assert reached > 50, "the count is above all that happens"


def _decide(plan: Any, credential: Any, context: dict[str, Any], seen: dict[str, set[Any]]) -> int:
    """Add what the flags are for a context, errors aside; how many were decided."""
    try:
        decided = evaluate_flags(
            plan, context, credential=credential, materializations=Materializations(), is_traced=False
        )
    except DecodeError:
        return 0
    shown = [each for each in decided if each.reason in {"MATCH", "NO_SEGMENT_MATCH"}]
    for each in shown:
        seen[each.flag.removeprefix("flags/")].add((each.variant, each.value) if each.variant else None)
    return len(shown)


def warnings_of(built: ResolverState, flags: Collection[str], **pages: Any) -> list[dict[str, Any]]:
    with structlog.testing.capture_logs() as logs:
        warn_of_cohorts(compiled_plan(built), PageSettings(flags={"/shop/*": tuple(flags)}, **pages), Secret(SECRET))
    assert {each["log_level"] for each in logs} <= {"warning"}
    return logs


@pytest.mark.parametrize("flag_count", [5, 6])
def test_more_than_the_worker_takes(flag_count: int) -> None:
    """32 cohorts are let pass, as by the Worker; beyond, the warning has path, number and what each flag can be."""
    names = [f"f{number}" for number in range(flag_count)]
    built = state(*(flag(name, rule(assignments=split(one=50, two=50)), variants=VARIANTS) for name in names))
    logs = warnings_of(built, names)
    assert len(logs) == flag_count - 5
    for log in logs:
        assert (log["event"], log["path"], log["cohort_count"], log["more_than"]) == (
            "page.cohorts_many",
            "/shop/*",
            64,
            32,
        )
        assert log["flags"] == dict.fromkeys(names, 2)


def test_flags_and_clients_that_are_not_there() -> None:
    """A name that is none of the state's would be a page without flags and without a word."""
    built = state(flag("f", whole("one"), variants=VARIANTS))
    [log] = warnings_of(built, ["f", "g"])
    assert (log["event"], log["flags"], log["client"]) == ("page.flags_unknown", ("g",), "clients/c")
    [log] = warnings_of(built, ["f"], client="clients/nobody")
    assert (log["event"], log["client"]) == ("page.client_unknown", "clients/nobody")
    assert warnings_of(built, ["f"], client="clients/c") == []
    assert warnings_of(built, ["f"], client="clients/c/clientCredentials/k") == []


def test_a_run_warns_and_deploys(tmp_path: Any) -> None:
    """It is a warning: the state goes live, and a run that deploys nothing warns too."""
    names = [f"f{number}" for number in range(6)]
    built = state(*(flag(name, rule(assignments=split(one=50, two=50)), variants=VARIANTS) for name in names))
    with LocalEdge(dir=tmp_path, grace_s=0.5) as edge:
        edge.publish_state(SECRET, payload(built))
        environ = operator_environ(edge, SECRET) | {"LEASE": "off", "PROBE": "off"}
        environ |= {"PAGE_FLAGS": json.dumps({"/*": names})}
        for more, outcome in (({"NO_DEPLOY": "true"}, "checked"), ({}, "deployed")):
            settings = read_sync_settings(environ | more)
            with (
                WorkersApi(api_token=settings.api_token, base_url=edge.api_url) as api,
                structlog.testing.capture_logs() as logs,
            ):
                assert job.run(settings, api).outcome == outcome
            assert [each["cohort_count"] for each in logs if each["event"] == "page.cohorts_many"] == [64]
