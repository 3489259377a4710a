"""What a batch will take on the disk: against what one took, and what makes it more."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trax_ray.core.spec import BatchSpec, Limits
from trax_ray.core.task import BatchTask, TaskType
from trax_ray.plan.disk import BLOCK_BYTES, audio_s, bytes_needed, format_bytes
from trax_ray.testing.factories import make_task

SPEC = BatchSpec("/out", model="tiny")
HOUR_OF_WAV = 3600 * 32_000
FLAC_OF_AN_HOUR = 3600 * 17_400


def recording(name: str = "talk.wav", size_bytes: int = 60 * 32_000) -> BatchTask:
    return make_task(name, file_path=f"/in/{name}", size_bytes=size_bytes)


def need(*tasks: BatchTask, **changes: object) -> int:
    return bytes_needed(tasks, replace(SPEC, **changes))  # type: ignore[arg-type]


def test_the_samples_need_about_what_they_took(samples: Path) -> None:
    """A batch over the synthetic ones with pocketsphinx took 516 kB in whole blocks, folders included."""
    paths = [path for path in samples.rglob("*") if path.suffix in (".wav", ".mp3", ".flac", ".ogg", ".m4a")]
    paths = [path for path in paths if path.parent.name != "voices"]
    tasks = [make_task(path.name, file_path=str(path), size_bytes=path.stat().st_size) for path in paths]
    assert len(tasks) == 11
    assert 0.8 * 516_000 < need(*tasks) < 1.25 * 516_000


def test_lengths_are_rather_over_than_underestimated(samples: Path) -> None:
    lengths_s = {"first_test.wav": 7.5, "stories/the_river.ogg": 124.4, "talks/interview.m4a": 13.2}
    lengths_s |= {"stories/the_storm.mp3": 6.8, "talks/old_recordings.flac": 10.4}
    for name, length_s in lengths_s.items():
        guessed_s = audio_s(name, (samples / name).stat().st_size)
        assert 0.95 * length_s < guessed_s < 2 * length_s, name
    assert audio_s("/in/TALK.WAV", 32_000) == audio_s("talk.wav", 32_000) == 1.0
    assert audio_s("/in/talk", 6_100) == audio_s("talk.mp3", 6_100) == 1.0


def test_nothing_to_do_needs_next_to_nothing() -> None:
    assert need() < 100_000
    assert need(recording(size_bytes=0)) < need() + 20 * BLOCK_BYTES


def test_only_what_is_written_counts() -> None:
    tasks = [recording(), make_task("p", TaskType.PREPROCESS, file_path="/in/talk.wav", size_bytes=10**9)]
    assert need(*tasks) == need(recording())
    assert need(recording(), formats=("txt",)) < need(recording()) < need(recording(), word_timestamps=True)
    assert need(recording(size_bytes=HOUR_OF_WAV), chunk_size_s=60) > need(recording(size_bytes=HOUR_OF_WAV))


def test_converted_audio_counts_as_far_as_it_is_there_at_the_same_time() -> None:
    short = [recording(f"{number}.wav") for number in range(100)]
    minute = FLAC_OF_AN_HOUR / 60
    bare = need(*short)
    few = need(*short, preprocess=True, limits=Limits(max_workers=4)) - bare
    every = need(*short, preprocess=True, keep_audio=True) - bare
    assert 8 * minute < few < 8 * minute + 100 * 3 * BLOCK_BYTES
    assert 100 * minute < every < 102 * minute
    long = [recording(f"{number}.wav", HOUR_OF_WAV) for number in range(10)]
    assert need(*long, preprocess=True, limits=Limits(max_workers=1)) - need(*long) > 10 * FLAC_OF_AN_HOUR


@given(sizes=st.lists(st.integers(0, 10**10), max_size=9), more=st.integers(0, 10**10), preprocess=st.booleans())
def test_more_recordings_never_need_less(sizes: list[int], more: int, preprocess: bool) -> None:
    tasks = [recording(f"{number}.mp3", size) for number, size in enumerate(sizes)]
    before = need(*tasks, preprocess=preprocess)
    assert need(*tasks, recording("more.mp3", more), preprocess=preprocess) >= before > 0


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 kB"),
        (1_234, "1 kB"),
        (999_499, "999 kB"),
        (999_500, "1.0 MB"),
        (9_940_000, "9.9 MB"),
        (9_960_000, "10 MB"),
        (12_300_000, "12 MB"),
        (3_440_000_000, "3.4 GB"),
        (999_400_000_000, "999 GB"),
        (2_000_000_000_000, "2.0 TB"),
        (20_000_000_000_000, "20 TB"),
    ],
)
def test_bytes_for_people(count: int, text: str) -> None:
    assert format_bytes(count) == text
