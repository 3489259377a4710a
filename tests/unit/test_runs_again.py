"""The same command again, over an output folder and inputs that changed meanwhile; without Ray and without a model."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import soundfile

from tests.support.in_process import run_batch, run_tasks
from trax_ray.core.spec import BatchSpec
from trax_ray.kinds import chunk as chunking
from trax_ray.media import decode
from trax_ray.media.speech import Segment, Span
from trax_ray.plan.plan import make_plan


class Counted:
    """An engine that says how many samples it was given, and how loud the first of them is."""

    name = "counted"
    model = "counted-1"
    language = "en"

    def transcribe(self, audio: Any, speech: Sequence[Span], options: Any) -> Iterator[Segment]:
        yield Segment(0.0, 1.0, f"{len(audio)} samples {abs(audio[: len(audio) // 2]).max():.3f}", confidence=0.9)


@pytest.fixture(autouse=True)
def engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunking, "_engine", lambda model, resources: Counted())


@pytest.fixture(scope="module")
def audio(samples: Path) -> Any:
    with decode.stream(samples / "first_test.wav", end_s=3.0) as blocks:
        return blocks.rest()


@pytest.fixture
def talks(tmp_path: Path, audio: Any) -> Path:
    """A folder with two recordings."""
    folder = tmp_path / "talks"
    folder.mkdir()
    for number, name in enumerate(("a.wav", "b.wav")):
        record(folder / name, audio, 0.9 - 0.2 * number)
    return folder


@pytest.fixture
def spec(tmp_path: Path) -> BatchSpec:
    return BatchSpec(str(tmp_path / "out"), model="pocketsphinx", formats=("txt",))


def record(path: Path, audio: Any, loudness: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, audio * loudness, 16_000)


def written(spec: BatchSpec) -> dict[str, str]:
    """The files that a user gets, by name."""
    out = Path(spec.output_dir)
    found = [path for path in out.rglob("*") if path.is_file() and ".trax" not in path.parts]
    return {str(path.relative_to(out)): path.read_text() for path in sorted(found)}


# The recordings change


def test_a_recording_changed_in_place_with_equal_size_and_time_is_done_again(
    talks: Path, spec: BatchSpec, audio: Any
) -> None:
    run_batch([talks], spec)
    first, kept = written(spec), (talks / "a.wav").stat()
    while (talks / "a.wav").stat().st_ctime_ns == kept.st_ctime_ns:  # as coarse as the kernel's clock
        record(talks / "a.wav", audio, 0.2)
        os.utime(talks / "a.wav", ns=(kept.st_atime_ns, kept.st_mtime_ns))
    found = (talks / "a.wav").stat()
    assert (found.st_size, found.st_mtime_ns, found.st_ino) == (kept.st_size, kept.st_mtime_ns, kept.st_ino)
    again = run_batch([talks], spec)
    assert len(again.attempts) == 1
    assert written(spec)["a.txt"] != first["a.txt"]
    assert written(spec)["b.txt"] == first["b.txt"]


def test_a_folder_of_an_earlier_version_which_knows_no_such_times_has_nothing_to_do(
    talks: Path, spec: BatchSpec
) -> None:
    plan = make_plan([str(talks)], spec)
    earlier = [replace(task, fingerprint=task.fingerprint.partition("-")[0]) for task in plan.tasks]
    assert earlier != [*plan.tasks]
    assert len(run_tasks(earlier, spec).attempts) == 2
    assert run_batch([talks], spec).attempts == []
