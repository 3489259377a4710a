"""TRANSCRIBE by a service, without Ray: what is prepared, asked for, paid, kept and assembled, and how often."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.support.speech_server import (
    KEY,
    Call,
    Fault,
    Limits,
    Recordings,
    SpeechServer,
    Transcript,
    constant,
    faults,
)
from trax_ray.core.limits import pace
from trax_ray.core.limits.signals import SignalKind
from trax_ray.core.spec import BatchSpec
from trax_ray.core.task import BatchTask, Outcome, Result, TaskType
from trax_ray.errors import FileError
from trax_ray.kinds import request as service
from trax_ray.kinds import uploads as preparing
from trax_ray.kinds.assignment import Assignment
from trax_ray.kinds.recording import Recording
from trax_ray.kinds.run import run
from trax_ray.kinds.transcribe import TRANSCRIBE
from trax_ray.media import chunking, decode, vad
from trax_ray.media.encode import wav
from trax_ray.media.speech import Word
from trax_ray.media.vad import speech_spans
from trax_ray.providers.credentials import hand_over
from trax_ray.store.artifacts import content_hash
from trax_ray.store.layout import Layout
from trax_ray.store.lease import Lease
from trax_ray.store.system import System

TEXT = "The train leaves at nine. Bring your coat."

Start = Callable[..., SpeechServer]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts servers that end with the test, and hands their key to this process."""
    servers: list[SpeechServer] = []

    def begin(script: Any = None, **options: Any) -> SpeechServer:
        servers.append(SpeechServer(script or constant(TEXT), **options).start())
        return servers[-1]

    hand_over({"OPENAI_API_KEY": KEY})
    yield begin
    hand_over({})
    for server in servers:
        server.close()


@pytest.fixture(scope="module")
def river(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty seconds of speech."""
    with decode.stream(samples / "stories" / "the_river.ogg", end_s=40.0) as blocks:
        audio = blocks.rest()
    path = tmp_path_factory.mktemp("recordings") / "river.wav"
    soundfile.write(path, audio, 16_000)
    return path


@pytest.fixture
def pause(samples: Path) -> Path:
    """Speech with a long pause in it."""
    return samples / "long_pause.ogg"


def spec_of(server: SpeechServer, out: Path, **fields: Any) -> BatchSpec:
    return BatchSpec(str(out), **{"model": "whisper-1", "base_url": server.url, "formats": ("txt", "json"), **fields})


def task(path: Path, name: str = "talk", **data: Any) -> BatchTask:
    more = {"file_path": str(path), "name": path.name, "output": name, **data}
    return BatchTask(name, TaskType.TRANSCRIBE, more, provider="openai")


def attempt(spec: BatchSpec, one: BatchTask, *, children: Mapping[str, str] | None = None, **more: Any) -> Outcome:
    """An attempt in a process of its own."""
    made = {name: Result(key, {}, "request") for name, key in (children or {}).items()}
    *_, outcome = run(Assignment(spec, one, children=made, **more))
    assert isinstance(outcome, Outcome)
    return outcome


async def call(spec: BatchSpec, one: BatchTask) -> Outcome:
    return await service.call(Assignment(spec, one))


def ask(spec: BatchSpec, requests: list[BatchTask] | tuple[BatchTask, ...]) -> list[Outcome]:
    """The outcomes of requests that share a loop."""

    async def together() -> list[Outcome]:
        try:
            return await asyncio.gather(*(call(spec, one) for one in requests))
        finally:
            await service.close()

    return asyncio.run(together())


def through(spec: BatchSpec, one: BatchTask) -> tuple[Outcome, list[Outcome]]:
    """A recording from its preparation to its transcript: the last outcome, and those of its requests."""
    planned = attempt(spec, one)
    if not planned.children:
        return planned, []
    asked = ask(spec, planned.children)
    assert [outcome.failure for outcome in asked] == [None] * len(asked)
    keys = {child.id: outcome.artifact_key for child, outcome in zip(planned.children, asked, strict=True)}
    done = attempt(spec, one, attempt=2, children=keys)
    assert not done.children
    return done, asked


def job_of(spec: BatchSpec, one: BatchTask) -> Recording:
    return Recording.of(Assignment(spec, one), TRANSCRIBE.read(one))


def uploads(spec: BatchSpec) -> list[Path]:
    return sorted((Layout(Path(spec.output_dir)).private / "uploads").glob("*"))


def written(spec: BatchSpec, name: str = "talk") -> dict[str, Any]:
    content: dict[str, Any] = json.loads(Layout(Path(spec.output_dir)).transcript(name, "json").read_text())
    return content


def claims(spec: BatchSpec) -> list[Path]:
    return [path for path in Layout(Path(spec.output_dir)).claim("calls").rglob("*") if path.is_file()]


# From a recording to its transcript


def test_a_short_recording_is_one_request(start: Start, samples: Path, tmp_path: Path) -> None:
    server = start()
    spec = spec_of(server, tmp_path / "out")
    planned = attempt(spec, task(samples / "first_test.wav"))
    (request,) = planned.children
    assert (request.shared, request.chunk, request.parent, request.provider) == (True, 0, "talk", "openai")
    assert server.ledger.entries == [], "who prepares doesn't ask"
    assert [path.suffix for path in uploads(spec)] == [".ogg"]

    (asked,) = ask(spec, planned.children)
    assert asked.signal is not None
    assert (asked.signal.kind, asked.signal.status) == (SignalKind.OK, 200)
    done = attempt(spec, task(samples / "first_test.wav"), attempt=2, children={request.id: asked.artifact_key})
    assert done.failure is None
    assert done.metrics["outputs"] == ["talk.txt", "talk.json"]
    assert written(spec)["text"] == TEXT
    assert (done.metrics["language"], done.metrics["model"]) == ("en", "whisper-1")
    assert done.metrics["estimated_accuracy"] == pytest.approx(80.0)
    assert server.ledger.sums.paid == 1


def test_each_channel_is_asked_for_and_paid_by_itself(start: Start, samples: Path, tmp_path: Path) -> None:
    voice, _ = soundfile.read(samples / "first_test.wav", dtype="float32")
    both = np.zeros((2 * len(voice), 2), dtype=np.float32)
    both[: len(voice), 0], both[len(voice) :, 1] = voice, voice
    soundfile.write(tmp_path / "call.flac", both, 16_000)
    server = start()
    spec = spec_of(server, tmp_path / "out", channels="split")
    done, asked = through(spec, task(tmp_path / "call.flac"))
    assert (len(asked), server.ledger.sums.paid) == (2, 2)
    speakers = {segment["speaker"]: segment["start"] for segment in written(spec)["segments"]}
    assert speakers["left"] < 7.0 < speakers["right"]
    assert done.metrics["duration_s"] == pytest.approx(2 * len(voice) / 16_000, abs=0.01)
    assert uploads(spec) == []
    again, _ = through(spec, task(tmp_path / "call.flac"))
    assert (again.metrics["cached"], server.ledger.sums.paid) == (True, 2)


def test_times_are_those_of_the_recording(start: Start, river: Path, tmp_path: Path) -> None:
    """Every word lands where it was spoken, in whichever request it was sent."""
    audio = decode.read(river)
    words = [
        Word(round(float(at), 3), round(float(at) + 0.3, 3), f"w{span_number}x{number}")
        for span_number, span in enumerate(speech_spans(audio))
        for number, at in enumerate(np.arange(span.start_s + 0.1, span.end_s - 0.4, 0.5))
    ]
    assert len(words) > 40
    recordings = Recordings()
    recordings.add(river, words=words)
    server = start(recordings)
    spec = spec_of(server, tmp_path / "out", chunk_size_s=10, word_timestamps=True)
    done, asked = through(spec, task(river))
    assert len(asked) >= 4
    assert done.metrics["chunks"] >= len(asked)

    segments = written(spec)["segments"]
    found = [word for segment in segments for word in segment["words"]]
    assert [word["word"] for word in found] == [word.text for word in words], "each once, in order"
    assert max(abs(got["start"] - word.start_s) for got, word in zip(found, words, strict=True)) < 0.1
    by_word = {said: segment for segment in segments for said in segment["text"].split()}
    for word in words:
        segment = by_word[word.text]
        assert segment["start"] - 0.1 <= word.start_s
        assert word.end_s <= segment["end"] + 0.1
    assert all(before["end"] <= after["start"] + 0.05 for before, after in pairwise(segments))


def test_speech_that_a_service_left_out_is_told_of(start: Start, river: Path, tmp_path: Path) -> None:
    spans = [span for span in speech_spans(decode.read(river)) if span.end_s < 15.0]
    places = [(span, place) for span in spans for place in range(int((span.end_s - span.start_s) / 0.4))]
    words = [Word(span.start_s + 0.4 * place, span.start_s + 0.4 * place + 0.4, "so") for span, place in places]
    recordings = Recordings()
    recordings.add(river, words=words)
    spec = spec_of(start(recordings), tmp_path / "out")
    done, _ = through(spec, task(river))
    assert "coverage" in done.metrics["warnings"]
    assert done.metrics["uncovered_s"] > 10.0
    assert min(start_s for start_s, _ in written(spec)["uncovered"]) >= 10.0


def test_text_without_times_is_asked_for_in_short_pieces_and_says_that_times_are_made_up(
    start: Start, river: Path, tmp_path: Path
) -> None:
    audio = decode.read(river)
    spans = speech_spans(audio)
    words = [Word(span.start_s, span.end_s, f"w{number}") for number, span in enumerate(spans)]
    recordings = Recordings()
    recordings.add(river, words=words)
    server = start(recordings)
    spec = spec_of(server, tmp_path / "out", model="gpt-transcribe")
    done, asked = through(spec, task(river))
    assert len(asked) >= 2, "forty seconds, thirty at the most"
    assert max(entry.audio_s for entry in server.ledger.entries) <= 30.1
    assert "made_up_segment_times" in done.metrics["warnings"]
    segments = written(spec)["segments"]
    assert len(segments) == len(asked)
    for segment in segments:
        for said in segment["text"].split():
            word = words[int(said[1:])]
            assert segment["start"] - 0.1 <= word.start_s
            assert word.end_s <= segment["end"] + 0.1
    assert " ".join(segment["text"] for segment in segments).split() == [word.text for word in words]


def test_speakers_come_through_to_the_transcript(start: Start, samples: Path, tmp_path: Path) -> None:
    spoken = Transcript.spoken(TEXT, 3.0)
    said = replace(spoken, speakers=("A", "B"))
    spec = spec_of(start(lambda _: said), tmp_path / "out", model="gpt-4o-transcribe-diarize")
    through(spec, task(samples / "first_test.wav"))
    assert [segment["speaker"] for segment in written(spec)["segments"]] == ["A", "B"]


def test_what_a_recording_asks_for_is_sent(start: Start, samples: Path, tmp_path: Path) -> None:
    server = start()
    spec = spec_of(server, tmp_path / "out", language="de", initial_prompt="Ray")
    through(spec, task(samples / "first_test.wav", language="en", prompt="Trax"))
    assert server.ledger.entries[0].fields["language"] == ["en"]
    assert server.ledger.entries[0].fields["prompt"] == ["Trax"]


# What costs nothing


def test_silence_is_settled_without_asking(start: Start, samples: Path, tmp_path: Path) -> None:
    server = start()
    spec = spec_of(server, tmp_path / "out")
    done, asked = through(spec, task(samples / "quiet_room.flac"))
    assert done.failure is None
    assert asked == []
    assert (written(spec)["text"], done.metrics["warnings"]) == ("", ["no_speech"])
    assert server.ledger.entries == []


def test_silent_stretches_are_not_sent(start: Start, pause: Path, tmp_path: Path) -> None:
    server = start()
    spec = spec_of(server, tmp_path / "out", chunk_size_s=10)
    done, asked = through(spec, task(pause))
    assert done.metrics["chunks"] > len(asked) >= 1
    length_s = done.metrics["duration_s"]
    assert server.ledger.sums.audio_s < 0.75 * length_s, "the pause isn't paid for"
    assert server.ledger.sums.audio_s == pytest.approx(done.metrics["speech_s"], rel=0.35)


def test_what_was_paid_is_not_asked_for_again(start: Start, river: Path, tmp_path: Path) -> None:
    server = start()
    spec = spec_of(server, tmp_path / "out", chunk_size_s=10)
    first, asked = through(spec, task(river))
    assert server.ledger.sums.received == len(asked)
    again, more = through(replace(spec, formats=("srt",)), task(river))
    assert (again.artifact_key, again.metrics["cached"], more) == (first.artifact_key, True, [])
    assert server.ledger.sums.received == len(asked)


def test_a_request_whose_answer_is_there_is_not_made(start: Start, river: Path, tmp_path: Path) -> None:
    server = start()
    spec = spec_of(server, tmp_path / "out", chunk_size_s=10)
    planned = attempt(spec, task(river))
    first = ask(spec, planned.children)
    paid = server.ledger.sums.paid
    second = ask(spec, planned.children)
    assert [outcome.artifact_key for outcome in second] == [outcome.artifact_key for outcome in first]
    assert all(outcome.metrics["cached"] and outcome.signal is None for outcome in second)
    assert server.ledger.sums.paid == paid == server.ledger.sums.received


def test_after_a_loss_only_the_missing_requests_are_planned(start: Start, river: Path, tmp_path: Path) -> None:
    server = start()
    spec = spec_of(server, tmp_path / "out", chunk_size_s=10)
    planned = attempt(spec, task(river))
    done = ask(spec, planned.children)
    job = job_of(spec, task(river))
    job.store.path(done[1].artifact_key).unlink()
    keys = {child.id: outcome.artifact_key for child, outcome in zip(planned.children, done, strict=True)}
    again = attempt(spec, task(river), attempt=2, children=keys)
    (missing,) = again.children
    assert missing.id == planned.children[1].id
    assert missing.fingerprint != planned.children[1].fingerprint, "it has succeeded before, and is done again"


def test_copies_are_paid_once(start: Start, samples: Path, tmp_path: Path) -> None:
    server = start(limits=Limits(delay_s=0.3))
    spec = spec_of(server, tmp_path / "out")
    shutil.copy(samples / "first_test.wav", tmp_path / "copy.wav")
    one, copy = task(samples / "first_test.wav"), task(tmp_path / "copy.wav", "copy")
    requests = [*attempt(spec, one).children, *attempt(spec, copy).children]
    assert len(requests) == 2
    first, second = ask(spec, requests)
    assert first.artifact_key == second.artifact_key
    assert {bool(first.metrics.get("cached")), bool(second.metrics.get("cached"))} == {True, False}
    assert server.ledger.sums.received == 1
    keys = {requests[1].id: second.artifact_key}
    done = attempt(spec, copy, attempt=2, children=keys)
    assert done.failure is None
    assert written(spec, "copy")["text"] == TEXT
    assert server.ledger.sums.received == 1
    assert claims(spec) == [], "locks go with what they were for"


def test_copies_in_two_processes_are_paid_once(start: Start, samples: Path, tmp_path: Path) -> None:
    """Two loops in two threads stand for two processes: they share nothing but the folder."""
    server = start(limits=Limits(delay_s=0.3))
    spec = spec_of(server, tmp_path / "out")
    (request,) = attempt(spec, task(samples / "first_test.wav")).children
    outcomes: list[Outcome] = []
    threads = [threading.Thread(target=lambda: outcomes.extend(ask(spec, [request]))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert len({outcome.artifact_key for outcome in outcomes}) == 1
    assert len(outcomes) == 3
    assert server.ledger.sums.received == 1


@pytest.mark.parametrize(
    "changed",
    [{"language": "en"}, {"initial_prompt": "Ray"}, {"word_timestamps": True}, {"model": "gpt-transcribe"}],
)
def test_what_matters_is_asked_for_anew(start: Start, samples: Path, tmp_path: Path, changed: dict[str, Any]) -> None:
    server = start()
    spec = spec_of(server, tmp_path / "out")
    through(spec, task(samples / "first_test.wav"))
    through(replace(spec, **changed), task(samples / "first_test.wav"))
    assert server.ledger.sums.received == 2


def test_another_server_is_another_engine(start: Start, samples: Path, tmp_path: Path) -> None:
    one, other = start(), start(constant("Something else is said here."))
    through(spec_of(one, tmp_path / "out"), task(samples / "first_test.wav"))
    through(spec_of(other, tmp_path / "out"), task(samples / "first_test.wav"))
    assert (one.ledger.sums.received, other.ledger.sums.received) == (1, 1)


# Uploads


def test_uploads_go_when_the_transcript_is_there(start: Start, river: Path, tmp_path: Path) -> None:
    spec = spec_of(start(), tmp_path / "out", chunk_size_s=10)
    planned = attempt(spec, task(river))
    assert len(uploads(spec)) == len(planned.children)
    size = sum(path.stat().st_size for path in uploads(spec))
    assert size < 40 * 32_000 / 8 * 1.3, "Opus at 32 kbit/s"
    asked = ask(spec, planned.children)
    assert len(uploads(spec)) == len(planned.children), "a request may have to be made again"
    keys = {child.id: outcome.artifact_key for child, outcome in zip(planned.children, asked, strict=True)}
    attempt(spec, task(river), attempt=2, children=keys)
    assert uploads(spec) == []


def test_an_upload_that_is_gone_is_made_again(start: Start, samples: Path, tmp_path: Path) -> None:
    server = start()
    spec = spec_of(server, tmp_path / "out")
    planned = attempt(spec, task(samples / "first_test.wav"))
    (upload,) = uploads(spec)
    before = upload.read_bytes()
    upload.unlink()
    (asked,) = ask(spec, planned.children)
    assert asked.failure is None
    assert len(uploads(spec)[0].read_bytes()) == len(before)
    assert server.ledger.sums.paid == 1


def test_what_was_prepared_is_not_prepared_again(
    start: Start, river: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_of(start(), tmp_path / "out", chunk_size_s=10)
    first = attempt(spec, task(river))
    made = {path: path.stat().st_mtime_ns for path in uploads(spec)}
    uploads(spec)[0].unlink()
    encoded: list[Any] = []
    encode = preparing.Uploads._encode
    monkeypatch.setattr(preparing.Uploads, "_encode", lambda *given: encoded.append(given) or encode(*given))
    second = attempt(spec, task(river), attempt=2)
    assert second.children == first.children
    assert len(encoded) == 1
    assert sum(path.stat().st_mtime_ns == made[path] for path in uploads(spec)) == len(made) - 1


def test_converted_audio_that_is_gone_is_made_again_too(start: Start, samples: Path, tmp_path: Path) -> None:
    spec = spec_of(start(), tmp_path / "out", preprocess=True)
    one = replace(task(samples / "first_test.wav"), depends_on=("p",))
    made = {"audio": ".trax/audio/talk.flac", "content": content_hash(samples / "first_test.wav")}
    needed = {"p": Result("", made, "preprocess")}
    planned = attempt(spec, one, needed=needed)
    assert planned.children[0].depends_on == ("p",)
    audio = Path(spec.output_dir) / ".trax/audio/talk.flac"
    assert audio.exists()
    audio.unlink()
    uploads(spec)[0].unlink()
    asked = asyncio.run(service.call(Assignment(spec, planned.children[0], needed=needed)))
    assert asked.failure is None
    assert audio.exists()


def test_a_recording_that_is_gone_fails_where_its_upload_is_too(start: Start, samples: Path, tmp_path: Path) -> None:
    talk = tmp_path / "talk.wav"
    shutil.copy(samples / "first_test.wav", talk)
    spec = spec_of(start(), tmp_path / "out")
    planned = attempt(spec, task(talk))
    talk.unlink()
    with pytest.raises(FileError, match=r"talk\.wav"):
        ask(spec, planned.children)


# Failures


def test_a_failure_travels_with_its_signal_and_leaves_nothing(start: Start, samples: Path, tmp_path: Path) -> None:
    server = start(faults=[faults.rate_limited(retry_after_s=3), faults.html()])
    spec = spec_of(server, tmp_path / "out", max_cost_usd=1.0)
    planned = attempt(spec, task(samples / "first_test.wav"))
    (limited,) = ask(spec, planned.children)
    assert limited.failure is not None
    assert (limited.failure.code, limited.failure.retry_after_s) == ("rate_limited", 3.0)
    assert limited.signal is not None
    assert limited.signal.kind is SignalKind.RATE_LIMITED
    assert (limited.artifact_key, "cost_usd" in limited.metrics) == ("", False)
    (bad,) = ask(spec, planned.children)
    assert bad.failure is not None
    assert bad.failure.code == "bad_answer"
    assert bad.metrics["cost_usd"] > 0, "it was a 200"
    (good,) = ask(spec, planned.children)
    assert good.failure is None
    assert claims(spec) == []


@pytest.mark.parametrize("halves", [False, True])
def test_one_empty_answer_costs_no_recording_whose_other_requests_were_paid(
    start: Start, river: Path, tmp_path: Path, halves: bool
) -> None:
    """Laughter, say: asked for once more, then kept, with the stretch marked."""

    server = start()
    spec = spec_of(server, tmp_path / "out", max_cost_usd=1.0, chunk_size_s=60 if halves else 20)
    planned = attempt(spec, task(river))
    server.order([None, faults.empty_text()] if not halves else [faults.status(413), None, faults.empty_text()])
    asked = [ask(spec, [one])[0] for one in planned.children]
    (empty,) = [at for at, outcome in enumerate(asked) if outcome.failure is not None]
    failure = asked[empty].failure
    assert failure is not None
    assert (failure.code, failure.failure_class.value) == ("no_words", "transient")
    server.order([faults.empty_text()])
    (again,) = ask(spec, [planned.children[empty]])
    assert again.failure is None
    assert again.signal is not None
    assert again.signal.kind is SignalKind.OK
    assert again.metrics["cost_usd"] > 0
    asked[empty] = again
    keys = {child.id: outcome.artifact_key for child, outcome in zip(planned.children, asked, strict=True)}
    done = attempt(spec, task(river), attempt=2, children=keys)
    assert done.failure is None
    assert {"empty_answer", "coverage"} <= set(done.metrics["warnings"])
    assert done.metrics["uncovered_s"] > 5
    assert written(spec)["uncovered"]
    assert TEXT in written(spec)["text"]


# What is too large for a service


def longer_than(seconds: float) -> Callable[[Call], Fault | None]:
    return lambda call: faults.status(413) if call.audio_s > seconds else None


def test_what_is_too_large_is_sent_in_two_parts(start: Start, river: Path, tmp_path: Path) -> None:
    words = [Word(at / 10, at / 10 + 0.2, f"w{at}") for at in range(0, 390, 5)]
    recordings = Recordings()
    recordings.add(river, words=words)
    server = start(recordings, faults=longer_than(25.0))
    spec = spec_of(server, tmp_path / "out", max_cost_usd=1.0, chunk_size_s=60)
    done, (asked,) = through(spec, task(river))
    assert done.metrics["chunks"] == 1
    refused, *parts = server.ledger.entries
    assert (refused.status, [part.status for part in parts]) == (413, [200, 200])
    assert sum(part.audio_s for part in parts) == pytest.approx(refused.audio_s, abs=2.0)
    assert asked.metrics["cost_usd"] == pytest.approx(sum(part.usd for part in parts))
    assert asked.signal is not None
    assert asked.signal.cost_usd == asked.metrics["cost_usd"]
    spoken = {said for span in speech_spans(decode.read(river)) for said in words_in(words, span.start_s, span.end_s)}
    found = written(spec)["text"].split()
    assert len(found) == len(set(found)), "nothing twice"
    assert set(found) >= spoken
    assert uploads(spec) == []


def words_in(words: list[Word], start_s: float, end_s: float) -> set[str]:
    return {word.text for word in words if start_s <= word.start_s and word.end_s <= end_s}


def test_it_is_cut_once_and_no_more(start: Start, river: Path, tmp_path: Path) -> None:
    server = start(faults=longer_than(5.0))
    spec = spec_of(server, tmp_path / "out", chunk_size_s=60)
    planned = attempt(spec, task(river))
    (outcome,) = ask(spec, planned.children)
    assert outcome.failure is not None
    assert (outcome.failure.code, outcome.failure.failure_class.value) == ("too_large", "permanent")
    assert "--chunk-size" in outcome.failure.message
    assert [entry.status for entry in server.ledger.entries] == [413, 413]


def test_a_part_that_is_paid_is_kept_though_the_other_fails(start: Start, river: Path, tmp_path: Path) -> None:
    def plan(call: Call) -> Fault | None:
        return faults.server_error() if call.number == 3 else longer_than(25.0)(call)

    server = start(faults=plan)
    spec = spec_of(server, tmp_path / "out", max_cost_usd=1.0, chunk_size_s=60)
    planned = attempt(spec, task(river))
    (failed,) = ask(spec, planned.children)
    assert failed.failure is not None
    assert failed.failure.code == "server_error"
    first = server.ledger.entries[1]
    assert failed.metrics["cost_usd"] == pytest.approx(first.usd), "what the first part has cost"
    (good,) = ask(spec, planned.children)
    assert good.failure is None
    assert [entry.status for entry in server.ledger.entries] == [413, 200, 500, 200], "the whole isn't tried again"
    assert good.metrics["cost_usd"] == pytest.approx(server.ledger.entries[3].usd)
    assert server.ledger.paid_again() == {}


def test_who_gives_no_answer_is_waited_for_so_long_and_no_longer(
    start: Start, samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start()
    spec = spec_of(server, tmp_path / "out", max_cost_usd=1.0)
    through(spec, task(samples / "talks" / "weather.ogg"))  # what is imported at the first request takes its time
    server.order([faults.hang()])
    monkeypatch.setattr(pace, "DEADLINE_S", 1.0)
    monkeypatch.setattr(pace, "DEADLINE_FACTOR", 0.0)
    planned = attempt(spec, task(samples / "first_test.wav"))
    (late,) = ask(spec, planned.children)
    assert late.failure is not None
    assert (late.failure.code, late.failure.failure_class.value) == ("deadline", "transient")
    assert late.signal is not None
    assert late.signal.kind is SignalKind.CONNECTION
    assert 1.0 <= late.signal.latency_s < 60
    assert late.metrics["cost_usd"] > 0, "it may have been worked on"
    monkeypatch.setattr(pace, "DEADLINE_S", 60.0)
    assert ask(spec, planned.children)[0].failure is None


@pytest.mark.long
def test_who_waits_behind_others_is_not_given_up(
    start: Start, river: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each takes half of its deadline, and they wait in a row."""
    monkeypatch.setattr(pace, "DEADLINE_S", 1.0)
    monkeypatch.setattr(pace, "DEADLINE_FACTOR", 0.0)
    server = start(limits=Limits(delay_s=0.5, one_by_one=True))
    spec = spec_of(server, tmp_path / "out", chunk_size_s=10)
    planned = attempt(spec, task(river))
    assert len(planned.children) >= 4
    assert [outcome.failure for outcome in ask(spec, planned.children)] == [None] * len(planned.children)
    assert len(server.ledger.entries) == len(planned.children), "none was asked for twice"


# Prices


@pytest.mark.parametrize(("limit", "known"), [(None, False), (5.0, True)])
def test_a_server_of_ones_own_has_prices_where_a_limit_says_that_it_charges(
    start: Start, samples: Path, tmp_path: Path, limit: float | None, known: bool
) -> None:
    server = start()
    spec = spec_of(server, tmp_path / "out", max_cost_usd=limit)
    planned = attempt(spec, task(samples / "first_test.wav"))
    assert ("estimate_usd" in planned.children[0].data) is known
    (asked,) = ask(spec, planned.children)
    if known:
        assert asked.metrics["cost_usd"] == pytest.approx(server.ledger.sums.usd)
        assert asked.metrics["cost_usd"] <= planned.children[0].data["estimate_usd"] + 0.0001
    else:
        assert "cost_usd" not in asked.metrics


# Sharing a process


def test_a_cancelled_call_gives_its_claim_back(start: Start, samples: Path, tmp_path: Path) -> None:
    server = start(faults=[faults.hang()])
    spec = spec_of(server, tmp_path / "out")
    (request,) = attempt(spec, task(samples / "first_test.wav")).children

    async def play() -> Outcome:
        hanging = asyncio.create_task(call(spec, request))
        while not server.ledger.entries:
            await asyncio.sleep(0.02)
        assert len(claims(spec)) == 1
        waiting = asyncio.create_task(call(spec, request))
        await asyncio.sleep(0.3)
        assert len(server.ledger.entries) == 1, "the second one waits for the first"
        hanging.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hanging
        try:
            return await asyncio.wait_for(waiting, 10)
        finally:
            await service.close()

    assert asyncio.run(play()).failure is None
    assert claims(spec) == []
    assert server.ledger.sums.paid == 1


def test_a_call_that_is_cancelled_while_it_takes_its_claim_gives_that_back_too(
    start: Start, samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that takes it can't be cancelled; what it takes afterwards would be held for ever."""
    spec = spec_of(start(), tmp_path / "out")
    (request,) = attempt(spec, task(samples / "first_test.wav")).children
    entered, go_on = threading.Event(), threading.Event()
    acquire = Lease.acquire

    def slowly(self: Lease, holder: str) -> None:
        entered.set()
        go_on.wait(10)
        acquire(self, holder)

    async def play() -> Outcome:
        monkeypatch.setattr(Lease, "acquire", slowly)
        cancelled = asyncio.create_task(call(spec, request))
        await asyncio.to_thread(entered.wait, 10)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        monkeypatch.setattr(Lease, "acquire", acquire)
        go_on.set()
        try:
            return await asyncio.wait_for(call(spec, request), 10)
        finally:
            await service.close()

    assert asyncio.run(play()).failure is None
    assert claims(spec) == []


def test_uploads_in_memory_are_bounded(
    start: Start, river: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start(limits=Limits(delay_s=0.1), decode=False)
    spec = spec_of(server, tmp_path / "out", chunk_size_s=10)
    planned = attempt(spec, task(river))
    assert len(planned.children) >= 4
    largest = max(path.stat().st_size for path in uploads(spec))
    monkeypatch.setattr(service, "BYTES_IN_FLIGHT", 2 * largest)
    assert all(outcome.failure is None for outcome in ask(spec, planned.children))
    assert 2 <= server.ledger.max_in_flight <= 3


def test_one_upload_that_is_larger_than_the_bound_goes_alone(
    start: Start, river: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start(limits=Limits(delay_s=0.05), decode=False)
    spec = spec_of(server, tmp_path / "out", chunk_size_s=10)
    planned = attempt(spec, task(river))
    monkeypatch.setattr(service, "BYTES_IN_FLIGHT", 1000)
    assert all(outcome.failure is None for outcome in ask(spec, planned.children))
    assert server.ledger.max_in_flight == 1


def test_a_suspect_is_asked_for_alone_one_after_another_in_the_same_process(
    start: Start, river: Path, tmp_path: Path
) -> None:
    """As a remote function does it: each in a loop of its own, of which nothing is left."""
    server = start()
    spec = spec_of(server, tmp_path / "out", chunk_size_s=10)
    planned = attempt(spec, task(river))
    outcomes = [attempt(spec, child.alone()) for child in planned.children[:3]]
    assert [outcome.failure for outcome in outcomes] == [None] * 3
    assert server.ledger.sums.paid == 3


def test_another_key_is_another_client(start: Start, river: Path, tmp_path: Path) -> None:
    server = start()
    spec = spec_of(server, tmp_path / "out", chunk_size_s=10)
    first, second, *_ = attempt(spec, task(river)).children

    async def play() -> list[Outcome]:
        try:
            before = await call(spec, first)
            server.key = "another-0123456789"
            refused = await call(spec, second)
            hand_over({"OPENAI_API_KEY": "another-0123456789"})
            return [before, refused, await call(spec, second)]
        finally:
            await service.close()

    before, refused, after = asyncio.run(play())
    assert (before.failure, after.failure) == (None, None)
    assert refused.failure is not None
    assert refused.failure.code == "key_refused"


@contextmanager
def file_calls(folder: Path) -> Iterator[list[tuple[str, str, int]]]:
    """What Python does to files of a folder: the audit event, the path, and the thread."""
    calls: list[tuple[str, str, int]] = []
    watching = True

    def hook(event: str, given: tuple[Any, ...]) -> None:
        if watching and (event == "open" or event.startswith(("os.", "shutil."))) and given:
            path = str(given[0])
            if path.startswith(str(folder)):
                calls.append((event, path, threading.get_ident()))

    sys.addaudithook(hook)  # never taken out again: Python has no way to
    try:
        yield calls
    finally:
        watching = False


def test_nothing_holds_up_the_loop(start: Start, river: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are opened, renamed and removed in threads, and audio is decoded there, also what has to be made again."""
    spec = spec_of(start(decode=False), tmp_path / "out", chunk_size_s=10)
    planned = attempt(spec, task(river))
    for upload in (tmp_path / "out").rglob("uploads/*.ogg"):
        upload.unlink()
        break
    decoded_in: list[int] = []
    decoded = decode.stream

    def noting(*given: Any, **more: Any) -> Any:
        decoded_in.append(threading.get_ident())
        return decoded(*given, **more)

    monkeypatch.setattr(decode, "stream", noting)

    async def play() -> int:
        await asyncio.gather(*(call(spec, one) for one in planned.children))
        await service.close()
        return threading.get_ident()

    with file_calls(tmp_path) as calls:
        loop_in = asyncio.run(play())
    assert decoded_in
    assert loop_in not in decoded_in
    assert {name for name, _, _ in calls} >= {"open", "os.rename", "os.remove"}, "the watch sees all of them"
    assert [each for each in calls if each[2] == loop_in] == []


# What preparing costs


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often a recording was decoded, and the speech detector begun."""
    counts = {"decoded": 0, "looked for pauses": 0, "looked for speech": 0}

    def counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **more: Any) -> Any:
            counts[name] += 1
            return function(*given, **more)

        return call

    monkeypatch.setattr(decode, "stream", counted("decoded", decode.stream))
    monkeypatch.setattr(chunking, "SileroDetector", counted("looked for pauses", chunking.SileroDetector))
    monkeypatch.setattr(vad, "speech_spans", counted("looked for speech", vad.speech_spans))
    return counts


def test_a_recording_that_is_one_request_is_decoded_once_and_speech_looked_for_once(
    start: Start, river: Path, tmp_path: Path, passes: dict[str, int]
) -> None:
    planned = attempt(spec_of(start(), tmp_path / "out", chunk_size_s=40), task(river))
    assert len(planned.children) == 1, "exactly as long as a request may be"
    assert passes == {"decoded": 1, "looked for pauses": 0, "looked for speech": 1}


def test_a_longer_one_is_cut_where_it_always_was(
    start: Start, river: Path, tmp_path: Path, passes: dict[str, int]
) -> None:
    planned = attempt(spec_of(start(), tmp_path / "out", chunk_size_s=15), task(river))
    cuts = [(child.data["start_s"], child.data["end_s"]) for child in planned.children]
    assert passes == {"decoded": 1 + len(cuts), "looked for pauses": 1, "looked for speech": len(cuts)}
    planner = chunking.ChunkPlanner(15)
    planner.feed(decode.read(river))
    assert cuts == [(span.start_s, span.end_s) for span in planner.finish()]


def heard(upload: Path) -> bytes:
    """What is in an upload; the bytes themselves hold a number that is drawn."""
    return wav(upload.read_bytes()[: -preparing._SEAL_BYTES])


def test_what_is_sent_is_the_same_whether_a_recording_was_decoded_once_or_twice(
    start: Start, samples: Path, tmp_path: Path
) -> None:
    spec = spec_of(start(), tmp_path / "out")
    attempt(spec, task(samples / "first_test.wav"))
    (upload,) = uploads(spec)
    before = heard(upload)
    upload.unlink()
    attempt(spec, task(samples / "first_test.wav"), attempt=2)
    assert heard(upload) == before


@pytest.mark.parametrize("damage", [lambda _: b"", lambda data: bytes(len(data)), lambda data: data[:-9]])
def test_what_a_power_cut_left_of_an_upload_is_not_paid_for(
    start: Start, samples: Path, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    server = start()
    spec = spec_of(server, tmp_path / "out")
    planned = attempt(spec, task(samples / "first_test.wav"))
    (upload,) = uploads(spec)
    whole = heard(upload)
    upload.write_bytes(damage(upload.read_bytes()))
    (asked,) = ask(spec, planned.children)
    assert asked.failure is None
    assert heard(upload) == whole
    (entry,) = server.ledger.entries
    assert entry.audio_s == pytest.approx(asked.metrics["duration_s"], abs=0.7)


def test_only_what_is_paid_or_cut_is_waited_for(
    start: Start, samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    sync = System.fsync

    def noted(self: System, fd: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{fd}"))
        sync(self, fd)

    monkeypatch.setattr(System, "fsync", noted)
    spec = spec_of(start(), tmp_path / "out")
    planned = attempt(spec, task(samples / "first_test.wav"))
    private = Layout(tmp_path / "out").private
    assert not [name for name in synced if name.startswith((f"{private}/uploads", f"{private}/hashes"))]
    written = [name for name in synced if ".tmp-" in name]
    assert len(written) == 1, "where the cuts are"
    synced.clear()
    (asked,) = ask(spec, planned.children)
    job = job_of(spec, task(samples / "first_test.wav"))
    assert len([name for name in synced if ".tmp-" in name]) == 1, "what was paid for"
    assert str(job.store.path(asked.artifact_key).parent) in synced


def test_how_readily_sound_counts_as_speech_is_asked_of_what_is_sent_too(
    start: Start, samples: Path, tmp_path: Path
) -> None:
    everything = spec_of(start(), tmp_path / "out", vad="off")
    (asked,) = attempt(everything, task(samples / "quiet_room.flac")).children
    assert asked.chunk == 0
