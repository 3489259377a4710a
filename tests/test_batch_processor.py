"""The Python API, by the founding document's six topics: pool and configuration, processing and errors, progress
and monitoring, pause and resume, quality metrics, mixed kinds of task. Through the public names only."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import trax_ray
from trax_ray import BatchProgress, BatchResult, BatchTask, TaskType, create_batch_processor
from trax_ray.errors import QueueFull, SetupError, UsageError

METRICS = {
    "enhancement",
    "avg_accuracy",
    "accuracy_source",
    "measured_accuracy",
    "estimated_accuracy",
    "avg_accuracy_improvement",
    "content_preservation_rate",
    "low_confidence_segments",
    "no_speech_count",
    "audio_s",
    "x_realtime",
    "error_rate",
    "recovered_count",
    "warnings",
    "by_task_type",
}


def processor(tmp_path: Path, **options: Any) -> trax_ray.BatchProcessor:
    return create_batch_processor(output_dir=tmp_path / "out", **{"model": "pocketsphinx", **options})


class TestPoolAndConfiguration:
    def test_the_founding_defaults(self) -> None:
        assert trax_ray.DEFAULT_WORKERS == 8
        assert trax_ray.DEFAULT_QUEUE_SIZE == 1000
        assert trax_ray.DEFAULT_PROGRESS_INTERVAL == 5.0
        assert trax_ray.DEFAULT_MEMORY_LIMIT_MB == 2048
        assert trax_ray.DEFAULT_CPU_LIMIT_PERCENT == 90
        spec = create_batch_processor().spec
        assert (spec.limits.max_workers, spec.limits.queue_size, spec.progress_interval_s) == (8, 1000, 5.0)
        assert (spec.limits.memory_limit_mb, spec.limits.cpu_limit_percent, spec.chunk_size_s) == (2048, 90, 600)
        assert spec.output_dir.endswith("/trax_ray_output")

    def test_the_founding_constructors(self) -> None:
        task = BatchTask(
            id="task_1_transcribe",
            task_type=TaskType.TRANSCRIBE,
            data={"file_path": "/path/to/audio.mp3"},
            priority=0,
            max_retries=3,
        )
        assert task.file_id == task.id
        progress = BatchProgress(total_tasks=100)
        assert f"{progress.success_rate:.1f}% {progress.memory_usage_mb:.1f}MB {progress.cpu_usage_percent:.1f}%"
        result = BatchResult(
            success_count=95,
            failure_count=5,
            total_count=100,
            processing_time=120.5,
            memory_peak_mb=512.0,
            cpu_peak_percent=75.0,
            quality_metrics={"avg_accuracy": 95.5},
        )
        assert result.success_rate == 95.0

    @pytest.mark.parametrize(
        "options",
        [{"max_workers": 0}, {"queue_size": 0}, {"memory_limit_mb": 0}, {"cpu_limit_percent": 0}, {"chunk_size": 1},
         {"progress_interval": 0}, {"cpu_limit_percent": 101}],
    )  # fmt: skip
    def test_values_that_make_no_sense(self, tmp_path: Path, options: dict[str, Any]) -> None:
        with pytest.raises(UsageError, match="expected"):
            processor(tmp_path, **options)

    async def test_a_model_that_fits_no_limit_says_what_it_needs(self, tmp_path: Path, samples: Path) -> None:
        batch = processor(tmp_path, memory_limit_mb=128)
        with pytest.raises(SetupError, match="256 MB"):
            await batch.add_task(TaskType.TRANSCRIBE, {"file_path": str(samples / "first_test.wav")})


class TestProcessingAndErrors:
    async def test_one_bad_file_does_not_stop_the_others(self, head: object, tmp_path: Path, samples: Path) -> None:
        broken = tmp_path / "broken.wav"
        broken.write_bytes(b"RIFF")
        batch = processor(tmp_path)
        for path in (samples / "first_test.wav", broken, tmp_path / "gone.wav", samples / "quiet_room.flac"):
            await batch.add_task(TaskType.TRANSCRIBE, {"file_path": str(path)}, priority=0)
        result = await batch.start()
        assert (result.success_count, result.failure_count, result.total_count) == (2, 2, 4)
        failures = {failure["file_name"]: failure for failure in result.failures}
        assert failures["broken.wav"]["category"] == "processing"
        assert failures["gone.wav"]["category"] == "file"
        assert failures["gone.wav"]["code"] == "not_found"
        assert {failure["failure_class"] for failure in result.failures} == {"permanent"}
        assert (tmp_path / "out" / "first_test.txt").read_text().strip()
        frame = result.to_pandas("files")
        assert sorted(frame["status"]) == ["failed", "failed", "succeeded", "succeeded"]

    async def test_start_without_tasks_returns_zeros(self, tmp_path: Path) -> None:
        result = await processor(tmp_path).start()
        assert (result.success_count, result.failure_count, result.total_count) == (0, 0, 0)
        assert result.success_rate == 0.0

    async def test_a_second_start_while_it_runs(self, head: object, tmp_path: Path, samples: Path) -> None:
        batch = processor(tmp_path)
        await batch.add_task(TaskType.TRANSCRIBE, {"file_path": str(samples / "quiet_room.flac")})
        running = asyncio.create_task(batch.start())
        await asyncio.sleep(0)
        with pytest.raises(UsageError, match="running already"):
            await batch.start()
        assert (await running).success_count == 1

    async def test_what_add_task_refuses(self, tmp_path: Path) -> None:
        batch = processor(tmp_path, queue_size=1)
        with pytest.raises(UsageError, match="file_path"):
            await batch.add_task(TaskType.TRANSCRIBE, {"path": "talk.mp3"})
        with pytest.raises(UsageError, match="priority"):
            await batch.add_task(TaskType.TRANSCRIBE, {"file_path": "talk.mp3"}, priority=-1)
        with pytest.raises(UsageError, match="depends_on"):
            await batch.add_task(TaskType.TRANSCRIBE, {"file_path": "talk.mp3"}, depends_on=("nobody",))
        await batch.add_task(TaskType.TRANSCRIBE, {"file_path": "talk.mp3"})
        with pytest.raises(QueueFull, match="start the batch"):
            await batch.add_task(TaskType.TRANSCRIBE, {"file_path": "talk2.mp3"})

    async def test_the_same_recording_twice_is_two_tasks_and_two_outputs(
        self, head: object, tmp_path: Path, samples: Path
    ) -> None:
        batch = processor(tmp_path)
        first = await batch.add_task(TaskType.TRANSCRIBE, {"file_path": str(samples / "first_test.wav")})
        second = await batch.add_task(
            TaskType.TRANSCRIBE, {"file_path": str(samples / "first_test.wav")}, depends_on=(first,)
        )
        assert first != second
        result = await batch.start()
        assert result.success_count == result.total_count == 2
        assert (tmp_path / "out" / "first_test.txt").read_text() == (tmp_path / "out" / "first_test-2.txt").read_text()


class TestInputs:
    async def test_a_folder_and_a_manifest_with_options_of_the_command_line(
        self, head: object, tmp_path: Path, samples: Path
    ) -> None:
        manifest = tmp_path / "one.csv"
        manifest.write_text(f"file_name,speaker\n{samples / 'quiet_room.flac'},nobody\n")
        batch = processor(tmp_path, formats="txt", preprocess=True, reference=samples / "talks")
        (weather,) = await batch.add(samples / "talks" / "weather.ogg")
        ids = await batch.add([str(samples / "talks" / "weath*.ogg"), manifest])
        assert ids[0] == weather
        again = await batch.add_task(
            TaskType.TRANSCRIBE, {"file_path": str(samples / "first_test.wav")}, depends_on=(weather,)
        )
        assert again not in ids
        result = await batch.start()
        assert (result.success_count, result.total_count) == (3, 3)
        frame = result.to_pandas("files").set_index("file_name")
        assert frame.loc["quiet_room.flac", "speaker"] == "nobody"
        assert frame.loc["weather.ogg", "measured_accuracy"] > 50
        texts = sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_file())
        assert texts == ["first_test.txt", "quiet_room.txt", "weather.txt"]


class TestProgressAndMonitoring:
    async def test_progress_is_told_and_ends_complete(self, head: object, tmp_path: Path, samples: Path) -> None:
        batch = processor(tmp_path, progress_interval=0.2)
        for name in ("first_test.wav", "quiet_room.flac", "talks/weather.ogg"):
            await batch.add_task(TaskType.TRANSCRIBE, {"file_path": str(samples / name)})
        assert batch.get_progress().total_tasks == 3
        told: list[BatchProgress] = []
        result = await batch.start(progress_callback=told.append)
        last = told[-1]
        assert (last.completed_tasks, last.failed_tasks, last.total_tasks) == (3, 0, 3)
        assert (last.success_rate, last.failure_rate, last.estimated_remaining_s) == (100.0, 0.0, 0.0)
        assert max(progress.active_workers for progress in told) >= 1
        assert 50 < last.memory_peak_mb < 4096
        assert result.memory_peak_mb >= last.memory_usage_mb
        assert 0 < result.cpu_peak_percent <= 100
        assert result.processing_time > 0
        counts = [progress.completed_tasks for progress in told]
        assert counts == sorted(counts)

    async def test_a_coroutine_may_be_the_callback(self, head: object, tmp_path: Path, samples: Path) -> None:
        told = []

        async def callback(progress: BatchProgress) -> None:
            await asyncio.sleep(0)
            told.append(str(progress))

        batch = processor(tmp_path)
        await batch.add_task(TaskType.TRANSCRIBE, {"file_path": str(samples / "quiet_room.flac")})
        await batch.start(progress_callback=callback)
        assert told[-1].startswith("Progress: 1/1 (100.0% success) | Active: 0 | Failed: 0 | Memory: ")


class TestPauseResumeStop:
    async def test_paused_before_the_start_nothing_runs_until_resume(
        self, head: object, tmp_path: Path, samples: Path
    ) -> None:
        batch = processor(tmp_path)
        await batch.add_task(TaskType.TRANSCRIBE, {"file_path": str(samples / "quiet_room.flac")})
        await batch.pause()
        running = asyncio.create_task(batch.start())
        while not batch.get_progress().paused:
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.3)
        assert batch.get_progress().active_workers == batch.get_progress().completed_tasks == 0
        batch.resume()
        assert (await running).success_count == 1

    async def test_stop_returns_what_was_not_done(self, head: object, tmp_path: Path, samples: Path) -> None:
        batch = processor(tmp_path, max_workers=1)
        for name in ("stories/the_river.ogg", "talks/meeting.mp3"):
            await batch.add_task(TaskType.TRANSCRIBE, {"file_path": str(samples / name)})
        running = asyncio.create_task(batch.start())
        while batch.get_progress().active_workers == 0:
            await asyncio.sleep(0.05)
        await batch.stop()
        result = await running
        assert (result.cancelled_count, result.total_count, result.reason) == (2, 2, "stopped")


class TestQualityMetrics:
    async def test_the_keys_and_what_they_say(self, head: object, tmp_path: Path, samples: Path) -> None:
        batch = processor(tmp_path)
        for name in ("first_test", "quiet_room"):
            suffix = ".wav" if name == "first_test" else ".flac"
            data = {"file_path": str(samples / f"{name}{suffix}"), "reference": str(samples / f"{name}.txt")}
            await batch.add_task(TaskType.TRANSCRIBE, data)
        metrics = (await batch.start()).quality_metrics
        assert set(metrics) == METRICS
        assert metrics["accuracy_source"] == "measured"
        assert metrics["avg_accuracy"] == metrics["measured_accuracy"] > 85
        assert metrics["no_speech_count"] == 1
        assert metrics["warnings"]["no_speech"] == 1
        assert metrics["error_rate"] == 0.0
        assert metrics["audio_s"] == pytest.approx(13.5, abs=0.2)
        assert metrics["by_task_type"]["transcribe"]["count"] == 2
        assert metrics["avg_accuracy_improvement"] is None


class TestQueue:
    @pytest.mark.long
    async def test_a_thousand_tasks_through_a_queue_of_a_hundred(
        self, head: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        batch = processor(tmp_path, queue_size=100, progress_interval=0.5, memory_limit_mb=4096)
        batch.spec = replace(batch.spec, runner="trax_ray.testing.scripted:run")
        queued = []
        running = None
        for number in range(1_000):
            await batch.add_task(TaskType.YOUTUBE, {"url": f"https://example.org/{number}"})
            if running is None:
                running = asyncio.create_task(batch.start(lambda progress: queued.append(progress.queued_tasks)))
        assert running is not None
        result = await running
        assert (result.success_count, result.failure_count, result.total_count) == (1_000, 0, 1_000)
        assert max(queued) <= 100


class TestMixedKinds:
    async def test_a_recording_is_prepared_then_transcribed(self, head: object, tmp_path: Path, samples: Path) -> None:
        batch = processor(tmp_path)
        source = samples / "talks" / "weather.ogg"
        prepared = await batch.add_task(TaskType.PREPROCESS, {"file_path": str(source)}, priority=1)
        audio = tmp_path / "out" / "audio" / "weather.flac"
        await batch.add_task(TaskType.TRANSCRIBE, {"file_path": str(audio)}, depends_on=(prepared,))
        await batch.add_task(TaskType.PREPROCESS, {"file_path": str(tmp_path / "gone.wav")})
        result = await batch.start()
        assert (result.success_count, result.failure_count) == (2, 1)
        assert audio.is_file()
        assert "weather" in (tmp_path / "out" / "weather.txt").read_text()
        kinds = result.quality_metrics["by_task_type"]
        assert {name: kind["count"] for name, kind in kinds.items()} == {"preprocess": 1, "transcribe": 1}
        assert result.quality_metrics["audio_s"] == pytest.approx(9.1, abs=0.2), "heard once, although done twice"
