"""What a person sees of a batch while it runs and when it has ended."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_core_machine import Batch, child, failure

from trax_ray import BatchProgress as PublicProgress
from trax_ray import BatchResult as PublicResult
from trax_ray.core.limits.signals import ProviderSignal, SignalKind
from trax_ray.core.progress import BatchProgress, Phase, format_duration, format_progress
from trax_ray.core.standing import Expected, estimate_remaining_s, failures_of, fold
from trax_ray.core.state.events import Draining, InputsClosed, Paused, Resumed, Scaled, Stopped
from trax_ray.core.task import Outcome, TaskType
from trax_ray.report.result import BatchResult, result_of
from trax_ray.testing.factories import make_task

quick = settings(max_examples=200, deadline=None)


# The founding constructors


def test_the_founding_progress() -> None:
    progress = BatchProgress(total_tasks=100)
    assert (progress.total_tasks, progress.completed_tasks, progress.failed_tasks) == (100, 0, 0)
    assert (progress.success_rate, progress.failure_rate, progress.active_workers) == (0.0, 0.0, 0)
    assert PublicProgress is BatchProgress


def test_the_founding_result() -> None:
    result = BatchResult(
        success_count=8,
        failure_count=2,
        total_count=10,
        processing_time=120.5,
        memory_peak_mb=512.0,
        cpu_peak_percent=75.0,
        quality_metrics={"avg_accuracy": 95.5},
    )
    assert result.success_rate == 80.0
    assert (result.success_count, result.failure_count, result.cancelled_count, result.total_count) == (8, 2, 0, 10)
    assert (result.processing_time, result.memory_peak_mb, result.cpu_peak_percent) == (120.5, 512.0, 75.0)
    assert (result.quality_metrics, result.failures, result.reason) == ({"avg_accuracy": 95.5}, (), "complete")
    assert PublicResult is BatchResult


def test_rates() -> None:
    progress = BatchProgress(total_tasks=8, completed_tasks=3, failed_tasks=1)
    assert (progress.success_rate, progress.failure_rate) == (37.5, 12.5)
    assert (BatchProgress().success_rate, BatchProgress().failure_rate, BatchResult().success_rate) == (0, 0, 0)
    assert BatchProgress().estimated_remaining_s is None


# The line


def test_the_founding_line() -> None:
    progress = BatchProgress(
        total_tasks=100,
        completed_tasks=45,
        failed_tasks=2,
        active_workers=8,
        memory_usage_mb=512.3,
        cpu_usage_percent=75.2,
        estimated_remaining_s=190.0,
    )
    line = "Progress: 45/100 (45.0% success) | Active: 8 | Failed: 2 | Memory: 512.3MB | CPU: 75.2% | ETA: 3m10s"
    assert format_progress(progress) == line
    assert str(progress) == line


def test_the_line_of_nothing_and_of_an_unknown_end() -> None:
    line = "Progress: 0/0 (0.0% success) | Active: 0 | Failed: 0 | Memory: 0.0MB | CPU: 0.0% | ETA: --"
    assert str(BatchProgress()) == line


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (-5, "0s"),
        (0.4, "0s"),
        (0.6, "1s"),
        (42, "42s"),
        (59.4, "59s"),
        (59.6, "1m00s"),
        (60, "1m00s"),
        (61, "1m01s"),
        (190, "3m10s"),
        (3599, "59m59s"),
        (3599.6, "1h00m"),
        (3600, "1h00m"),
        (7500, "2h05m"),
        (86_340, "23h59m"),
        (86_369, "23h59m"),
        (86_399, "1d00h"),
        (86_400, "1d00h"),
        (273_600, "3d04h"),
        (8_640_000, "100d00h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@quick
@given(seconds=st.floats(0, 1e9))
def test_a_duration_says_what_it_was_to_half_its_smaller_unit(seconds: float) -> None:
    text = format_duration(seconds)
    units = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
    parts = re.findall(r"(\d+)([smhd])", text)
    assert "".join(number + unit for number, unit in parts) == text
    assert 1 <= len(parts) <= 2
    said = sum(int(number) * units[unit] for number, unit in parts)
    assert abs(said - seconds) <= units[parts[-1][1]] / 2 + 0.5
    for (_, larger), (number, smaller) in pairwise(parts):
        assert int(number) < units[larger] / units[smaller]


# The estimate


def test_the_estimate() -> None:
    assert estimate_remaining_s(10, 30, 5.0) == 15.0
    assert estimate_remaining_s(10, 0, 5.0) == 0.0
    assert estimate_remaining_s(0, 0, 0.0) == 0.0
    assert estimate_remaining_s(0, 30, 5.0) is None
    assert estimate_remaining_s(-1, 30, 5.0) is None
    assert estimate_remaining_s(10, 30, 0.0) is None


# Folded from a batch


def test_a_batch_is_counted_in_inputs_not_in_chunks_or_steps() -> None:
    batch = Batch()
    batch.add(
        make_task("dl", file_id="f1"),
        make_task("tr", file_id="f1", depends_on=("dl",)),
        make_task("long", file_id="f2"),
        make_task("bad", file_id="f3"),
        make_task("idle", file_id="f4"),
    )
    download, long, bad = batch.start(3)
    progress = fold(batch.state, batch.clock(), {"dl": 0.0, "long": 0.0, "bad": 0.0})
    assert (progress.total_tasks, progress.active_workers, progress.queued_tasks) == (4, 3, 1)
    batch.end(download)
    batch.end(bad, failure("permanent"))
    batch.expand(long, [child(long.task, number) for number in range(5)])
    progress = fold(batch.state, batch.clock(), {})
    assert (progress.total_tasks, progress.completed_tasks, progress.failed_tasks) == (4, 0, 1)
    assert (progress.queued_tasks, progress.failure_rate) == (3, 25.0)
    assert [told["file_id"] for told in failures_of(batch.state)] == ["f3"]
    batch.end(batch.start()[0])
    assert fold(batch.state, batch.clock(), {}).completed_tasks == 1
    batch.do(Stopped())
    progress = fold(batch.state, batch.clock(), {})
    assert (progress.completed_tasks, progress.failed_tasks, progress.cancelled_tasks) == (1, 1, 2)
    assert progress.queued_tasks == 0


def test_the_estimate_of_a_batch_goes_by_size_and_by_what_running_attempts_have_done() -> None:
    batch = Batch()
    batch.add(make_task("small", size_bytes=10), make_task("large", size_bytes=80), make_task("unknown"))
    small, large = batch.start(2)
    batch.clock.advance(2.0)

    def remaining(**fractions: float) -> float | None:
        return fold(batch.state, batch.clock(), fractions).estimated_remaining_s

    assert remaining(small=0.0, large=0.0) is None
    assert remaining(small=0.5, large=0.0) == pytest.approx(2.0 * 86 / 5)
    batch.end(small)
    assert remaining(large=0.0) == pytest.approx(2.0 * 81 / 10)
    assert remaining(large=0.5) == pytest.approx(2.0 * 41 / 50)
    batch.end(large)
    batch.end(batch.start()[0])
    assert remaining() == 0.0


def test_a_running_chunk_is_its_share_of_the_recording_in_the_estimate() -> None:
    batch = Batch()
    batch.add(make_task("done", size_bytes=10), make_task("long", size_bytes=30))
    done, long = batch.start(2)
    batch.clock.advance(1.0)
    batch.end(done)
    batch.expand(long, [child(long.task, number) for number in range(3)])
    batch.start(1)
    progress = fold(batch.state, batch.clock(), {"long/0": 0.5})
    assert progress.estimated_remaining_s == pytest.approx(25.0 / 15.0)
    assert (progress.active_workers, progress.queued_tasks) == (1, 0)


def test_elapsed_is_of_this_run_and_pauses_and_figures_show() -> None:
    batch = Batch()
    batch.add(make_task("a"), make_task("b"))
    batch.end(
        batch.start()[0],
        Outcome(artifact_key="k", metrics={"duration_s": 30.0, "speech_s": 20.0, "estimated_accuracy": 80.0}),
    )
    batch.clock.advance(10.0)
    progress = fold(batch.state, batch.clock(), {})
    assert progress.elapsed_s == 10.0
    assert progress.quality_metrics["x_realtime"] == pytest.approx(3.0)
    assert progress.quality_metrics["avg_accuracy"] == 80.0
    assert not progress.paused
    batch.take_over("the next run")
    batch.clock.advance(2.0)
    batch.do(Paused())
    progress = fold(batch.state, batch.clock(), {})
    assert (progress.elapsed_s, progress.paused) == (2.0, True)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ({"name": "a/talk.mp3", "file_path": "/in/a/talk.mp3"}, "a/talk.mp3"),
        ({"file_path": "/in/a/talk.mp3"}, "/in/a/talk.mp3"),
        ({"url": "http://x"}, "http://x"),
        ({}, "t"),
    ],
)
def test_how_a_failure_names_its_input(data: dict[str, Any], name: str) -> None:
    batch = Batch()
    batch.add(make_task("t", data=data))
    batch.do(InputsClosed())
    batch.end(batch.start()[0], failure("permanent"))
    assert failures_of(batch.state)[0]["file_name"] == name


# What failed, and what came of it all


def test_a_failed_input_is_told_once_and_by_what_failed_first_not_by_what_then_could_not_be_done() -> None:
    batch = Batch()
    batch.add(
        make_task("a-convert", TaskType.PREPROCESS, file_id="a"),
        make_task("a-transcribe", file_id="a", depends_on=("a-convert",)),
        make_task("a-enhance", TaskType.ENHANCE, file_id="a", depends_on=("a-transcribe",)),
        make_task("b", TaskType.DOWNLOAD),
        make_task("c"),
    )
    convert, other, good = batch.start(3)
    batch.end(good)
    batch.end(other, failure("permanent", "gone"))
    batch.end(convert, failure("permanent", "no_samples"))
    told = [(each["file_id"], each["failed_step"], each["code"]) for each in failures_of(batch.state)]
    assert told == [("a", "preprocess", "no_samples"), ("b", "download", "gone")]
    assert fold(batch.state, batch.clock(), {}).failed_tasks == 2


def test_an_input_is_told_by_its_own_failure_though_a_step_that_needs_it_was_added_before() -> None:
    batch = Batch()
    batch.add(make_task("transcribe", file_id="a", fingerprint="1"))
    batch.end(batch.start()[0])
    batch.take_over("the next run")
    batch.add(
        make_task("convert", TaskType.PREPROCESS, file_id="a"),
        make_task("transcribe", file_id="a", fingerprint="2", depends_on=("convert",)),
    )
    batch.end(batch.start()[0], failure("permanent", "no_samples"))
    assert batch.states() == {"transcribe": "failed", "convert": "failed"}
    (told,) = failures_of(batch.state)
    assert (told["task_id"], told["failed_step"], told["code"]) == ("convert", "preprocess", "no_samples")


def test_of_two_steps_that_failed_by_themselves_the_first_is_told() -> None:
    batch = Batch()
    batch.add(make_task("one", file_id="a"), make_task("two", file_id="a"))
    first, second = batch.start(2)
    batch.end(second, failure("permanent", "second"))
    batch.end(first, failure("permanent", "first"))
    assert [told["code"] for told in failures_of(batch.state)] == ["first"]


def test_an_input_that_needed_another_one_is_told_too() -> None:
    batch = Batch()
    batch.add(
        make_task("a"),
        make_task("b1", file_id="b", depends_on=("a",)),
        make_task("b2", file_id="b", depends_on=("b1",)),
    )
    batch.end(batch.start()[0], failure("permanent"))
    assert [(told["file_id"], told["task_id"], told["code"]) for told in failures_of(batch.state)] == [
        ("a", "a", "some_code"),
        ("b", "b1", "dependency_failed"),
    ]


def test_neither_chunks_nor_what_other_runs_had_nor_what_was_cancelled_is_told() -> None:
    batch = Batch()
    batch.add(make_task("old"), make_task("known"), make_task("long"))
    old, known, _ = batch.start(3)
    batch.end(old, failure("permanent"))
    batch.end(known, failure("permanent"))
    batch.take_over("the next run")
    batch.add(make_task("known"), make_task("long"), make_task("waiting"))
    long = batch.start()[0]
    batch.expand(long, [child(long.task, number) for number in range(2)])
    chunks = {dispatch.task.id: dispatch for dispatch in batch.start(9)}
    batch.end(chunks["long/1"], failure("permanent"))
    assert [told["task_id"] for told in failures_of(batch.state)] == ["known"]
    batch.do(Stopped())
    assert [told["task_id"] for told in failures_of(batch.state)] == ["known"]


def test_the_result_of_a_batch() -> None:
    batch = Batch()
    batch.add(*(make_task(name) for name in ("good", "bad", "parked", "late")))
    good, bad, parked = batch.start(3)
    batch.end(good, Outcome(artifact_key="k", metrics={"duration_s": 30.0}))
    batch.end(bad, failure("permanent"))
    batch.end(parked, failure("config"))
    batch.clock.advance(10.0)
    batch.do(Stopped("signal"))
    progress = replace(
        fold(batch.state, batch.clock(), {}),
        memory_usage_mb=1.0,
        memory_peak_mb=512.5,
        cpu_usage_percent=2.0,
        cpu_peak_percent=75.0,
    )
    assert result_of(batch.state, progress, "/out", "disk full") == BatchResult(
        success_count=1,
        failure_count=1,
        total_count=4,
        processing_time=10.0,
        memory_peak_mb=512.5,
        cpu_peak_percent=75.0,
        quality_metrics=progress.quality_metrics,
        cancelled_count=2,
        failures=failures_of(batch.state),
        reason="stopped",
        parked={"scripted": "it was config"},
        output_dir="/out",
        report_error="disk full",
    )
    assert progress.quality_metrics["audio_s"] == 30.0
    assert result_of(batch.state, progress, "/out").report_error == ""


def test_when_the_hours_begin_is_put_in_by_who_knows_them() -> None:
    batch = Batch()
    batch.add(make_task("a"))
    progress = fold(batch.state, batch.clock(), {})
    assert progress.waits_until is None
    waits = fold(batch.state, batch.clock(), {}, waits_until=5.0)
    assert waits.waits_until == 5.0
    assert str(waits) == str(progress), "the founding line has no room for it"


# Its phase


def test_where_a_batch_stands() -> None:
    batch = Batch()
    batch.add(make_task("a"))

    def phase(running: bool = False, waits_until: float | None = None) -> Phase:
        fractions = {"a": 0.0} if running else {}
        return fold(batch.state, batch.clock(), fractions, waits_until=waits_until).phase

    assert phase() is Phase.RUNNING
    assert phase(waits_until=5.0) is Phase.WAITING
    assert phase(running=True, waits_until=5.0) is Phase.DRAINING, "its hours are over, what runs is finished"
    batch.do(Paused())
    assert phase(waits_until=5.0) is Phase.PAUSED
    batch.do(Draining())
    assert phase() is Phase.DRAINING
    batch.do(Stopped())
    assert phase() is Phase.STOPPED
    assert BatchProgress().phase is Phase.STARTING


# The estimate of what doesn't go on by itself


def half_way() -> Batch:
    """One of two inputs is through, after two seconds."""
    batch = Batch()
    batch.add(make_task("a"), make_task("b"), make_task("c", provider="another"))
    batch.clock.advance(2.0)
    batch.end(batch.start()[0])
    assert fold(batch.state, batch.clock(), {}).estimated_remaining_s == 4.0
    return batch


def test_a_parked_batch_has_no_estimate() -> None:
    batch = half_way()
    batch.end(batch.start()[0], failure("config"))
    progress = fold(batch.state, batch.clock(), {})
    assert (progress.phase, progress.estimated_remaining_s) == (Phase.RUNNING, None), "one of its providers is parked"
    batch.end(batch.start()[0])
    batch.do(InputsClosed())
    batch.clock.advance(5 * 86_400.0)
    progress = fold(batch.state, batch.clock(), {})
    assert (progress.phase, progress.estimated_remaining_s) == (Phase.PARKED, None)
    assert str(progress).endswith("ETA: --")


def test_a_batch_that_waits_has_no_estimate() -> None:
    batch = half_way()
    assert fold(batch.state, batch.clock(), {}, waits_until=1e9).estimated_remaining_s is None
    batch.do(Paused())
    assert fold(batch.state, batch.clock(), {}).estimated_remaining_s is None
    batch.do(Resumed())
    assert fold(batch.state, batch.clock(), {}).estimated_remaining_s == 4.0
    batch.do(Scaled(0, "gives way to another batch"))
    assert fold(batch.state, batch.clock(), {}).estimated_remaining_s is None
    batch.do(Scaled(1, "shares the cluster with another batch"))
    assert fold(batch.state, batch.clock(), {}).estimated_remaining_s == 4.0


# What is still to be brought to the queue


def test_what_is_expected_counts_before_it_has_come() -> None:
    batch = Batch()
    tasks = [make_task(f"t{number}", size_bytes=10) for number in range(8)]
    expected = Expected.of([*tasks, make_task("convert", file_id="t7", size_bytes=20)])
    assert (expected.inputs, expected.work) == (8, 100.0), "inputs, not tasks"

    def progress() -> BatchProgress:
        return fold(batch.state, batch.clock(), {}, expected=expected)

    assert (progress().total_tasks, progress().queued_tasks, progress().estimated_remaining_s) == (8, 8, None)
    batch.add(*tasks[:3])
    assert (progress().total_tasks, progress().queued_tasks) == (8, 8)
    batch.clock.advance(2.0)
    batch.end(batch.start()[0])
    assert progress().estimated_remaining_s == pytest.approx(2.0 * 90 / 10)
    assert (progress().success_rate, progress().queued_tasks) == (12.5, 7)
    batch.add(*tasks[3:], *(make_task(f"more{number}") for number in range(2)))
    assert progress().total_tasks == 10, "and more were added"
    assert (Expected(1, 2.0) + Expected(3, 4.0)) == Expected(4, 6.0)


def test_what_never_came_is_cancelled_by_a_stop() -> None:
    batch = Batch()
    batch.add(make_task("a"), make_task("b"))
    batch.end(batch.start()[0])
    batch.do(Stopped())
    progress = fold(batch.state, batch.clock(), {}, expected=Expected(5, 5.0))
    result = result_of(batch.state, progress, "/out")
    assert (result.total_count, result.success_count, result.cancelled_count) == (5, 1, 4)
    assert (progress.queued_tasks, progress.estimated_remaining_s) == (0, None)


def test_why_a_service_gets_no_more_requests() -> None:
    batch = Batch()
    task = make_task("a", shared=True)
    batch.add(task)
    (dispatch,) = batch.start()
    assert fold(batch.state, batch.clock(), {}).services == {}
    signal = ProviderSignal(SignalKind.RATE_LIMITED, 429, retry_after_s=60.0)
    batch.end(dispatch, Outcome(failure=failure("transient"), signal=signal))
    (reason,) = fold(batch.state, batch.clock() + 10.0, {}).services.values()
    assert reason.startswith("waits 50 s, as the provider asked")
