"""TRANSCRIBE without Ray and without a model: what is decoded, recognised, kept and written, and how often."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from trax_ray.core.spec import BatchSpec
from trax_ray.core.task import BatchTask, Outcome, Result, TaskType
from trax_ray.errors import FileError, MediaError
from trax_ray.kinds import chunk as chunking
from trax_ray.kinds import conversion, recording
from trax_ray.kinds.assignment import Assignment, Progress
from trax_ray.kinds.preprocess import PREPROCESS, PreprocessData
from trax_ray.kinds.recording import Recording
from trax_ray.kinds.run import run
from trax_ray.kinds.transcribe import TRANSCRIBE
from trax_ray.media import decode
from trax_ray.media.speech import Segment, Span
from trax_ray.store.artifacts import Hashed, content_hash
from trax_ray.store.layout import Layout
from trax_ray.store.lease import Lease


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
    monkeypatch.setattr(chunking, "_engine", lambda model, resources: echo)
    return echo


@pytest.fixture
def spec(tmp_path: Path) -> BatchSpec:
    return BatchSpec(str(tmp_path / "out"), model="echo-1", formats=("txt", "json"))


def task(path: Path, name: str = "talk", **data: Any) -> BatchTask:
    return BatchTask(name, TaskType.TRANSCRIBE, {"file_path": str(path), "name": path.name, "output": name, **data})


def assignment(spec: BatchSpec, one: BatchTask, children: Mapping[str, str] | None = None) -> Assignment:
    """With what the tasks made that it depends on: audio."""
    made = {"content": content_hash(Path(one.data["file_path"]))} if one.depends_on else {}
    needed = {name: Result("", made | {"audio": name.partition(":")[2]}, "preprocess") for name in one.depends_on}
    parts = {name: Result(key, {}, "chunk") for name, key in (children or {}).items()}
    return Assignment(spec, one, children=parts, needed=needed)


def attempt(spec: BatchSpec, one: BatchTask, children: Mapping[str, str] | None = None) -> Outcome:
    *_, outcome = run(assignment(spec, one, children))
    assert isinstance(outcome, Outcome)
    return outcome


def job_of(spec: BatchSpec, one: BatchTask) -> Recording:
    return Recording.of(assignment(spec, one), TRANSCRIBE.read(one))


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


@pytest.mark.parametrize(
    "changed", [{"model": "echo-2"}, {"language": "de"}, {"word_timestamps": True}, {"vad": "high"}]
)
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


def test_subtitles_are_shaped_anew_from_the_same_artifact(
    engine: Echo, spec: BatchSpec, samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hurried(audio: Any, speech: Sequence[Span], options: Any) -> Iterator[Segment]:
        yield Segment(0.0, 0.4, "four words are here, and")
        yield Segment(0.4, 2.0, "four more")

    monkeypatch.setattr(engine, "transcribe", hurried)
    one = task(samples / "first_test.wav")
    first = attempt(spec, one)
    assert "fast_subtitles" not in first.metrics["warnings"]
    second = attempt(replace(spec, subtitle_style="bbc", max_line_width=12, formats=("vtt", "json")), one)
    assert second.artifact_key == first.artifact_key
    assert "fast_subtitles" in second.metrics["warnings"]
    assert json.loads((Path(spec.output_dir) / "talk.json").read_text())["fast_cues"][0][0] == 0.0
    lines = [line for line in (Path(spec.output_dir) / "talk.vtt").read_text().splitlines()[2:] if "-->" not in line]
    assert max(map(len, lines)) <= 12


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
    monkeypatch.setattr(recording, "CLAIM_PERIOD_S", 0.0)
    one = task(samples / "first_test.wav")
    job = job_of(spec, one)
    lease = Lease(job.layout.claim(job.content))
    lease.acquire("somebody else")
    working = run(assignment(spec, one))
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
    job = job_of(spec, whole)
    job.store.path(next(iter(keys.values()))).unlink()
    assert attempt(spec, whole, children=keys).failure is None
    assert engine.calls == calls + 1


def test_silence_is_never_given_to_the_engine(engine: Echo, spec: BatchSpec, samples: Path) -> None:
    outcome = attempt(spec, task(samples / "quiet_room.flac"))
    assert engine.calls == 0
    assert (outcome.metrics["no_speech"], outcome.metrics["warnings"]) == (True, ["no_speech"])
    assert written(spec, "talk") == ""


@pytest.mark.parametrize("chunk_size_s", [600, 30])
def test_speech_that_the_engine_left_out_is_told_of(
    engine: Echo, spec: BatchSpec, samples: Path, monkeypatch: pytest.MonkeyPatch, chunk_size_s: int
) -> None:
    """An engine that stops early, as Whisper does: the figure, the warning and the place, in pieces or at once."""
    recording, spec = samples / "stories" / "the_river.ogg", replace(spec, chunk_size_s=chunk_size_s)
    monkeypatch.setattr(
        engine, "transcribe", lambda audio, speech, options: iter([Segment(0.0, 10.0, "word " * 20, confidence=0.9)])
    )
    outcome = attempt(spec, task(recording))
    if outcome.children:
        made = [attempt(spec, child) for child in outcome.children]
        keys = {child.id: str(each.artifact_key) for child, each in zip(outcome.children, made, strict=True)}
        outcome = attempt(spec, task(recording), children=keys)
    assert "coverage" in outcome.metrics["warnings"]
    assert outcome.metrics["uncovered_s"] > 30.0
    kept = json.loads(Layout(Path(spec.output_dir)).transcript("talk", "json").read_text())["uncovered"]
    assert kept[0][0] == pytest.approx(10.5, abs=2.0)
    assert sum(end_s - start_s for start_s, end_s in kept) == pytest.approx(outcome.metrics["uncovered_s"], abs=0.01)


def test_accuracy_is_measured_against_a_reference(engine: Echo, spec: BatchSpec, samples: Path, tmp_path: Path) -> None:
    reference = tmp_path / "reference.txt"
    text = attempt(spec, task(samples / "first_test.wav")).metrics["words"] * "Word, "
    reference.write_text(f"{text} and more")
    metrics = attempt(spec, task(samples / "first_test.wav", reference=str(reference))).metrics
    assert (metrics["wer_errors"], metrics["wer_words"]) == (2, len(text.split()) + 2)
    assert metrics["accuracy_unit"] == "words"
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


# Converted audio


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The sources of all conversions, in order."""
    made: list[Path] = []
    convert = conversion._convert

    def counted(source: Hashed, *more: Any) -> Any:
        made.append(source.path)
        return convert(source, *more)

    monkeypatch.setattr(conversion, "_convert", counted)
    return made


def audio_of(spec: BatchSpec, name: str = "talk") -> Path:
    return conversion.private_audio(Layout(Path(spec.output_dir)), name)


def converted(spec: BatchSpec, path: Path, name: str = "talk", audio: str = "") -> BatchTask:
    """A task that depends on one that left audio there."""
    return replace(task(path, name), depends_on=(f"p-{name}:{audio or f'.trax/audio/{name}.flac'}",))


def prepare(spec: BatchSpec, one: BatchTask, output: str = "") -> Outcome:
    data = PreprocessData(one.data["file_path"], output=output)
    first = PREPROCESS.task(data, id=f"p-{one.id}", file_id=one.file_id)
    *_, outcome = run(Assignment(spec, first))
    assert isinstance(outcome, Outcome)
    return outcome


def test_converted_audio_is_decoded_in_place_of_the_recording_and_goes_with_the_transcript(
    engine: Echo, spec: BatchSpec, samples: Path, conversions: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = converted(spec, samples / "talks" / "interview.m4a")
    prepare(spec, one)
    assert audio_of(spec).is_file()
    decoded: list[Path] = []
    stream = decode.stream
    monkeypatch.setattr(decode, "stream", lambda path, **more: decoded.append(path) or stream(path, **more))
    outcome = attempt(spec, one)
    assert (decoded, conversions) == ([audio_of(spec)], [samples / "talks" / "interview.m4a"])
    assert not audio_of(spec).exists()
    assert outcome.metrics["outputs"] == ["talk.txt", "talk.json"]
    assert outcome.metrics["duration_s"] == pytest.approx(13.2, abs=0.1)


def test_a_transcript_of_converted_audio_has_a_key_of_its_own_that_starts_from_the_recording(
    engine: Echo, spec: BatchSpec, samples: Path, tmp_path: Path
) -> None:
    direct = attempt(spec, task(samples / "first_test.wav"))
    through_flac = attempt(spec, converted(spec, samples / "first_test.wav"))
    assert through_flac.artifact_key != direct.artifact_key
    copy = tmp_path / "copy.wav"
    shutil.copy(samples / "first_test.wav", copy)
    kept = converted(spec, copy, "copy", audio="audio/copy.flac")
    assert attempt(spec, kept).artifact_key == through_flac.artifact_key
    assert engine.calls == 2


def test_audio_that_is_missing_is_made_and_where_the_transcript_is_there_it_is_not(
    engine: Echo, spec: BatchSpec, samples: Path, conversions: list[Path]
) -> None:
    one = converted(spec, samples / "first_test.wav")
    attempt(spec, one)
    assert (len(conversions), engine.calls) == (1, 1)
    Layout(Path(spec.output_dir)).transcript("talk", "txt").unlink()
    assert attempt(spec, one).metrics["cached"]
    assert written(spec, "talk")
    assert (len(conversions), engine.calls) == (1, 1)
    attempt(replace(spec, model="echo-2"), one)
    assert (len(conversions), engine.calls) == (2, 2)
    assert not audio_of(spec).exists()


def test_chunks_decode_the_same_audio_and_the_assembly_deletes_it(
    engine: Echo, spec: BatchSpec, samples: Path, conversions: list[Path]
) -> None:
    spec = replace(spec, chunk_size_s=10)
    whole = converted(spec, samples / "long_pause.ogg")
    prepare(spec, whole)
    children = attempt(spec, whole).children
    assert len(children) >= 3
    keys = {}
    for child in children:
        keys[child.id] = attempt(spec, child).artifact_key
        assert audio_of(spec).is_file(), "other chunks need it"
    outcome = attempt(spec, whole, children=keys)
    assert outcome.metrics["duration_s"] == pytest.approx(27.6, abs=0.1)
    assert len(conversions) == 1
    assert not audio_of(spec).exists()


def test_a_chunk_that_is_gone_with_the_audio_is_made_from_the_recording_again(
    engine: Echo, spec: BatchSpec, samples: Path, conversions: list[Path]
) -> None:
    spec = replace(spec, chunk_size_s=10)
    whole = converted(spec, samples / "long_pause.ogg")
    children = attempt(spec, whole).children
    keys = {child.id: attempt(spec, child).artifact_key for child in children}
    first = attempt(spec, whole, children=keys)
    store = job_of(spec, whole).store
    for key in (first.artifact_key, keys[children[0].id]):
        store.path(key).unlink()
    calls = engine.calls
    again = attempt(spec, whole, children=keys)
    assert (again.artifact_key, engine.calls, len(conversions)) == (first.artifact_key, calls + 1, 2)
    assert not audio_of(spec).exists()


def test_audio_that_is_kept_and_audio_that_a_user_asked_for_stay(engine: Echo, spec: BatchSpec, samples: Path) -> None:
    kept = converted(spec, samples / "first_test.wav", audio="audio/talk.flac")
    left_behind = audio_of(spec)
    left_behind.parent.mkdir(parents=True)
    left_behind.write_bytes(b"of an earlier run that kept no audio")
    prepare(spec, kept, "audio/talk")
    attempt(spec, kept)
    folder = Path(spec.output_dir)
    assert (folder / "audio" / "talk.flac").is_file()
    assert not left_behind.exists()
    own = BatchTask("own", TaskType.PREPROCESS, {"file_path": str(samples / "first_test.wav"), "output": "audio/own"})
    assert list(run(Assignment(spec, own)))
    attempt(spec, task(folder / "audio" / "own.flac", "own"))
    assert (folder / "audio" / "own.flac").is_file()


def test_audio_of_what_a_recording_was_before_is_not_mistaken_for_it(
    engine: Echo, spec: BatchSpec, samples: Path, tmp_path: Path, conversions: list[Path]
) -> None:
    talk = tmp_path / "talk.wav"
    shutil.copy(samples / "first_test.wav", talk)
    prepare(spec, converted(spec, talk))
    shutil.copy(samples / "stories" / "the_storm.mp3", talk)
    outcome = attempt(spec, converted(spec, talk))
    assert outcome.metrics["duration_s"] == pytest.approx(6.8, abs=0.1)
    assert len(conversions) == 2


def test_what_the_decoder_said_of_the_recording_is_said_of_its_transcript(
    engine: Echo, spec: BatchSpec, samples: Path, tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged.wav"
    damaged.write_bytes((samples / "first_test.wav").read_bytes()[:100_000])
    assert "truncated" in attempt(spec, converted(spec, damaged)).metrics["warnings"]
    assert "truncated" in Layout(Path(spec.output_dir)).transcript("talk", "json").read_text()


def test_whoever_needs_audio_that_another_is_making_waits_for_it(
    engine: Echo, spec: BatchSpec, samples: Path, conversions: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "CLAIM_PERIOD_S", 0.0)
    spec = replace(spec, chunk_size_s=10)
    whole = converted(spec, samples / "long_pause.ogg")
    children = attempt(spec, whole).children
    audio_of(spec).unlink()
    lease = Lease(Layout(Path(spec.output_dir)).claim(f"-{whole.file_id}"))
    lease.acquire("another chunk")
    working = run(assignment(spec, children[0]))
    assert [type(next(working)) for _ in range(5)] == [Progress] * 5
    assert len(conversions) == 1
    lease.release()
    *_, outcome = working
    assert isinstance(outcome, Outcome)
    assert len(conversions) == 2


def test_a_recording_that_cannot_be_converted_leaves_nothing_behind(
    engine: Echo, spec: BatchSpec, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"RIFF and so on")
    with pytest.raises(MediaError, match=r"bad\.wav"):
        attempt(spec, converted(spec, bad))
    assert not list((Path(spec.output_dir) / ".trax" / "audio").iterdir())


def test_audio_of_another_recording_on_which_a_task_depends_is_not_taken_for_its_own(
    engine: Echo, spec: BatchSpec, samples: Path, conversions: list[Path]
) -> None:
    """Somebody wants one after the other, and no more."""
    one = replace(task(samples / "first_test.wav"), depends_on=("p",))
    figures = {"audio": ".trax/audio/p.flac", "content": content_hash(samples / "stories" / "the_storm.mp3")}
    *_, outcome = run(Assignment(spec, one, needed={"p": Result("", figures, "preprocess")}))
    assert isinstance(outcome, Outcome)
    assert outcome.metrics["duration_s"] == pytest.approx(7.5, abs=0.1)
    assert conversions == []
    assert outcome.artifact_key == attempt(spec, task(samples / "first_test.wav")).artifact_key
