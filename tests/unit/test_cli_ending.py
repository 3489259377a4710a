"""The end of a batch: what it has come to is shown before Ray is left, and once."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from trax_ray.cli import batch as command
from trax_ray.cli import display, summary
from trax_ray.cli.app import app
from trax_ray.core.policy.prediction import Observation
from trax_ray.core.progress import BatchProgress
from trax_ray.core.standing import Expected
from trax_ray.core.task import BatchTask, TaskType
from trax_ray.plan.plan import Plan
from trax_ray.processor import BatchProcessor
from trax_ray.report.result import BatchResult
from trax_ray.testing.factories import make_spec, make_task


def driver(steps: list[str]) -> type:
    """The driver of a batch that ends at once; `steps` says what happened."""

    class Driver:
        def __init__(self, *_: Any, **__: Any) -> None:
            self.connection = None

        def connect(self, requests: Any) -> Any:
            return SimpleNamespace(dashboard_url="")

        def gpus(self) -> float:
            return 0.0

        def check_nodes(self, *_: Any) -> None:
            pass

        def open(self) -> None:
            pass

        def add(self, tasks: list[BatchTask]) -> int:
            return 9

        def command(self, name: str) -> None:
            pass

        def snapshot(self) -> BatchProgress:
            return BatchProgress()

        def seen(self) -> tuple[Observation, ...]:
            return ()

        def wait(self, timeout_s: float) -> BatchResult:
            return BatchResult(success_count=1, total_count=1)

        def close(self) -> None:
            steps.append("Ray is left")

    return Driver


async def test_the_result_is_told_before_ray_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    monkeypatch.setattr("trax_ray.cluster.driver.Driver", driver(steps))
    processor = BatchProcessor(make_spec(tmp_path))
    processor.feed([make_task()])
    processor.on_result = lambda result: steps.append(f"{result.success_count} succeeded")
    result = await processor.start()
    assert steps == ["1 succeeded", "Ray is left"]
    assert result.success_count == 1


async def test_the_driver_knows_beforehand_how_much_will_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Expected] = []

    class Driver(driver([])):  # type: ignore[misc]
        def __init__(self, *_: Any, expected: Expected, **__: Any) -> None:
            super().__init__()
            told.append(expected)

    monkeypatch.setattr("trax_ray.cluster.driver.Driver", Driver)
    processor = BatchProcessor(make_spec(tmp_path))
    tasks = [make_task(f"t{number}", size_bytes=10) for number in range(5)]
    processor.feed(tasks)
    await processor.add_task(TaskType.PREPROCESS, {"file_path": "gone.mp3"})
    await processor.start()
    processor.feed(iter(tasks))
    await processor.start()
    await processor.add_task(TaskType.PREPROCESS, {"file_path": "gone.mp3"})
    await processor.start()
    assert [each.inputs for each in told] == [6, 5, 1], "an earlier run doesn't count"
    assert told[1].work == 50.0


async def test_ray_is_left_even_where_the_result_can_t_be_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    monkeypatch.setattr("trax_ray.cluster.driver.Driver", driver(steps))
    processor = BatchProcessor(make_spec(tmp_path))
    processor.feed([make_task()])

    def show(result: BatchResult) -> None:
        raise BrokenPipeError

    processor.on_result = show
    with pytest.raises(BrokenPipeError):
        await processor.start()
    assert steps == ["Ray is left"]


@pytest.mark.parametrize("tells", [True, False])
def test_the_summary_is_printed_once_and_at_once(tells: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Processor:
        on_result: Callable[[BatchResult], None]

        def __init__(self, *_: Any, **__: Any) -> None:
            pass

        def take(self, plan: Plan) -> None:
            pass

        async def start(self, **_: Any) -> BatchResult:
            result = BatchResult(success_count=1, total_count=1)
            if tells:
                self.on_result(result)
                os.kill(os.getpid(), signal.SIGINT)  # somebody who has seen it, and is impatient
                await asyncio.sleep(0.05)
            display.say("Ray is left")
            return result

    shown: list[str] = []
    monkeypatch.setattr(command, "BatchProcessor", Processor)
    monkeypatch.setattr(display, "say", shown.append)
    monkeypatch.setattr(summary, "show_result", lambda result, _: shown.append("summary"))
    (tmp_path / "a.mp3").write_bytes(b"a")
    own = ["batch", str(tmp_path / "a.mp3"), "--model", "pocketsphinx", "-o", str(tmp_path / "out")]
    done = CliRunner().invoke(app, own)
    assert done.exit_code == 0, done.output
    assert shown[-2:] == (["summary", "Ray is left"] if tells else ["Ray is left", "summary"])
    assert "stopping" not in "".join(shown)


def test_a_bar_that_has_ended_stays_ended() -> None:
    with display.LiveDisplay("working") as bar:
        bar.update(BatchProgress(total_tasks=1))
        bar.end()
        bar.update(BatchProgress(total_tasks=1))
        bar.note("nobody sees this")
