"""Channels, tracks and loudness through plan, steps, chunks and files: a batch in this process, without Ray."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.support.in_process import Ended, run_batch
from trax_ray.core.spec import BatchSpec
from trax_ray.kinds import chunk as chunking
from trax_ray.kinds.conversion import holds
from trax_ray.kinds.form import Form
from trax_ray.media import decode
from trax_ray.media.decode import SAMPLE_RATE_HZ
from trax_ray.media.speech import Segment, Span
from trax_ray.store.artifacts import content_hash

RATE = SAMPLE_RATE_HZ


class Echo:
    """An engine that says where each span of speech is, counted from what it was given, and how loud."""

    name = "echo"
    model = "tiny.en"
    language: str | None = "en"

    def __init__(self) -> None:
        self.heard: list[float] = []

    def transcribe(self, audio: Any, speech: Sequence[Span], options: Any) -> Iterator[Segment]:
        self.heard.append(len(audio) / RATE)
        for span in speech:
            part = audio[int(span.start_s * RATE) : int(span.end_s * RATE)]
            word = "loud" if np.abs(part).max() > 0.2 else "soft"
            yield Segment(span.start_s, span.end_s, " ".join([word] * max(1, len(part) // RATE)), confidence=0.9)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Echo:
    echo = Echo()
    monkeypatch.setattr(chunking, "_engine", lambda model, resources: echo)
    return echo


@pytest.fixture
def spec(tmp_path: Path) -> BatchSpec:
    return BatchSpec(str(tmp_path / "out"), model="tiny.en")


@pytest.fixture
def call(samples: Path, tmp_path: Path) -> Path:
    """A call: one speaker left, then the other one right and softer, then the first; 26 s."""
    voice = decode.read(samples / "first_test.wav")
    voice = voice / np.abs(voice).max() * np.float32(0.5)
    both = np.zeros((26 * RATE, 2), np.float32)
    for at_s, channel in ((1, 0), (9, 1), (18, 0)):
        both[at_s * RATE : at_s * RATE + len(voice), channel] = voice * (1.0, 0.2)[channel]
    soundfile.write(tmp_path / "call.wav", both, RATE)
    return tmp_path / "call.wav"


def segments(spec: BatchSpec) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((Path(spec.output_dir) / "call.json").read_text())["segments"]
    return rows


def turns(rows: list[dict[str, Any]]) -> list[str]:
    """Who speaks, one after the other."""
    names = [str(row["speaker"]) for row in rows]
    return [name for at, name in enumerate(names) if at == 0 or names[at - 1] != name]


HOW: list[dict[str, Any]] = [{}, {"preprocess": True}, {"chunk_size_s": 10}, {"chunk_size_s": 10, "preprocess": True}]


@pytest.mark.parametrize("how", HOW, ids=str)
def test_each_channel_is_a_speaker(engine: Echo, spec: BatchSpec, call: Path, how: dict[str, Any]) -> None:
    spec = replace(spec, channels="split", **how)
    ended = run_batch([call], spec)
    assert set(ended.states.values()) == {"succeeded"}
    rows = segments(spec)
    assert turns(rows) == ["left", "right", "left"]
    assert {row["speaker"]: row["text"].split()[0] for row in rows} == {"left": "loud", "right": "soft"}
    assert [row["start"] for row in rows] == sorted(row["start"] for row in rows)
    assert rows[0]["start"] == pytest.approx(1.0, abs=0.5)
    assert rows[-1]["end"] == pytest.approx(25.5, abs=0.7)
    parts = [name for name in ended.attempts if "/" in name]
    assert len(parts) == (6 if "chunk_size_s" in how else 0)
    assert len(engine.heard) == (3 if parts else 2), "nobody is asked about silence"
    (found,) = (
        each for each in ended.state.records.values() if each.task.id.startswith("transcribe") and not each.task.parent
    )
    assert found.metrics["duration_s"] == 26.0, "the recording's length, once"
    assert found.metrics["speech_s"] == pytest.approx(3 * 6.5, abs=3.0)
    assert found.metrics["uncovered_s"] == 0.0
    assert set(found.metrics["warnings"]) <= {"repetition"}, "the engine's own"
    again = run_batch([call], replace(spec, output_dir=spec.output_dir))
    assert (again.attempts, len(engine.heard)) == ([], 3 if parts else 2), "it is known"


def test_a_kill_costs_one_part(engine: Echo, spec: BatchSpec, call: Path) -> None:
    spec = replace(spec, channels="split", chunk_size_s=10)

    class Killed(BaseException):
        pass

    def kill(dispatch: Any) -> None:
        if dispatch.task.id.endswith("/3"):
            raise Killed

    with pytest.raises(Killed):
        run_batch([call], spec, before=kill)
    assert 0 < len(engine.heard) <= 3
    ended = run_batch([call], spec)
    assert len(engine.heard) == 3, "what was heard isn't heard again"
    assert len([name for name in ended.attempts if "/" in name]) < 6
    assert turns(segments(spec)) == ["left", "right", "left"]


def test_files_name_the_speakers(engine: Echo, spec: BatchSpec, call: Path) -> None:
    run_batch([call], replace(spec, channels="split"))
    srt, vtt, txt, tsv = ((Path(spec.output_dir) / f"call.{name}").read_text() for name in ("srt", "vtt", "txt", "tsv"))
    assert re.search(r"--> 00:00:\d\d,\d{3}\nright: soft( soft)*\n", srt)
    assert re.search(r"--> 00:\d\d\.\d{3}\n<v left>loud( loud)*\n", vtt)
    assert txt.startswith("left: loud")
    assert "left" not in tsv
    text = json.loads((Path(spec.output_dir) / "call.json").read_text())["text"]
    assert set(text.split()) == {"loud", "soft"}


@pytest.mark.parametrize(("channels", "said"), [("mix", {"loud", "soft"}), ("left", {"loud"}), ("right", {"soft"})])
@pytest.mark.parametrize("preprocess", [False, True])
def test_one_channel(
    engine: Echo, spec: BatchSpec, call: Path, channels: str, said: set[str], preprocess: bool
) -> None:
    run_batch([call], replace(spec, channels=channels, preprocess=preprocess))
    rows = segments(spec)
    assert {row["text"].split()[0] for row in rows} == said
    assert not any("speaker" in row for row in rows)


@pytest.mark.parametrize("preprocess", [False, True])
@pytest.mark.parametrize("gains", [(1.0,), (1.0, 1.0), (1.0, 0.3), (1.0, -1.0)])
def test_what_holds_one_voice_is_not_split(
    engine: Echo, spec: BatchSpec, samples: Path, tmp_path: Path, preprocess: bool, gains: tuple[float, ...]
) -> None:
    voice = decode.read(samples / "first_test.wav")
    soundfile.write(tmp_path / "call.flac", np.stack([voice * gain for gain in gains], axis=1), RATE)
    ended = run_batch([tmp_path / "call.flac"], replace(spec, channels="split", preprocess=preprocess))
    assert "speaker" not in segments(spec)[0]
    (found,) = (each for each in ended.state.records.values() if each.task.id.startswith("transcribe"))
    assert "not_split" in found.metrics["warnings"]
    assert len(engine.heard) == 1


def test_where_a_file_has_one_channel_only_for_a_while_nobody_says_it_twice(
    engine: Echo, spec: BatchSpec, call: Path, samples: Path, tmp_path: Path
) -> None:
    mono = (samples / "first_test.wav").read_bytes()
    (tmp_path / "call.wav").write_bytes(call.read_bytes() + mono)
    run_batch([tmp_path / "call.wav"], replace(spec, channels="split"))
    late = [row["speaker"] for row in segments(spec) if row["start"] > 26]
    assert set(late) == {"left"}


# Loudness


def loudness_by_ffmpeg(path: Path) -> float:
    if shutil.which("ffmpeg") is None:
        pytest.skip("the program ffmpeg isn't installed")
    command = ["ffmpeg", "-nostats", "-i", str(path), "-af", "ebur128", "-f", "null", "-"]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    return float(re.findall(r"I:\s+(-?[\d.]+) LUFS", told)[-1])


def converted(ended: Ended) -> Any:
    (found,) = (each for each in ended.state.records.values() if each.task.kind == "preprocess")
    return found.metrics


@pytest.mark.parametrize("factor", [1.0, 0.02, 8.0])
def test_recordings_are_as_loud_as_they_should_be(
    engine: Echo, spec: BatchSpec, samples: Path, tmp_path: Path, factor: float
) -> None:
    source = tmp_path / "talk.flac"
    audio = np.clip(decode.read(samples / "first_test.wav") * factor, -1, 1)
    soundfile.write(source, audio, RATE)
    ended = run_batch([source], replace(spec, loudness=True, keep_audio=True))
    made = Path(spec.output_dir) / "audio" / "talk.flac"
    before = loudness_by_ffmpeg(source)
    assert loudness_by_ffmpeg(made) == pytest.approx(-23.0, abs=0.3)
    assert converted(ended)["lufs"] == pytest.approx([before], abs=0.15)
    assert converted(ended)["gain_db"] == pytest.approx([-23.0 - before], abs=0.2)
    assert soundfile.info(made).frames == soundfile.info(source).frames
    assert holds(made, content_hash(source), Form(loudness=True))
    assert not holds(made, content_hash(source))


def test_peaks_are_limited_and_nothing_is_not_made_loud(engine: Echo, spec: BatchSpec, tmp_path: Path) -> None:
    noise = np.random.default_rng(1).normal(0, 0.003, 20 * RATE).astype(np.float32)
    noise[:: RATE // 2] = 0.9
    soundfile.write(tmp_path / "clicks.flac", noise, RATE)
    soundfile.write(tmp_path / "silent.flac", np.zeros(5 * RATE), RATE)
    run_batch([tmp_path], replace(spec, loudness=True, keep_audio=True))
    audio, _ = soundfile.read(Path(spec.output_dir) / "audio" / "clicks.flac")
    assert np.abs(audio).max() <= 10 ** (-0.95 / 20)
    assert not soundfile.read(Path(spec.output_dir) / "audio" / "silent.flac")[0].any()


def test_each_speaker_is_as_loud_as_the_other(engine: Echo, spec: BatchSpec, call: Path, tmp_path: Path) -> None:
    ended = run_batch([call], replace(spec, loudness=True, keep_audio=True, channels="split"))
    made = Path(spec.output_dir) / "audio" / "call.flac"
    audio, _ = soundfile.read(made)
    assert audio.shape == (26 * RATE, 2)
    for number in range(2):
        soundfile.write(tmp_path / "one.flac", audio[:, number], RATE)
        assert loudness_by_ffmpeg(tmp_path / "one.flac") == pytest.approx(-23.0, abs=0.3)
    assert len(converted(ended)["gain_db"]) == 2
    assert turns(segments(spec)) == ["left", "right", "left"]


# Tracks


@pytest.fixture
def film(samples: Path, tmp_path: Path) -> Path:
    """Two tracks: English and short, German and long."""
    if shutil.which("ffmpeg") is None:
        pytest.skip("the program ffmpeg isn't installed")
    path = tmp_path / "call.mka"
    inputs = ["-i", samples / "first_test.wav", "-i", samples / "talks" / "interview.m4a"]
    options = ["-map", "0:a", "-map", "1:a", "-metadata:s:a:0", "language=eng", "-metadata:s:a:1", "language=ger"]
    command = ["ffmpeg", "-v", "error", *inputs, *options, "-disposition:a:0", "default", path]
    subprocess.run(list(map(str, command)), check=True)
    return path


@pytest.mark.parametrize("preprocess", [False, True])
@pytest.mark.parametrize(("track", "length_s"), [("1", 7.5), ("2", 13.2), ("de", 13.2), ("deu", 13.2), ("en-GB", 7.5)])
def test_a_track_that_is_named_is_taken(
    engine: Echo, spec: BatchSpec, film: Path, track: str, length_s: float, preprocess: bool
) -> None:
    ended = run_batch([film], replace(spec, audio_track=track, preprocess=preprocess))
    (found,) = (each for each in ended.state.records.values() if each.task.id.startswith("transcribe"))
    assert found.metrics["duration_s"] == pytest.approx(length_s, abs=0.2)
    assert "several_tracks" not in found.metrics["warnings"]


@pytest.mark.parametrize("track", ["3", "fr"])
def test_a_track_that_is_not_there_fails_and_says_which_are(
    engine: Echo, spec: BatchSpec, film: Path, samples: Path, track: str
) -> None:
    ended = run_batch([film], replace(spec, audio_track=track))
    (found,) = ended.state.records.values()
    assert found.failure is not None
    assert (found.failure.code, found.failure.failure_class.value) == ("no_such_track", "permanent")
    assert "it has 1 eng, 2 ger" in found.failure.message
    alone = run_batch([samples / "first_test.wav"], replace(spec, audio_track=track, output_dir=spec.output_dir + "2"))
    assert set(alone.states.values()) == {"succeeded" if track == "fr" else "failed"}
