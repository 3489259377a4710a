"""What is shipped for tests is tested like the rest. (`die` and `hang` end or block a process: tests/ray has them.)"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import psutil
import pytest

from trax_ray.core.task import BatchTask, FailureClass, Outcome, ResourceRequest, TaskType
from trax_ray.kinds.assignment import Assignment, Progress
from trax_ray.kinds.run import load, make_attempt
from trax_ray.store.artifacts import ArtifactStore
from trax_ray.store.layout import Layout
from trax_ray.testing import scripted
from trax_ray.testing.clock import FakeClock
from trax_ray.testing.factories import SMALL, make_spec, make_task
from trax_ray.testing.scripted import SCRIPTED, SCRIPTED_CALL, artifact_key, attempts_in, call, logged, run


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
    first, second = logged(log)
    assert first.pid == second.pid == os.getpid()
    assert time.time() - 60 < first.at <= second.at <= time.time()


def test_committing_keeps_what_was_stored_first(tmp_path: Path) -> None:
    task = make_task("a", script=["commit"], bytes=100, metrics={"duration_s": 2.0})
    first, second = (Assignment(make_spec(tmp_path), task, epoch=1, attempt=number) for number in (1, 2))
    *_, outcome = run(first)
    assert outcome == Outcome(
        artifact_key=artifact_key(task, "scripted"), metrics={"duration_s": 2.0, "children": 0, "outputs": ["a.txt"]}
    )
    stored = ArtifactStore(Layout(tmp_path).artifacts).get(outcome.artifact_key)
    assert stored is not None
    assert stored["text"] == (tmp_path / "a.txt").read_text() == f"a 1 1 {os.getpid()}".ljust(100, ".")
    assert [*run(second)][-1] == outcome
    assert (tmp_path / "a.txt").read_text() == stored["text"]
    assert artifact_key(replace(task, fingerprint="2"), "scripted") != outcome.artifact_key


def test_a_list_is_done_in_order_and_keeps_its_outcome(tmp_path: Path) -> None:
    here, on = tmp_path / "here", tmp_path / "on"
    task = make_task(script=[["commit", f"signal:{here}", f"hold:{on}"]])
    words = run(Assignment(make_spec(tmp_path), task))
    assert all(isinstance(next(words), Progress) for _ in range(4)), "it waits, and gives signs of life"
    assert here.read_text() == str(os.getpid())
    assert (tmp_path / "t.txt").exists()
    on.touch()
    *_, outcome = words
    assert isinstance(outcome, Outcome)
    assert outcome.metrics["outputs"] == ["t.txt"]
    failed = attempt(make_task(script=[["transient", f"hold:{on}"]])).failure
    assert failed is not None
    assert failed.code == "scripted_transient"


def test_a_word_that_is_no_step_is_an_error() -> None:
    with pytest.raises(ValueError, match="no step of a script: 'comit'"):
        attempt(make_task(script=["comit"]))


async def test_the_same_scripts_in_a_shared_process(tmp_path: Path) -> None:
    assert load(SCRIPTED_CALL) is call
    spec, on = make_spec(tmp_path), tmp_path / "on"
    holding = asyncio.create_task(
        call(Assignment(spec, make_task("a", script=[[f"hold:{on}", "commit"]], sleep_s=0.01)))
    )
    failed = await call(Assignment(spec, make_task("b", script=["permanent"])))
    assert failed.failure is not None
    assert not holding.done()
    on.touch()
    assert (await holding).metrics["outputs"] == ["a.txt"]
    with pytest.raises(LookupError, match="nobody expected this"):
        await call(Assignment(spec, make_task("c", script=["raise"])))


def test_a_hog_takes_memory_and_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripted, "HOG_PERIOD_S", 0.0)
    before = psutil.Process().memory_info().rss
    words = run(Assignment(make_spec("/out"), make_task(script=["hog"], most_mb=150)))
    signs = list(islice(words, 5))
    assert all(isinstance(sign, Progress) for sign in signs)
    assert 190e6 < psutil.Process().memory_info().rss - before < 290e6, "two blocks of 100 MB, and no third one"


def test_a_segmentation_fault_is_a_real_one() -> None:
    program = (
        "from trax_ray.testing.factories import make_spec, make_task\n"
        "from trax_ray.testing.scripted import run\n"
        "from trax_ray.kinds.assignment import Assignment\n"
        "list(run(Assignment(make_spec('/out'), make_task(script=['segfault']))))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60)
    assert done.returncode == -signal.SIGSEGV


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
