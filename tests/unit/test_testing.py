"""What is shipped for tests is tested like the rest. (`die` and `hang` end or block a process: tests/ray has them.)"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from trax_ray.core.task import BatchTask, FailureClass, Outcome, ResourceRequest, TaskType
from trax_ray.tasks.assignment import Assignment, Progress
from trax_ray.tasks.run import load, make_attempt
from trax_ray.testing.clock import FakeClock
from trax_ray.testing.factories import SMALL, make_spec, make_task
from trax_ray.testing.scripted import SCRIPTED, attempts_in, run


def attempt(task: BatchTask, number: int = 1, children: dict[str, str] | None = None) -> Outcome:
    """The outcome of an attempt, after its signs of life."""
    *signs, outcome = run(Assignment(make_spec("/out"), task, epoch=3, attempt=number, children=children or {}))
    assert signs
    assert all(isinstance(sign, Progress) for sign in signs)
    assert isinstance(outcome, Outcome)
    return outcome


def test_a_fake_clock_moves_when_told_and_never_back() -> None:
    clock = FakeClock(10.0)
    assert (clock(), clock(), clock.now) == (10.0, 10.0, 10.0)
    assert clock.advance(2.5) == 12.5
    assert clock.advance(0.0) == 12.5
    assert clock() == 12.5
    with pytest.raises(ValueError, match=r"time runs forward, got -1 s"):
        clock.advance(-1)


def test_making_tasks() -> None:
    assert make_task() == BatchTask("t", TaskType.TRANSCRIBE, resources=SMALL, provider="scripted")
    task = make_task("x", TaskType.ENHANCE, script=["ok"], priority=4, data={"log": "l"}, provider="p")
    assert task.data == {"script": ["ok"], "log": "l"}
    assert (task.id, task.task_type, task.priority, task.provider) == ("x", TaskType.ENHANCE, 4, "p")
    assert make_task(resources=ResourceRequest(2.0)).resources.num_cpus == 2.0


def test_making_specs() -> None:
    spec = make_spec(Path("/out"))
    assert (spec.output_dir, spec.runner, spec.model) == ("/out", SCRIPTED, "scripted")
    assert spec.retry.cap_s < 0.1
    assert make_spec("/out", runner="a:b").runner == "a:b"
    assert load(SCRIPTED) is run


def test_a_script_has_a_step_for_each_attempt_and_the_last_one_stays() -> None:
    task = make_task(script=["transient", "ok"])
    first = attempt(task, 1).failure
    assert first is not None
    assert (first.failure_class, first.code) == (FailureClass.TRANSIENT, "scripted_transient")
    assert attempt(task, 2).failure is None
    assert attempt(task, 9).failure is None
    assert attempt(make_task()).failure is None


@pytest.mark.parametrize("kind", list(FailureClass))
def test_scripted_failures(kind: FailureClass) -> None:
    failure = attempt(make_task(script=[kind.value], retry_after_s=7.0)).failure
    assert failure is not None
    assert failure.failure_class is kind
    assert failure.retry_after_s == 7.0
    assert failure.code == ("out_of_memory" if kind is FailureClass.RESOURCE else f"scripted_{kind.value}")


def test_success_has_a_key_and_the_metrics_that_were_asked_for() -> None:
    outcome = attempt(make_task("a", metrics={"duration_s": 2.0}))
    assert outcome.artifact_key == "key-a"
    assert outcome.metrics == {"duration_s": 2.0, "children": 0}


def test_expanding_and_then_assembling() -> None:
    task = make_task("p", script=["expand:2"], child_script=["permanent"], log="/l", file_id="f", priority=3)
    outcome = attempt(task)
    assert outcome.failure is None
    assert [child.id for child in outcome.children] == ["p/0", "p/1"]
    for number, child in enumerate(outcome.children):
        assert (child.parent, child.chunk, child.file_id, child.priority) == ("p", number, "f", 3)
        assert child.data == {"script": ["permanent"], "log": "/l"}
    again = attempt(task, 2, {"p/0": "k0", "p/1": "k1"})
    assert not again.children
    assert again.metrics["children"] == 2


def test_the_log_tells_which_attempts_were_made(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert attempts_in(log) == []
    task = make_task("a", script=["raise"], log=str(log))
    with pytest.raises(LookupError, match="nobody expected this"):
        attempt(task, 1)
    attempt(make_task("b", log=str(log)), 2)
    assert attempts_in(log) == [("a", 3, 1), ("b", 3, 2)]


def test_an_attempt_that_raises_has_an_outcome_all_the_same() -> None:
    *_, outcome = make_attempt(Assignment(make_spec("/out"), make_task(script=["raise"])))
    assert isinstance(outcome, Outcome)
    assert outcome.failure is not None
    assert (outcome.failure.failure_class, outcome.failure.code) == (FailureClass.UNKNOWN, "unexpected")
    assert outcome.failure.message == "LookupError: nobody expected this"
    assert outcome.pid > 0
    assert outcome.node
    assert outcome.memory_peak_mb > 1
    assert 0 < outcome.started_at <= outcome.ended_at


def silent(assignment: Assignment) -> Iterator[Progress | Outcome]:
    """A runner that never comes to an outcome."""
    yield Progress(0.5)


@pytest.mark.parametrize(
    ("runner", "signs", "message"),
    [
        (f"{__name__}:silent", 1, f"RuntimeError: {__name__}:silent ended without an outcome"),
        ("trax_ray.nowhere:run", 0, "ModuleNotFoundError: No module named 'trax_ray.nowhere'"),
    ],
)
def test_a_runner_without_an_outcome_and_one_that_is_not_there(runner: str, signs: int, message: str) -> None:
    *progress, outcome = make_attempt(Assignment(make_spec("/out", runner=runner), make_task()))
    assert progress == [Progress(0.5)] * signs
    assert isinstance(outcome, Outcome)
    assert outcome.failure is not None
    assert (outcome.failure.code, outcome.failure.message) == ("unexpected", message)
