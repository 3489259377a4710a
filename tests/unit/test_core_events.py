"""Events become journal records and come back the same."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trax_ray.core.spec import BatchSpec
from trax_ray.core.state import events
from trax_ray.core.state.events import (
    AttemptEnded,
    CoordinatorStarted,
    Draining,
    Event,
    Expanded,
    InputsClosed,
    Known,
    Paused,
    Preempted,
    Resumed,
    RetryFailed,
    Revived,
    Scaled,
    Started,
    Stopped,
    TasksAdded,
    decode_event,
    decode_outcome,
    decode_task,
    encode,
    encode_event,
)
from trax_ray.core.task import BatchTask, Category, Failure, FailureClass, Outcome, ResourceRequest, TaskType

quick = settings(max_examples=50, deadline=None)

# Names of files are bytes: those that aren't UTF-8 come as lone surrogates.
names = st.text(max_size=8) | st.binary(max_size=8).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
figures = st.floats(allow_nan=False).map(lambda figure: figure + 0.0)  # -0.0 equals a default and may become 0.0
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | figures | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=5,
)
json_objects = st.dictionaries(names, json_values, max_size=3)
resources = st.builds(ResourceRequest, st.floats(0, 64), st.integers(1, 9999), st.floats(0, 8))
tasks = st.builds(
    BatchTask,
    id=names.filter(bool),
    task_type=st.sampled_from(TaskType),
    data=json_objects,
    priority=st.integers(0, 99),
    max_retries=st.integers(0, 9),
    depends_on=st.lists(names, max_size=2).map(tuple),
    file_id=names,
    parent=names,
    chunk=st.none() | st.integers(0, 9),
    provider=names,
    resources=resources,
    shared=st.booleans(),
    fingerprint=names,
)
failures = st.builds(
    Failure,
    st.sampled_from(FailureClass),
    st.sampled_from(Category),
    names,
    names,
    st.none() | st.floats(0, 1e6),
    names,
)
outcomes = st.builds(
    Outcome,
    failure=st.none() | failures,
    artifact_key=names,
    metrics=json_objects,
    children=st.lists(tasks, max_size=2).map(tuple),
    node=names,
    pid=st.integers(0, 99_999),
    started_at=figures,
    ended_at=figures,
    memory_peak_mb=figures,
)
some_tasks = st.lists(tasks, max_size=2).map(tuple)
numbers = st.integers(0, 99)
all_events: dict[type[Any], st.SearchStrategy[Any]] = {
    CoordinatorStarted: st.builds(
        CoordinatorStarted, numbers, st.builds(BatchSpec, names.filter(bool)).map(BatchSpec.to_dict), numbers, names
    ),
    TasksAdded: st.builds(TasksAdded, some_tasks),
    Revived: st.builds(Revived, some_tasks),
    Known: st.builds(Known, st.lists(names, max_size=3).map(tuple)),
    InputsClosed: st.builds(InputsClosed),
    Started: st.builds(Started, st.lists(st.tuples(names, numbers), max_size=3).map(tuple)),
    AttemptEnded: st.builds(AttemptEnded, names, numbers, numbers, outcomes, st.floats(0, 1, exclude_max=True)),
    Expanded: st.builds(Expanded, names, numbers, numbers, outcomes),
    Preempted: st.builds(Preempted, names, numbers, numbers, names),
    Scaled: st.builds(Scaled, numbers, names),
    Paused: st.builds(Paused, names),
    Resumed: st.builds(Resumed, names),
    RetryFailed: st.builds(RetryFailed, names),
    Draining: st.builds(Draining, names),
    Stopped: st.builds(Stopped, names, names),
}


def through_json(value: Any) -> Any:
    """As the journal does it: one line of ASCII or of UTF-8, either must hold any name."""
    return json.loads(json.dumps(value).encode("ascii"))


def exact(value: Any) -> str:
    """What tells 1 from 1.0 and from True, which are equal."""
    return repr(value)


def test_there_is_a_strategy_for_every_event() -> None:
    assert set(all_events) == set(get_args(Event)) == set(events._EVENTS.values())


@quick
@given(task=tasks)
def test_tasks_survive(task: BatchTask) -> None:
    back = decode_task(through_json(encode(task)))
    assert back == task
    assert exact(back) == exact(task)


@quick
@given(outcome=outcomes)
def test_outcomes_survive(outcome: Outcome) -> None:
    back = decode_outcome(through_json(encode(outcome)))
    assert back == outcome
    assert exact(back) == exact(outcome)
    assert isinstance(back.children, tuple)


@pytest.mark.parametrize("kind", list(all_events), ids=lambda kind: kind.__name__)
def test_events_survive_with_their_time(kind: type[Any]) -> None:
    @settings(max_examples=20, deadline=None)
    @given(event=all_events[kind], at=figures)
    def check(event: Event, at: float) -> None:
        back, back_at = decode_event(through_json(encode_event(event, at)))
        assert back == event
        assert exact(back) == exact(event)
        assert back_at == at

    check()


def test_what_a_record_looks_like() -> None:
    task = BatchTask("t", TaskType.DOWNLOAD, {"url": "http://x"})
    assert encode_event(TasksAdded((task,)), 5.0) == {
        "event": "TasksAdded",
        "at": 5.0,
        "tasks": [{"id": "t", "task_type": "download", "data": {"url": "http://x"}, "file_id": "t"}],
    }
    ended = AttemptEnded("t", 1, 2, Outcome(artifact_key="k"))
    assert encode_event(ended, 6.0) == {
        "event": "AttemptEnded",
        "at": 6.0,
        "task_id": "t",
        "epoch": 1,
        "attempt": 2,
        "outcome": {"artifact_key": "k"},
    }
    assert encode_event(Paused(), 7.0) == {"event": "Paused", "at": 7.0}
    assert encode_event(Stopped(request="r"), 8.0) == {"event": "Stopped", "at": 8.0, "request": "r"}
    assert encode_event(Scaled(2, ""), 9.0) == {"event": "Scaled", "at": 9.0, "slots": 2, "reason": ""}


@pytest.mark.parametrize("kind", [Paused, Resumed, RetryFailed, Stopped])
def test_events_that_were_written_before_there_were_requests_can_be_read(kind: type[Any]) -> None:
    assert decode_event({"event": kind.__name__, "at": 1.0}) == (kind(), 1.0)


def test_defaults_are_left_out_but_nothing_that_only_looks_like_one() -> None:
    failure = Failure(FailureClass.TRANSIENT, Category.NETWORK, "c", "m", retry_after_s=0.0)
    assert encode(failure)["retry_after_s"] == 0.0
    assert encode(BatchTask("t", TaskType.DOWNLOAD, chunk=0))["chunk"] == 0
    assert encode(Outcome()) == {}
    required = {entry.name for entry in fields(Failure)} - {"retry_after_s", "parks"}
    assert set(encode(Failure(FailureClass.TRANSIENT, Category.NETWORK, "", ""))) == required


def test_a_record_of_another_version_is_refused() -> None:
    with pytest.raises(KeyError, match="Levitated"):
        decode_event({"event": "Levitated", "at": 1.0})


@pytest.mark.parametrize(
    ("written", "kind", "asks"),
    [
        ({"parent": "p", "chunk": 0, "shared": True}, "request", True),
        ({"parent": "p", "chunk": 3}, "chunk", False),
        ({"shared": True}, "transcribe", True),
        ({}, "transcribe", False),
    ],
)
def test_tasks_of_version_0_1_are_of_the_kind_that_they_were(written: dict[str, Any], kind: str, asks: bool) -> None:
    task = decode_task({"id": "t", "task_type": "transcribe", **written})
    assert (task.kind, task.asks_provider) == (kind, asks)
    assert decode_task(through_json(encode(task))) == task
