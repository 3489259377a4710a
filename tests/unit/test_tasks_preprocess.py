"""PREPROCESS without Ray: conversion and figures on real and on made-up sound."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from trax_ray.core.spec import BatchSpec
from trax_ray.core.task import BatchTask, Outcome, TaskType
from trax_ray.errors import DiskFull, MediaError
from trax_ray.kinds import flac
from trax_ray.kinds.assignment import Assignment
from trax_ray.kinds.conversion import holds, private_audio
from trax_ray.kinds.preprocess import PREPROCESS, PreprocessData, preprocess
from trax_ray.media.analysis import Analyser
from trax_ray.store.artifacts import content_hash
from trax_ray.store.layout import Layout

RATE = 16_000


def prepared(path: Path, out: Path) -> dict[str, Any]:
    task = BatchTask("p", TaskType.PREPROCESS, {"file_path": str(path), "output": "audio/talk"})
    *_, outcome = preprocess(Assignment(BatchSpec(str(out)), task))
    assert isinstance(outcome, Outcome)
    return dict(outcome.metrics)


def test_a_recording_becomes_flac_with_figures(samples: Path, tmp_path: Path) -> None:
    metrics = prepared(samples / "talks" / "interview.m4a", tmp_path / "out")
    assert metrics["outputs"] == ["audio/talk.flac"]
    info = soundfile.info(tmp_path / "out" / "audio" / "talk.flac")
    assert (info.samplerate, info.channels, info.format) == (RATE, 1, "FLAC")
    assert info.duration == pytest.approx(metrics["duration_s"], abs=0.001) == pytest.approx(13.2, abs=0.1)
    assert 8 < metrics["speech_s"] <= metrics["duration_s"]
    assert -30 < metrics["loudness_dbfs"] < metrics["peak_dbfs"] <= 0
    assert metrics["snr_db"] > 10
    assert not metrics["cached"]
    before = (tmp_path / "out" / "audio" / "talk.flac").stat()
    assert prepared(samples / "talks" / "interview.m4a", tmp_path / "out")["cached"]
    assert (tmp_path / "out" / "audio" / "talk.flac").stat().st_mtime_ns == before.st_mtime_ns
    assert not list((tmp_path / "out").rglob(".tmp-*"))


def chained(path: Path, out: Path, output: str = "") -> dict[str, Any]:
    """As the first of the two steps of a chain."""
    task = PREPROCESS.task(PreprocessData(str(path), output=output), id="p", file_id="f")
    *_, outcome = preprocess(Assignment(BatchSpec(str(out)), task))
    assert isinstance(outcome, Outcome)
    return dict(outcome.metrics)


def test_audio_that_nobody_keeps_is_private_and_no_output(samples: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    metrics = chained(samples / "talks" / "weather.ogg", out)
    assert (metrics["outputs"], metrics["cached"]) == ([], False)
    assert metrics["audio"] == ".trax/audio/f.flac", "what depends on it is told of it all the same"
    audio = private_audio(Layout(out), "f")
    assert audio == out / ".trax" / "audio" / "f.flac"
    assert soundfile.info(audio).duration == pytest.approx(metrics["duration_s"], abs=0.001)
    audio.unlink()
    assert chained(samples / "talks" / "weather.ogg", out) == metrics | {"cached": True}
    assert not audio.exists(), "its figures are known, and who needs the audio makes it"


def test_audio_that_is_kept_is_an_output_and_comes_back(samples: Path, tmp_path: Path) -> None:
    out, source = tmp_path / "out", samples / "talks" / "weather.ogg"
    assert chained(source, out, "audio/talks/weather")["outputs"] == ["audio/talks/weather.flac"]
    audio = out / "audio" / "talks" / "weather.flac"
    first = audio.read_bytes()
    audio.unlink()
    assert chained(source, out, "audio/talks/weather")["cached"]
    assert audio.read_bytes() == first


def test_audio_that_was_made_from_other_content_is_made_anew(samples: Path, tmp_path: Path) -> None:
    one, other = samples / "talks" / "weather.ogg", samples / "stories" / "the_storm.mp3"
    lengths = [prepared(path, tmp_path)["duration_s"] for path in (one, other, one)]
    assert lengths[0] == lengths[2] != lengths[1]
    audio = tmp_path / "audio" / "talk.flac"
    assert soundfile.info(audio).duration == pytest.approx(lengths[0], abs=0.001)
    content = content_hash(one)
    assert holds(audio, content)
    assert not holds(audio, content_hash(other))
    audio.write_bytes(b"fLaC and no more")
    assert not holds(audio, content)
    assert not holds(tmp_path / "gone.flac", content)


def test_a_chains_first_step_leaves_to_the_second_what_that_says_anyway(
    samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = samples / "quiet_room.flac"
    assert prepared(room, tmp_path)["warnings"] == ["no_speech", "noisy", "quiet"]
    assert chained(room, tmp_path)["warnings"] == ["noisy", "quiet"]
    damaged = tmp_path / "damaged.flac"
    damaged.write_bytes(room.read_bytes()[:30_000])
    assert "truncated" in prepared(damaged, tmp_path)["warnings"]
    assert "truncated" not in chained(damaged, tmp_path)["warnings"]
    assert "media_warnings" not in chained(damaged, tmp_path)


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_what_needs_no_change_is_not_converted(tmp_path: Path, samples: Path, suffix: str) -> None:
    source, out = tmp_path / f"talk.{suffix}", tmp_path / "out"
    soundfile.write(source, soundfile.read(samples / "first_test.wav")[0], RATE, subtype="PCM_16")
    metrics = chained(source, out)
    assert metrics["as_it_is"]
    assert metrics["snr_db"] > 10
    assert "audio" not in metrics
    assert not list(out.rglob("*.flac"))
    # As a file that somebody wants it is there: FLAC byte by byte, WAV as FLAC.
    assert chained(source, out, "audio/talk")["outputs"] == ["audio/talk.flac"]
    made = out / "audio" / "talk.flac"
    assert (made.read_bytes() == source.read_bytes()) == (suffix == "flac")
    assert np.array_equal(soundfile.read(made)[0], soundfile.read(source)[0])
    before = made.stat().st_mtime_ns
    again = chained(source, out, "audio/talk")
    assert (again["cached"], made.stat().st_mtime_ns) == (True, before)


@pytest.mark.parametrize(
    "how", [{"samplerate": 22_050}, {"subtype": "PCM_24"}, {"channels": 2}, {"cut": True}, {"format": "AIFF"}], ids=str
)
def test_what_only_looks_like_it_is(tmp_path: Path, samples: Path, how: dict[str, Any]) -> None:
    audio = soundfile.read(samples / "first_test.wav")[0]
    audio = np.stack([audio, audio], axis=1) if "channels" in how else audio
    source = tmp_path / "talk.flac"
    settings = {"samplerate": RATE, "subtype": "PCM_16", "format": "FLAC"} | how
    settings = {name: value for name, value in settings.items() if name not in ("channels", "cut")}
    soundfile.write(source, audio, **settings)
    if "cut" in how:
        os.truncate(source, source.stat().st_size // 2)
    metrics = chained(source, tmp_path / "out")
    assert metrics["audio"] == ".trax/audio/f.flac"
    assert (soundfile.info(tmp_path / "out" / metrics["audio"]).samplerate) == RATE


def test_names_need_not_be_utf_8(samples: Path, tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"out\xff")
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    assert chained(samples / "talks" / "weather.ogg", folder, "audio/w")["duration_s"] > 0
    assert (folder / "audio" / "w.flac").is_file()


def test_silence_has_no_speech_and_is_called_so(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silent.wav", np.zeros(3 * RATE), RATE)
    assert prepared(tmp_path / "silent.wav", tmp_path / "out")["warnings"] == ["no_speech", "silence"]


def test_what_cannot_be_decoded_leaves_no_file(tmp_path: Path) -> None:
    (tmp_path / "bad.wav").write_bytes(b"RIFF and so on")
    with pytest.raises(MediaError):
        prepared(tmp_path / "bad.wav", tmp_path / "out")
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file() and ".trax" not in path.parts]


class Full:
    """A file on a disk that is full after so many bytes."""

    def __init__(self, file: BinaryIO, room: int) -> None:
        self.file = file
        self.room = room

    def write(self, data: bytes) -> int:
        if self.file.tell() + len(data) > self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self.file.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


@pytest.mark.parametrize("room", [0, 100, 50_000])
def test_a_full_disk_is_called_so_and_leaves_nothing(
    samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    out, source = tmp_path / "out", samples / "talks" / "weather.ogg"
    sink = flac._Sink
    monkeypatch.setattr(flac, "_Sink", lambda file: sink(Full(file, room)))  # type: ignore[arg-type]
    with pytest.raises(DiskFull, match=r"can't write .*weather\.flac: No space left"):
        chained(source, out, "audio/weather")
    assert not list((out / "audio").iterdir())
    monkeypatch.undo()
    assert chained(source, out, "audio/weather")["duration_s"] > 0


def analysed(audio: npt.NDArray[np.floating[Any]]) -> dict[str, Any]:
    analyser = Analyser()
    for block in np.array_split(audio.astype(np.float32), 7):
        analyser.feed(block)
    return analyser.figures()


def test_levels_of_a_known_tone() -> None:
    time_s = np.arange(4 * RATE) / RATE
    figures = analysed(0.5 * np.sin(2 * np.pi * 1000 * time_s))
    assert figures["peak_dbfs"] == pytest.approx(-6.0, abs=0.1)
    assert figures["loudness_dbfs"] == pytest.approx(-9.0, abs=0.1)
    assert figures["clipped_share"] == 0.0
    assert figures["bandwidth_hz"] == pytest.approx(1000, abs=60)
    assert figures["warnings"] == ["noisy", "telephone_band"], "a steady tone has no pauses, and nothing above it"


def test_clipping_and_quiet() -> None:
    random = np.random.default_rng(1)
    bursts = random.standard_normal(4 * RATE) * np.repeat([0.001, 1.0, 0.001, 1.0], RATE)
    assert "clipping" in analysed(np.clip(3 * bursts, -1, 1))["warnings"]
    quiet = analysed(0.003 * bursts)
    assert "quiet" in quiet["warnings"]
    assert quiet["snr_db"] > 40
    assert quiet["bandwidth_hz"] > 7000


# Memory


PEAK = """
import re, sys
from pathlib import Path
from trax_ray.kinds.flac import write_flac
from trax_ray.kinds.form import AS_IT_IS

with open(sys.argv[2], "w+b") as file:
    for _ in write_flac(Path(sys.argv[1]), AS_IT_IS, file, "of a test"):
        pass
print(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text()).group(1))
"""


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peaks are read as Linux has them")
@pytest.mark.parametrize("suffix", ["mp3", "mka", "wav"])
def test_memory_does_not_grow_with_length(samples: Path, tmp_path: Path, suffix: str) -> None:
    """`benchmarks/preprocess.py` compares ten minutes with three hours."""
    if shutil.which("ffmpeg") is None:
        pytest.skip("the program ffmpeg isn't installed")
    peaks = []
    for minutes in (2, 20):
        path = tmp_path / f"{minutes}.{suffix}"
        source = ["-stream_loop", "-1", "-i", samples / "stories" / "the_river.ogg", "-t", 60 * minutes]
        command = ["ffmpeg", "-v", "error", *source, "-ar", 24_000, path]
        subprocess.run(list(map(str, command)), check=True)
        told = subprocess.run(
            [sys.executable, "-c", PEAK, path, tmp_path / "out.flac"], check=True, capture_output=True, text=True
        )
        peaks.append(int(told.stdout))
    assert peaks[1] <= 1.2 * peaks[0], peaks
