"""TRANSCRIBE without Ray and without a model: what is decoded, recognised, kept and written, and how often."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from trax_ray.core.spec import BatchSpec
from trax_ray.core.task import BatchTask, Outcome, TaskType
from trax_ray.errors import FileError, MediaError
from trax_ray.media.speech import Segment, Span
from trax_ray.store.layout import Layout
from trax_ray.store.lease import Lease
from trax_ray.tasks import transcribe as module
from trax_ray.tasks.assignment import Assignment, Progress


class Echo:
    """An engine that says `word` for every span of speech, and counts how often it is asked."""

    name = "echo"
    model = "echo-1"
    language: str | None = None

    def __init__(self) -> None:
        self.calls = 0

    def transcribe(self, audio: Any, speech: Sequence[Span], options: Any) -> Iterator[Segment]:
        self.calls += 1
        self.language = options.language or "en"
        for span in speech:
            yield Segment(span.start_s, span.end_s, "word", confidence=0.9)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Echo:
    echo = Echo()
    monkeypatch.setattr(module, "_engine", lambda model, resources: echo)
    return echo


@pytest.fixture
def spec(tmp_path: Path) -> BatchSpec:
    return BatchSpec(str(tmp_path / "out"), model="echo-1", formats=("txt", "json"))


def task(path: Path, name: str = "talk", **data: Any) -> BatchTask:
    return BatchTask(name, TaskType.TRANSCRIBE, {"file_path": str(path), "name": path.name, "output": name, **data})


def attempt(spec: BatchSpec, one: BatchTask, **more: Any) -> Outcome:
    *_, outcome = module.transcribe(Assignment(spec, one, **more))
    assert isinstance(outcome, Outcome)
    return outcome


def written(spec: BatchSpec, name: str) -> str:
    return Layout(Path(spec.output_dir)).transcript(name, "txt").read_text()


def test_a_short_recording_is_done_once(engine: Echo, spec: BatchSpec, samples: Path) -> None:
    first = attempt(spec, task(samples / "first_test.wav"))
    assert first.metrics["outputs"] == ["talk.txt", "talk.json"]
    assert set(written(spec, "talk").split()) == {"word"}
    assert first.metrics["estimated_accuracy"] == pytest.approx(90.0)
    assert (first.metrics["cached"], engine.calls) == (False, 1)
    again = attempt(spec, task(samples / "first_test.wav"))
    assert (again.metrics["cached"], engine.calls) == (True, 1)
    assert again.artifact_key == first.artifact_key
    assert "duplicate_of" not in again.metrics


@pytest.mark.parametrize("changed", [{"model": "echo-2"}, {"language": "de"}, {"word_timestamps": True}])
def test_what_matters_makes_another_artifact(
    engine: Echo, spec: BatchSpec, samples: Path, changed: dict[str, Any]
) -> None:
    first = attempt(spec, task(samples / "first_test.wav"))
    assert attempt(replace(spec, **changed), task(samples / "first_test.wav")).artifact_key != first.artifact_key
    assert engine.calls == 2


def test_formats_and_chunk_size_that_it_fits_into_reuse_it(engine: Echo, spec: BatchSpec, samples: Path) -> None:
    attempt(spec, task(samples / "first_test.wav"))
    more = attempt(replace(spec, formats=("srt",), chunk_size_s=60), task(samples / "first_test.wav"))
    assert more.metrics["outputs"] == ["talk.srt"]
    assert engine.calls == 1


def test_a_copy_is_transcribed_once_and_called_a_copy(
    engine: Echo, spec: BatchSpec, samples: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.wav"
    shutil.copy(samples / "first_test.wav", copy)
    attempt(spec, task(samples / "first_test.wav"))
    outcome = attempt(spec, task(copy, "copy"))
    assert outcome.metrics["duplicate_of"] == "first_test.wav"
    assert engine.calls == 1
    assert written(spec, "copy") == written(spec, "talk")


def test_whoever_comes_second_waits_for_the_first(
    engine: Echo, spec: BatchSpec, samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CLAIM_PERIOD_S", 0.0)
    one = task(samples / "first_test.wav")
    job = module._Job.of(Assignment(spec, one))
    lease = Lease(job.layout.claim(job.content))
    lease.acquire("somebody else")
    working = module.transcribe(Assignment(spec, one))
    assert [type(next(working)) for _ in range(5)] == [Progress] * 5
    assert engine.calls == 0
    lease.release()
    *_, outcome = working
    assert isinstance(outcome, Outcome)
    assert outcome.failure is None
    assert engine.calls == 1
    lease.acquire("free again")


def test_a_long_recording_is_cut_done_in_pieces_and_assembled(engine: Echo, spec: BatchSpec, samples: Path) -> None:
    spec = replace(spec, chunk_size_s=10)
    whole = task(samples / "long_pause.ogg", size_bytes=36_000)
    planned = attempt(spec, whole)
    assert engine.calls == 0
    spans = [(child.data["start_s"], child.data["end_s"]) for child in planned.children]
    assert len(spans) >= 3
    assert spans[0][0] == 0.0
    assert all(end - start <= 10.0 for start, end in spans)
    assert [start for start, _ in spans[1:]] == [end for _, end in spans[:-1]]
    assert sum(child.data["size_bytes"] for child in planned.children) == pytest.approx(36_000, abs=5)
    keys = {child.id: attempt(spec, child).artifact_key for child in planned.children}
    assert not Layout(Path(spec.output_dir)).transcript("talk", "txt").exists()
    calls = engine.calls
    outcome = attempt(spec, whole, children=keys)
    assert engine.calls == calls, "assembling recognises nothing"
    assert outcome.metrics["chunks"] == len(spans)
    assert outcome.metrics["duration_s"] == pytest.approx(27.6, abs=0.1)
    segments = Layout(Path(spec.output_dir)).transcript("talk", "json").read_text()
    assert '"start": 24.' in segments, "times count from the recording's beginning"
    assert len(written(spec, "talk").splitlines()) == 2


def test_a_chunk_whose_artifact_is_gone_is_made_again(engine: Echo, spec: BatchSpec, samples: Path) -> None:
    spec = replace(spec, chunk_size_s=10)
    whole = task(samples / "long_pause.ogg")
    children = attempt(spec, whole).children
    keys = {child.id: attempt(spec, child).artifact_key for child in children}
    calls = engine.calls
    job = module._Job.of(Assignment(spec, whole))
    job.store.path(next(iter(keys.values()))).unlink()
    assert attempt(spec, whole, children=keys).failure is None
    assert engine.calls == calls + 1


def test_silence_is_never_given_to_the_engine(engine: Echo, spec: BatchSpec, samples: Path) -> None:
    outcome = attempt(spec, task(samples / "quiet_room.flac"))
    assert engine.calls == 0
    assert (outcome.metrics["no_speech"], outcome.metrics["warnings"]) == (True, ["no_speech"])
    assert written(spec, "talk") == ""


def test_accuracy_is_measured_against_a_reference(engine: Echo, spec: BatchSpec, samples: Path, tmp_path: Path) -> None:
    reference = tmp_path / "reference.txt"
    text = attempt(spec, task(samples / "first_test.wav")).metrics["words"] * "Word, "
    reference.write_text(f"{text} and more")
    metrics = attempt(spec, task(samples / "first_test.wav", reference=str(reference))).metrics
    assert (metrics["wer_errors"], metrics["wer_words"]) == (2, len(text.split()) + 2)
    with pytest.raises(FileError, match="nowhere"):
        attempt(spec, task(samples / "first_test.wav", reference=str(tmp_path / "nowhere.txt")))


def test_what_is_no_audio_is_a_media_error_and_what_is_gone_a_file_error(
    engine: Echo, spec: BatchSpec, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.wav"
    bad.write_text("no sound")
    with pytest.raises(MediaError, match=r"bad\.wav"):
        attempt(spec, task(bad))
    with pytest.raises(FileError, match=r"gone\.wav"):
        attempt(spec, task(tmp_path / "gone.wav"))


def test_an_output_that_is_gone_is_written_from_the_artifact(engine: Echo, spec: BatchSpec, samples: Path) -> None:
    attempt(spec, task(samples / "first_test.wav"))
    text = written(spec, "talk")
    Layout(Path(spec.output_dir)).transcript("talk", "txt").unlink()
    attempt(spec, task(samples / "first_test.wav"))
    assert written(spec, "talk") == text
    assert engine.calls == 1
