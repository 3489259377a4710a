"""A recording that changes while it is worked on: nothing of it is kept under the hash of what it was before."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import soundfile

from tests.support.speech_server import KEY, SpeechServer, constant
from trax_ray.core.spec import BatchSpec
from trax_ray.core.task import BatchTask, Outcome, Result, TaskType
from trax_ray.errors import FileError
from trax_ray.kinds import chunk as chunking
from trax_ray.kinds.assignment import Assignment
from trax_ray.kinds.chunk import CHUNK
from trax_ray.kinds.recording import Part
from trax_ray.kinds.request import REQUEST
from trax_ray.kinds.run import make_attempt, run
from trax_ray.media import decode
from trax_ray.media.speech import Segment, Span
from trax_ray.providers.credentials import hand_over
from trax_ray.store.artifacts import hash_of, unchanged
from trax_ray.store.layout import Layout

Disturb = Callable[..., None]


class Counted:
    """An engine that says how many samples it was given."""

    name = "counted"
    model = "counted-1"
    language = "en"

    def transcribe(self, audio: Any, speech: Sequence[Span], options: Any) -> Iterator[Segment]:
        yield Segment(0.0, 1.0, f"{len(audio)} samples", confidence=0.9)


@pytest.fixture
def talk(samples: Path, tmp_path: Path) -> Path:
    """A recording of half a minute."""
    path = tmp_path / "talk.wav"
    with decode.stream(samples / "stories" / "the_river.ogg", end_s=30.0) as blocks:
        soundfile.write(path, blocks.rest(), 16_000)
    return path


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BatchSpec:
    monkeypatch.setattr(chunking, "_engine", lambda model, resources: Counted())
    return BatchSpec(str(tmp_path / "out"), model="counted-1", formats=("txt",))


@pytest.fixture
def served(tmp_path: Path) -> Iterator[BatchSpec]:
    """A batch that asks a service."""
    hand_over({"OPENAI_API_KEY": KEY})
    with SpeechServer(constant("The river runs.")) as server:
        yield BatchSpec(str(tmp_path / "out"), model="whisper-1", formats=("txt",), base_url=server.url)
    hand_over({})


@pytest.fixture
def other(samples: Path, tmp_path: Path) -> Path:
    """Another recording, of the same size and time as `talk`, where it is asked for."""
    return samples / "first_test.wav"


@pytest.fixture
def disturb(monkeypatch: pytest.MonkeyPatch) -> Disturb:
    """Lets a recording change, once, before it is decoded for the next time."""

    def disturbed(change: Callable[[], object]) -> None:
        stream = decode.stream
        left = [change]

        def changed(*arguments: Any, **options: Any) -> Any:
            while left:
                left.pop()()
            return stream(*arguments, **options)

        monkeypatch.setattr(decode, "stream", changed)

    return disturbed


def transcription(path: Path, **more: Any) -> BatchTask:
    return BatchTask("t", TaskType.TRANSCRIBE, {"file_path": str(path), "name": "talk", "output": "talk"}, **more)


def part(path: Path, kind: Any) -> BatchTask:
    task: BatchTask = kind.task(Part(str(path), 2.0, 20.0), id="t/0", parent="t", chunk=0)
    return task


def ended(spec: BatchSpec, task: BatchTask, **more: Any) -> Outcome:
    *_, outcome = make_attempt(Assignment(spec, task, **more))
    assert isinstance(outcome, Outcome)
    return outcome


def made(spec: BatchSpec) -> list[str]:
    """What is kept of a recording."""
    return sorted(path.name for path in Layout(Path(spec.output_dir)).artifacts.rglob("*.json"))


KINDS = {
    "a short one": lambda path: transcription(path),
    "a chunk": lambda path: part(path, CHUNK),
    "a conversion": lambda path: BatchTask("p", TaskType.PREPROCESS, {"file_path": str(path), "output": "audio/talk"}),
}


@pytest.mark.parametrize(
    "how", ["replaced", "rewritten in place", "rewritten with its old time", "cut off", "no audio"]
)
@pytest.mark.parametrize("kind", KINDS)
def test_what_was_replaced_after_it_was_hashed_is_not_committed_under_the_old_hash(
    kind: str, how: str, spec: BatchSpec, talk: Path, other: Path, tmp_path: Path, disturb: Disturb
) -> None:
    before = talk.stat()

    def change() -> None:
        if how == "replaced":
            shutil.copy(other, tmp_path / "other.wav").replace(talk)
        elif how == "no audio":
            talk.write_bytes(b"no audio at all")
        elif how == "cut off":
            os.truncate(talk, before.st_size // 2)
        else:
            data = other.read_bytes()[: before.st_size]
            talk.write_bytes(data + bytes(before.st_size - len(data)))
            if "old time" in how:
                os.utime(talk, ns=(before.st_atime_ns, before.st_mtime_ns))
                assert (talk.stat().st_size, talk.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)

    disturb(change)
    failure = ended(spec, KINDS[kind](talk)).failure
    assert failure is not None
    assert (failure.code, failure.failure_class.value) == ("changed_while_read", "transient")
    assert made(spec) == []
    assert not (Path(spec.output_dir) / "audio" / "talk.flac").exists()
    if how != "no audio":
        again = ended(spec, KINDS[kind](talk))
        assert again.failure is None, "what it is now has a result of its own"


def test_a_long_one_that_changes_is_not_cut(spec: BatchSpec, talk: Path, other: Path, disturb: Disturb) -> None:
    cut = BatchSpec.from_dict({**spec.to_dict(), "chunk_size_s": 10})
    disturb(lambda: shutil.copy(other, talk))
    outcome = ended(cut, transcription(talk))
    assert outcome.failure is not None
    assert outcome.failure.code == "changed_while_read"
    assert (outcome.children, made(cut)) == ((), [])


@pytest.mark.parametrize("what", ["when it is cut", "when it is sent"])
def test_what_changes_is_not_sent_to_a_service_under_the_old_hash(
    what: str, served: BatchSpec, talk: Path, other: Path, disturb: Disturb
) -> None:
    task = transcription(talk) if what == "when it is cut" else part(talk, REQUEST)
    disturb(lambda: shutil.copy(other, talk))
    failure = ended(served, task).failure
    assert failure is not None
    assert failure.code == "changed_while_read"
    assert made(served) == []
    assert not list(Layout(Path(served.output_dir)).private.glob("uploads/*"))


def test_audio_that_was_converted_from_what_it_was_is_taken(spec: BatchSpec, talk: Path, disturb: Disturb) -> None:
    """The conversion looked at it; what happens to the recording after that is of another transcript."""
    soundfile.write(talk, soundfile.read(talk)[0], 22_050)
    conversion = ended(spec, BatchTask("p", TaskType.PREPROCESS, {"file_path": str(talk)}, file_id="f"))
    needed = {"p": Result(conversion.artifact_key, conversion.metrics, "preprocess")}
    disturb(lambda: talk.write_bytes(b"gone"))
    *_, outcome = run(Assignment(spec, transcription(talk, depends_on=("p",), file_id="f"), needed=needed))
    assert isinstance(outcome, Outcome)
    assert outcome.failure is None


def test_a_file_that_only_got_another_inode_number_is_the_same(talk: Path, tmp_path: Path) -> None:
    """As some network file systems give it now and then."""
    seen = hash_of(talk)
    with unchanged(type(seen)(seen.path, seen.content, (*seen.identity[:-1], seen.identity[-1] + 1))):
        pass
    other = type(seen)(seen.path, "0" * 64, (*seen.identity[:-1], seen.identity[-1] + 1))
    with pytest.raises(FileError, match="changed while it was read"), unchanged(other):
        pass


def test_what_goes_wrong_with_a_file_that_stays_is_what_it_is(talk: Path) -> None:
    with pytest.raises(FileError, match="of its own"), unchanged(hash_of(talk)):
        raise FileError("of its own")
