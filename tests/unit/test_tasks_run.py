"""Attempts from assignment to outcome: deadlines, exceptions, and what goes with every outcome."""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import Iterator
from dataclasses import MISSING, fields
from math import inf, nan
from types import SimpleNamespace
from typing import Any

import pytest

from trax_ray.core.limits.signals import ProviderSignal
from trax_ray.core.state.events import decode_task, encode
from trax_ray.core.task import Category, Failure, FailureClass, Outcome, TaskType
from trax_ray.errors import NetworkError
from trax_ray.kinds import run as run_module
from trax_ray.kinds.assignment import Assignment, Progress
from trax_ray.kinds.run import call, make_attempt, make_call, run
from trax_ray.kinds.table import KINDS
from trax_ray.testing.clock import FakeClock
from trax_ray.testing.factories import make_spec, make_task


def assignment(function: Any, *, timeout_s: float | None = None, **data: Any) -> Assignment:
    """An attempt that a function of this module makes."""
    path = f"{__name__}:{function.__name__}"
    return Assignment(make_spec("/out", runner=path, caller=path, task_timeout_s=timeout_s), make_task(**data))


class Clocks:
    """The wall clock, and the one that nobody sets."""

    def __init__(self) -> None:
        self.wall = FakeClock(1_000_000.0)
        self.steady = FakeClock(50.0)

    def advance(self, seconds: float) -> None:
        self.wall.advance(seconds)
        self.steady.advance(seconds)


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    found = Clocks()
    monkeypatch.setattr(run_module, "time", SimpleNamespace(time=found.wall, monotonic=found.steady))
    return found


def drive(given: Assignment, *seconds: float, clocks: Clocks) -> tuple[int, Outcome]:
    """Make an attempt whose signs of life come so many seconds one after the other: their number, and the outcome."""
    signs = 0
    attempt = make_attempt(given)
    for each in seconds:
        item = next(attempt)
        if isinstance(item, Outcome):
            return signs, item
        signs += 1
        clocks.advance(each)
    *rest, outcome = attempt
    assert isinstance(outcome, Outcome)
    return signs + len(rest), outcome


closed: list[str] = []


def four_signs(given: Assignment) -> Iterator[Progress | Outcome]:
    try:
        for number in range(4):
            yield Progress(number / 4)
        yield Outcome(artifact_key="k")
    finally:
        closed.append("four_signs")


# Attempts in a process of their own


@pytest.mark.parametrize("timeout_s", [None, 40.0])
def test_an_attempt_within_its_time_comes_to_its_outcome(timeout_s: float | None, clocks: Clocks) -> None:
    signs, outcome = drive(assignment(four_signs, timeout_s=timeout_s), 10.0, 10.0, 10.0, 10.0, clocks=clocks)
    assert (signs, outcome.failure, outcome.artifact_key) == (4, None, "k")
    assert (outcome.started_at, outcome.ended_at) == (1_000_000.0, 1_000_040.0)


def test_an_attempt_past_its_deadline_ends_at_its_next_sign_of_life(clocks: Clocks) -> None:
    closed.clear()
    signs, outcome = drive(assignment(four_signs, timeout_s=15.0), 10.0, 10.0, 10.0, 10.0, clocks=clocks)
    assert signs == 2, "after ten seconds there was time left, after twenty there was none"
    assert outcome.failure == Failure(
        FailureClass.TRANSIENT,
        Category.RESOURCE,
        "timed_out",
        "the attempt took longer than 15 s: give a larger --task-timeout, or a smaller --chunk-size",
    )
    assert (outcome.started_at, outcome.ended_at) == (1_000_000.0, 1_000_020.0)
    assert closed == ["four_signs"], "what it had open is closed"


def test_work_that_is_done_counts_though_it_took_too_long(clocks: Clocks) -> None:
    _, outcome = drive(assignment(four_signs, timeout_s=30.5), 10.0, 10.0, 10.0, 10.0, clocks=clocks)
    assert outcome.failure is None


def test_a_wall_clock_that_is_set_ends_no_attempt(clocks: Clocks) -> None:
    given = assignment(four_signs, timeout_s=15.0)
    attempt = make_attempt(given)
    next(attempt)
    clocks.wall.advance(3600.0)
    *_, outcome = attempt
    assert isinstance(outcome, Outcome)
    assert outcome.failure is None


def odd_figures(given: Assignment) -> Iterator[Progress | Outcome]:
    yield Outcome(
        failure=Failure(FailureClass.TRANSIENT, Category.NETWORK, "busy", "busy", retry_after_s=given.task.data["s"]),
        signal=ProviderSignal(status=429, retry_after_s=given.task.data["s"], latency_s=0.5),
        metrics={"wer": nan, "speed": inf, "duration_s": 2.5, "words": 3, "outputs": ["a"]},
        node="elsewhere",
        pid=1,
    )


@pytest.mark.parametrize(("asked", "told"), [(nan, None), (inf, None), (2.0, 2.0), (None, None)])
def test_every_outcome_says_where_it_was_made_and_holds_what_json_has_a_word_for(
    asked: float | None, told: float | None
) -> None:
    (outcome,) = make_attempt(assignment(odd_figures, s=asked))
    assert isinstance(outcome, Outcome)
    assert outcome.metrics == {"wer": None, "speed": None, "duration_s": 2.5, "words": 3, "outputs": ["a"]}
    assert outcome.failure is not None
    assert outcome.failure.retry_after_s == told
    assert outcome.signal == ProviderSignal(status=429, retry_after_s=told, latency_s=0.5)
    assert (outcome.node, outcome.pid) == (platform.node(), os.getpid())
    assert outcome.memory_peak_mb > 1


def goes_on(given: Assignment) -> Iterator[Progress | Outcome]:
    yield Outcome(artifact_key="first")
    raise AssertionError("nobody asked for more")


def test_the_first_outcome_is_the_last_word() -> None:
    (outcome,) = make_attempt(assignment(goes_on))
    assert isinstance(outcome, Outcome)
    assert (outcome.artifact_key, outcome.failure) == ("first", None)


@pytest.mark.parametrize("kind", sorted(each for each in TaskType if each.value not in KINDS))
def test_a_kind_that_this_version_can_not_do_parks_and_says_so(kind: TaskType) -> None:
    spec = make_spec("/out", runner=f"{run.__module__}:run", caller=f"{call.__module__}:call")
    given = Assignment(spec, make_task("t", kind))
    (alone,) = make_attempt(given)
    shared = asyncio.run(make_call(given))
    for outcome in (alone, shared):
        assert isinstance(outcome, Outcome)
        assert outcome.failure is not None
        assert outcome.failure.failure_class is FailureClass.CONFIG
        assert f"tasks of the kind {kind.value}" in outcome.failure.message


@pytest.mark.parametrize("name", sorted(KINDS))
def test_a_kind_is_what_its_name_says(name: str) -> None:
    kind = KINDS[name]
    assert kind.name == name
    assert not kind.needs or kind.needs in kind.data.__dataclass_fields__
    wanted = [each.name for each in fields(kind.data) if each.default is MISSING and each.default_factory is MISSING]
    data = kind.data(**dict.fromkeys(wanted, 1))
    made = kind.task(data, id="t")
    assert (made.kind, made.task_type, made.shared) == (name, kind.task_type, kind.calls is not None)
    assert made.asks_provider is kind.asks
    assert decode_task(encode(made)) == made


# Attempts that share a process


async def answers(given: Assignment) -> Outcome:
    await asyncio.sleep(0)
    return Outcome(artifact_key=f"key-{given.task.id}", metrics={"wer": nan}, node="elsewhere")


@pytest.mark.parametrize("timeout_s", [None, 60.0])
async def test_a_call_gives_its_outcome(timeout_s: float | None, clocks: Clocks) -> None:
    outcome = await make_call(assignment(answers, timeout_s=timeout_s))
    assert (outcome.failure, outcome.artifact_key, outcome.metrics) == (None, "key-t", {"wer": None})
    assert (outcome.node, outcome.pid) == (platform.node(), os.getpid())
    assert (outcome.started_at, outcome.ended_at) == (1_000_000.0, 1_000_000.0)


async def is_refused(given: Assignment) -> Outcome:
    raise NetworkError("slow down", code="rate_limited", retry_after_s=7.0)


async def breaks(given: Assignment) -> Outcome:
    raise LookupError("nobody expected this")


def is_not_async(given: Assignment) -> Any:
    return Outcome()


async def says_nothing(given: Assignment) -> Any:
    return None


@pytest.mark.parametrize(
    ("caller", "kind", "code", "message"),
    [
        (is_refused, "transient", "rate_limited", "slow down"),
        (breaks, "unknown", "unexpected", "LookupError: nobody expected this"),
        (is_not_async, "unknown", "unexpected", "TypeError: "),
        (says_nothing, "unknown", "unexpected", f"RuntimeError: {__name__}:says_nothing ended without an outcome"),
    ],
)
@pytest.mark.parametrize("timeout_s", [None, 60.0])
async def test_whatever_a_call_does_it_has_an_outcome(
    caller: Any, kind: str, code: str, message: str, timeout_s: float | None
) -> None:
    outcome = await make_call(assignment(caller, timeout_s=timeout_s))
    assert outcome.failure is not None
    assert (outcome.failure.failure_class.value, outcome.failure.code) == (kind, code)
    assert outcome.failure.message.startswith(message)
    assert outcome.failure.retry_after_s == (7.0 if caller is is_refused else None)
    assert 0 < outcome.started_at <= outcome.ended_at


async def test_a_caller_that_is_not_there() -> None:
    outcome = await make_call(Assignment(make_spec("/out", caller="trax_ray.nowhere:call"), make_task()))
    assert outcome.failure is not None
    assert outcome.failure.message == "ModuleNotFoundError: No module named 'trax_ray.nowhere'"


async def never_answers(given: Assignment) -> Outcome:
    try:
        await asyncio.Event().wait()
    finally:
        closed.append("never_answers")
    raise AssertionError("the event is never set")


async def test_a_call_that_takes_too_long_is_ended() -> None:
    closed.clear()
    outcome = await make_call(assignment(never_answers, timeout_s=0.001))
    assert outcome.failure is not None
    assert (outcome.failure.code, outcome.failure.failure_class) == ("timed_out", FailureClass.TRANSIENT)
    assert outcome.failure.message.startswith("the attempt took longer than 0.001 s")
    assert closed == ["never_answers"]


async def times_out_elsewhere(given: Assignment) -> Outcome:
    raise TimeoutError("the server said nothing")


@pytest.mark.parametrize("timeout_s", [None, 60.0])
async def test_a_time_out_of_somebody_else_is_not_blamed_on_our_limit(timeout_s: float | None) -> None:
    outcome = await make_call(assignment(times_out_elsewhere, timeout_s=timeout_s))
    assert outcome.failure is not None
    assert (outcome.failure.code, outcome.failure.category) == ("connection", Category.NETWORK)
    assert "the server said nothing" in outcome.failure.message


@pytest.mark.parametrize("timeout_s", [None, 60.0])
async def test_a_call_that_is_cancelled_from_outside_has_no_outcome(timeout_s: float | None) -> None:
    closed.clear()
    running = asyncio.create_task(make_call(assignment(never_answers, timeout_s=timeout_s)))
    for _ in range(3):  # until it waits
        await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert closed == ["never_answers"]
