"""A look at all tasks of a run: kinds, what is still to do, failures, and the range of the time still to go."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from trax_ray.core.policy.prediction import Experience, Observation
from trax_ray.core.spec import BatchSpec
from trax_ray.core.standing import Expected, fold, with_survey
from trax_ray.core.state.events import AttemptEnded, CoordinatorStarted, Expanded, Paused, Started, TasksAdded
from trax_ray.core.state.machine import BatchState
from trax_ray.core.survey import Lengths, ahead_of, observation_of, survey
from trax_ray.core.task import BatchTask, Category, Failure, FailureClass, Outcome, TaskType

SPEC = BatchSpec("/out", model="base")
LENGTHS = Lengths("base", 600.0, lambda model: model == "served", lambda task: task.data.get("audio_s"))
BROKEN = Failure(FailureClass.PERMANENT, Category.PROCESSING, "not_decodable", "no audio")


def recording(name: str, audio_s: float | None = 60.0, **more: Any) -> BatchTask:
    data = {"file_path": f"/in/{name}", "name": name, "size_bytes": 1000, "audio_s": audio_s, **more}
    return BatchTask(id=name, task_type=TaskType.TRANSCRIBE, data=data)


def part(parent: str, number: int, start_s: float, end_s: float) -> BatchTask:
    return BatchTask(
        id=f"{parent}/{number}",
        task_type=TaskType.TRANSCRIBE,
        data={"name": parent, "start_s": start_s, "end_s": end_s},
        parent=parent,
        chunk=number,
        kind="chunk",
    )


def begun(*tasks: BatchTask, run: str = "a") -> BatchState:
    state = BatchState()
    state.handle(CoordinatorStarted(1, SPEC.to_dict(), 4096, run), 100.0)
    state.handle(TasksAdded(tasks), 100.0)
    return state


def test_what_is_to_do_by_kind_and_what_runs_counts_in_part() -> None:
    state = begun(recording("a", 60.0), recording("b", 1500.0), recording("c", 30.0), recording("d", missing=True))
    state.handle(Started((("a", 1), ("b", 1))), 101.0)
    state.handle(Expanded("b", 1, 1, Outcome(children=(part("b", 0, 0.0, 600.0), part("b", 1, 600.0, 1500.0)))), 102.0)
    state.handle(Started((("b/0", 1),)), 103.0)
    found = survey(state, {"a": 0.5, "b/0": 0.25}, LENGTHS)
    work = {kind: (each.count, each.audio_s) for (kind, _), each in found.ahead.work.items()}
    assert work == {"transcribe": (2, 60.0), "chunk": (2, 1350.0)}
    assert found.kinds["transcribe"] == {"total": 4, "ended": 0, "failed": 0, "running": 1}
    assert found.kinds["chunk"] == {"total": 2, "ended": 0, "failed": 0, "running": 1}


def test_failures_are_told_newest_first_and_those_of_earlier_runs_are_not() -> None:
    names = ["a", "b", "c", "d"]
    state = begun(*(recording(name) for name in names))
    for at, name in enumerate(names):
        state.handle(Started(((name, 1),)), 101.0 + at)
        state.handle(AttemptEnded(name, 1, 1, Outcome(failure=BROKEN), 0.0), 101.5 + at)
    found = survey(state, {}, LENGTHS)
    assert [each["name"] for each in found.failures] == ["d", "c", "b"]
    assert found.failures[0]["code"] == "not_decodable"
    state.handle(CoordinatorStarted(2, SPEC.to_dict(), 4096, "another"), 200.0)
    assert survey(state, {}, LENGTHS).kinds == {}


def known(seconds: float = 6.0) -> Experience:
    return Experience((Observation("transcribe", "base", "here", 60.0, seconds),))


def test_the_range_is_there_before_anything_has_ended() -> None:
    state = begun(*(recording(str(number)) for number in range(10)))
    progress = fold(state, 100.5, {})
    assert progress.estimated_remaining_s is None
    told = with_survey(progress, state, survey(state, {}, LENGTHS), known(), workers=2)
    assert told.estimated_remaining_s == pytest.approx(30.0)
    assert told.remaining_low_s is not None
    assert told.remaining_high_s is not None
    assert told.remaining_low_s < 30.0 < told.remaining_high_s
    assert with_survey(progress, state, survey(state, {}, LENGTHS), Experience(), workers=2).remaining_low_s is None


def test_what_has_not_reached_the_queue_counts_too() -> None:
    state = begun(*(recording(str(number)) for number in range(10)))
    expected = Expected(20, 20_000.0)
    progress = fold(state, 100.5, {}, expected=expected)
    told = with_survey(progress, state, survey(state, {}, LENGTHS), known(), workers=2, expected=expected)
    assert told.estimated_remaining_s == pytest.approx(60.0)


def test_the_speed_so_far_counts_the_more_the_more_is_done() -> None:
    state = begun(*(recording(str(number)) for number in range(10)))
    for number in range(5):
        state.handle(Started(((str(number), 1),)), 100.0 + 20 * number)
        state.handle(AttemptEnded(str(number), 1, 1, Outcome(), 0.0), 120.0 + 20 * number)
    progress = fold(state, 200.0, {})
    assert progress.estimated_remaining_s == pytest.approx(100.0)
    told = with_survey(progress, state, survey(state, {}, LENGTHS), known(), workers=1)
    assert told.estimated_remaining_s == pytest.approx((30.0 + 100.0) / 2)


def test_what_waits_for_a_person_has_no_range() -> None:
    state = begun(recording("a"))
    state.handle(Paused(), 101.0)
    told = with_survey(fold(state, 102.0, {}), state, survey(state, {}, LENGTHS), known(), workers=1)
    assert told.remaining_low_s is None
    assert told.kinds["transcribe"]["total"] == 1


def test_an_attempt_says_how_long_such_attempts_take() -> None:
    done = Outcome(metrics={"duration_s": 60.0, "processing_s": 3.0}, ended_at=10.0, memory_peak_mb=500.0)

    def of(outcome: Outcome, *, joins: bool = False, seconds: float = 3.2) -> Observation | None:
        return observation_of(recording("a"), outcome, LENGTHS, joins=joins, seconds=seconds, machine="here", run="r")

    assert of(done) == Observation("transcribe", "base", "here", 60.0, 3.2, 500.0, 10.0, "r")
    cut = of(Outcome(children=(part("a", 0, 0.0, 600.0), part("a", 1, 600.0, 900.0))))
    assert cut is not None
    assert (cut.kind, cut.audio_s) == ("cut", 900.0)
    assert of(done, joins=True) is None
    assert of(replace(done, failure=BROKEN)) is None
    assert of(replace(done, metrics={**done.metrics, "cached": True})) is None
    assert of(done, seconds=0.4) is None, "it found its result made"
    assert of(replace(done, metrics={})) is None


def test_planned_tasks_come_to_what_they_will() -> None:
    tasks = [recording("a", 1500.0), recording("b", 90.0, model="served"), recording("c", None)]
    ahead = ahead_of(tasks, LENGTHS)
    assert ahead.counts == {"cut": 2, "chunk": 3, "request": 1}
    assert ahead.unknown == 1
