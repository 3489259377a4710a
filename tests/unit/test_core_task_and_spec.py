"""Tasks and specs: what they accept, what they say when they don't, and JSON out and in."""

from __future__ import annotations

import json
import pickle
from dataclasses import FrozenInstanceError, asdict, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trax_ray.core.spec import (
    DEFAULT_CPU_LIMIT_PERCENT,
    DEFAULT_MEMORY_LIMIT_MB,
    DEFAULT_PROGRESS_INTERVAL,
    DEFAULT_QUEUE_SIZE,
    DEFAULT_WORKERS,
    OUTPUT_FORMATS,
    BatchSpec,
    Limits,
    RetryPolicy,
)
from trax_ray.core.task import BatchTask, Category, Failure, FailureClass, Outcome, ResourceRequest, TaskState, TaskType
from trax_ray.errors import DiskFull, NetworkError, UsageError

quick = settings(max_examples=100, deadline=None)


# Tasks


def test_the_founding_constructor_of_a_task() -> None:
    task = BatchTask(
        id="test_task", task_type=TaskType.TRANSCRIBE, data={"file_path": "test.mp3"}, priority=1, max_retries=3
    )
    assert (task.id, task.task_type, task.priority, task.max_retries) == ("test_task", TaskType.TRANSCRIBE, 1, 3)
    assert task.data == {"file_path": "test.mp3"}
    assert (task.depends_on, task.file_id, task.parent, task.chunk) == ((), "test_task", "", None)
    assert not task.shared


def test_the_five_kinds() -> None:
    assert [kind.value for kind in TaskType] == ["transcribe", "enhance", "youtube", "download", "preprocess"]


def test_a_task_takes_kinds_by_name_and_lists_and_can_not_be_changed() -> None:
    task = BatchTask("t", "enhance", depends_on=["a"], file_id="f")  # type: ignore[arg-type]
    assert task.task_type is TaskType.ENHANCE
    assert task.depends_on == ("a",)
    assert task.file_id == "f"
    with pytest.raises(FrozenInstanceError):
        task.priority = 3  # type: ignore[misc]
    assert BatchTask("t", TaskType.ENHANCE).data is not BatchTask("t", TaskType.ENHANCE).data


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": ""}, "a task needs an id"),
        ({"priority": -1}, r"expected a priority of 0 or more, got -1 \(task t\)"),
        ({"max_retries": -2}, r"expected max_retries of 0 or more, got -2 \(task t\)"),
    ],
)
def test_what_a_task_refuses(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        BatchTask(**({"id": "t", "task_type": TaskType.DOWNLOAD} | changes))


@quick
@given(memory_mb=st.integers(1, 100_000))
def test_memory_is_rounded_up_to_steps(memory_mb: int) -> None:
    rounded = ResourceRequest(memory_mb=memory_mb).memory_mb
    assert rounded % 256 == 0
    assert memory_mb <= rounded < memory_mb + 256


@pytest.mark.parametrize("fields", [{"memory_mb": 0}, {"memory_mb": -1}, {"num_cpus": -0.1}, {"num_gpus": -1}])
def test_what_a_request_refuses(fields: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="can't be negative or without memory"):
        ResourceRequest(**fields)


def test_more_memory_changes_nothing_else() -> None:
    task = BatchTask("t", TaskType.DOWNLOAD, resources=ResourceRequest(0.5, 256, 1.0))
    assert task.with_memory(500) == replace(task, resources=ResourceRequest(0.5, 512, 1.0))


def test_terminal_states() -> None:
    assert {state for state in TaskState if state.terminal} == {
        TaskState.SUCCEEDED,
        TaskState.FAILED,
        TaskState.CANCELLED,
    }


def test_a_failure_of_one_of_our_errors() -> None:
    error = NetworkError("no answer", code="timeout", retry_after_s=2.5)
    assert Failure.of(error) == Failure(FailureClass.TRANSIENT, Category.NETWORK, "timeout", "no answer", 2.5, "")
    assert Failure.of(DiskFull("full"), parks="*") == Failure(
        FailureClass.CONFIG, Category.RESOURCE, "disk_full", "full", None, "*"
    )


def test_tasks_and_outcomes_cross_process_borders() -> None:
    task = BatchTask("t", TaskType.DOWNLOAD, {"url": "http://x"}, depends_on=("a",))
    outcome = Outcome(failure=Failure.of(NetworkError("gone")), children=(task,), metrics={"a": [1]})
    assert pickle.loads(pickle.dumps(task)) == task
    assert pickle.loads(pickle.dumps(outcome)) == outcome


# Specs


def test_the_founding_defaults() -> None:
    assert DEFAULT_WORKERS == 8
    assert DEFAULT_QUEUE_SIZE == 1000
    assert DEFAULT_PROGRESS_INTERVAL == 5.0
    assert DEFAULT_MEMORY_LIMIT_MB == 2048
    assert DEFAULT_CPU_LIMIT_PERCENT == 90
    spec = BatchSpec("/out/talks/")
    assert spec.limits == Limits(8, 1000, 2048, 90)
    assert (spec.progress_interval_s, spec.chunk_size_s, spec.formats) == (5.0, 600, OUTPUT_FORMATS)
    assert spec.retry.max_retries == 3
    assert spec.name == "talks"
    assert BatchSpec("/").name == "batch"
    assert BatchSpec("/out", name="mine").name == "mine"


@pytest.mark.parametrize(
    ("make", "names", "got"),
    [
        (lambda: BatchSpec(""), "output folder", ""),
        (lambda: BatchSpec("/o", chunk_size_s=9), "chunk size", "9"),
        (lambda: BatchSpec("/o", progress_interval_s=0), "progress interval", "0"),
        (lambda: BatchSpec("/o", stall_timeout_s=0), "stall time-out", "0"),
        (lambda: BatchSpec("/o", report_interval_s=-1), "report interval", "-1"),
        (lambda: BatchSpec("/o", formats=("txt", "doc", "pdf")), "txt, srt, vtt, tsv, json", "doc, pdf"),
        (lambda: BatchSpec("/o", formats=()), "formats", "none"),
        (lambda: Limits(max_workers=0), "worker", "0"),
        (lambda: Limits(queue_size=0), "queue size", "0"),
        (lambda: Limits(memory_limit_mb=0), "memory limit", "0"),
        (lambda: Limits(cpu_limit_percent=0), "cpu limit", "0"),
        (lambda: Limits(cpu_limit_percent=100.5), "cpu limit", "100.5"),
        (lambda: Limits(cpu_limit_percent=float("nan")), "cpu limit", "nan"),
        (lambda: RetryPolicy(max_retries=-1), "max retries", "-1"),
        (lambda: RetryPolicy(base_s=2, cap_s=1), "base s <= cap s", "2, 1"),
        (lambda: RetryPolicy(base_s=-1), "base s <= cap s", "-1, 60.0"),
        (lambda: RetryPolicy(base_s=float("nan")), "base s <= cap s", "nan, 60.0"),
        (lambda: RetryPolicy(priority_step=-1), "priority step", "-1"),
        (lambda: RetryPolicy(aging_s=0), "aging s", "0"),
        (lambda: RetryPolicy(max_deaths=0), "max deaths", "0"),
        (lambda: RetryPolicy(max_losses=-1), "max losses", "-1"),
        (lambda: RetryPolicy(memory_factor=1), "memory factor", "1"),
        (lambda: BatchSpec("/o", progress_interval_s=float("nan")), "progress interval", "nan"),
        (lambda: BatchSpec("/o", task_timeout_s=0), "--task-timeout", "0"),
        (lambda: BatchSpec("/o", task_timeout_s=float("nan")), "--task-timeout", "nan"),
        (lambda: BatchSpec("/o", grace_s=-1), "grace period", "-1"),
        (lambda: BatchSpec("/o", start_at=-1), "start at", "-1"),
        (lambda: BatchSpec("/o", priority=-1), "--priority", "-1"),
        (lambda: BatchSpec("/o", batch_priority=-1), "--batch-priority", "-1"),
        (lambda: BatchSpec("/o", start_at=float("inf")), "start at", "inf"),
        (lambda: BatchSpec("/o", only_between="night"), "--only-between", "'night'"),
    ],
)
def test_what_specs_refuse_and_that_they_name_it_and_what_they_got(make: Any, names: str, got: str) -> None:
    with pytest.raises(UsageError) as caught:
        make()
    message = caught.value.message.lower().replace("_", " ")
    assert names in message
    assert message.endswith(f", got {got}" if got else "")
    assert "expected" in message or not got


def test_edges_that_are_allowed() -> None:
    Limits(max_workers=1, queue_size=1, memory_limit_mb=1, cpu_limit_percent=100)
    RetryPolicy(max_retries=0, base_s=0, cap_s=0, priority_step=0, max_deaths=1, max_losses=0)
    assert BatchSpec("/o", chunk_size_s=10, formats=("json", "txt", "json")).formats == ("json", "txt")


specs = st.builds(
    BatchSpec,
    output_dir=st.text(min_size=1),
    name=st.text(),
    model=st.text(),
    language=st.none() | st.text(),
    chunk_size_s=st.integers(10, 9999),
    formats=st.lists(st.sampled_from(OUTPUT_FORMATS), min_size=1).map(tuple),
    initial_prompt=st.none() | st.text(),
    word_timestamps=st.booleans(),
    stall_timeout_s=st.floats(0.1, 1e6),
    limits=st.builds(Limits, max_workers=st.integers(1, 999), cpu_limit_percent=st.floats(1, 100)),
    retry=st.builds(
        RetryPolicy, max_retries=st.integers(0, 9), aging_s=st.floats(0.1, 1e6), max_losses=st.integers(0, 99)
    ),
    runner=st.text(min_size=1),
    caller=st.text(min_size=1),
    task_timeout_s=st.none() | st.floats(0.1, 1e6),
    grace_s=st.none() | st.floats(0, 1e3),
    start_at=st.floats(0, 1e10),
    only_between=st.sampled_from(["", "22:00-06:00"]),
    preprocess=st.booleans(),
    keep_audio=st.booleans(),
    batch_priority=st.integers(0, 99),
)


@quick
@given(spec=specs)
def test_specs_survive_json(spec: BatchSpec) -> None:
    assert BatchSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def test_a_spec_has_everything_in_its_dict() -> None:
    spec = BatchSpec("/o", limits=Limits(max_workers=3))
    as_lists = {"formats": list(OUTPUT_FORMATS), "enhance": asdict(spec.enhance) | {"peak_hours": []}}
    assert spec.to_dict() == asdict(spec) | as_lists
    assert spec.to_dict()["limits"]["max_workers"] == 3


def test_a_later_versions_keys_are_left_out_and_an_earlier_ones_gaps_are_filled() -> None:
    written = BatchSpec("/o", model="m").to_dict()
    written["flux"] = 1
    written["limits"]["flux"] = 2
    written["retry"]["flux"] = 3
    assert BatchSpec.from_dict(written) == BatchSpec("/o", model="m")
    assert BatchSpec.from_dict({"output_dir": "/o"}) == BatchSpec("/o")
