"""A batch as its coordinator would write it down: real journal, real events, real artifacts. No tests here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trax_ray.core.spec import BatchSpec, RetryPolicy
from trax_ray.core.state.events import (
    AttemptEnded,
    CoordinatorStarted,
    Event,
    Expanded,
    InputsClosed,
    Started,
    Stopped,
    TasksAdded,
    encode_event,
)
from trax_ray.core.state.machine import BatchState
from trax_ray.core.task import BatchTask, Category, Failure, FailureClass, Outcome, ResourceRequest, TaskType
from trax_ray.plan.tasks import InputFile, plan_file
from trax_ray.store.artifacts import ArtifactStore
from trax_ray.store.epochs import OpenedJournal, open_journal
from trax_ray.store.layout import Layout
from trax_ray.testing.factories import make_parts

START = 1767225600.0
"""2026-01-01T00:00:00Z."""

ODD = "b\udcffd.wav"
ODD_PATH = f"/in/{ODD}"

TIMEOUT = Failure(FailureClass.TRANSIENT, Category.NETWORK, "timeout", "the server said nothing", retry_after_s=5.0)
NO_SAMPLES = Failure(FailureClass.PERMANENT, Category.PROCESSING, "no_samples", "no samples\nin \tit \x1b[31m")
NO_KEY = Failure(FailureClass.CONFIG, Category.NETWORK, "no_key", "the key was refused")


class Batch:
    """Writes a journal event by event; time runs in seconds since START."""

    def __init__(self, out: Path, max_retries: int = 3) -> None:
        self.layout = Layout(out)
        self.store = ArtifactStore(self.layout.artifacts)
        retry = RetryPolicy(max_retries=max_retries)
        self.spec = BatchSpec(output_dir=str(out), name="talks", model="pocketsphinx", retry=retry)
        self.state = BatchState()
        self.journal: OpenedJournal | None = None

    def open(self, at: float) -> None:
        """A new coordinator takes over."""
        self.close()
        self.journal = open_journal(self.layout.journal, "batch on host-1", START + at)
        self.add(CoordinatorStarted(self.journal.epoch, self.spec.to_dict()), at)

    def close(self) -> None:
        if self.journal is not None:
            self.journal.close()

    def add(self, *events_and_at: Any) -> None:
        """Events, then their time."""
        *events, at = events_and_at
        assert self.journal is not None
        self.journal.append([encode_event(event, START + at) for event in events])
        for event in events:
            self.state.handle(event, START + at)

    def task(self, name: str, **values: Any) -> BatchTask:
        stem = name.rpartition(".")[0]
        entry = InputFile(path=f"/in/{name}", name=name, output=stem, size_bytes=1000, **values)
        return plan_file(entry, self.spec, "pocketsphinx", ResourceRequest(num_cpus=1, memory_mb=512))

    def start(self, at: float, *tasks: BatchTask) -> None:
        self.add(Started(tuple((task.id, self.state.next_attempt(task.id)) for task in tasks)), at)

    def end(self, at: float, task: BatchTask, outcome: Outcome, jitter: float = 0.5) -> None:
        record = self.state.records[task.id]
        event: Event = AttemptEnded(task.id, record.epoch, record.attempt, outcome, jitter)
        if outcome.children:
            event = Expanded(task.id, record.epoch, record.attempt, outcome)
        self.add(event, at)

    def transcript(self, name: str, text: str, segments: list[dict[str, Any]] | None = None) -> str:
        """Commit a transcript; returns its artifact's key."""
        key = self.store.key("0" * 64, "transcribe", {"name": name}, "pocketsphinx", 1)
        payload = {
            "text": text,
            "language": "en",
            "model": "pocketsphinx",
            "provider": "pocketsphinx",
            "duration_s": 60.0,
            "speech_s": 50.0,
            "processing_s": 12.0,
            "media_warnings": [],
            "segments": segments if segments is not None else [{"start_s": 0.0, "end_s": 2.5, "text": text}],
        }
        self.store.put(key, payload)
        return key


def metrics(stem: str, **values: Any) -> dict[str, Any]:
    """Metrics of a transcription that went well."""
    return {
        "duration_s": 60.0,
        "speech_s": 50.0,
        "processing_s": 12.0,
        "language": "en",
        "model": "pocketsphinx",
        "words": 4,
        "segments": 1,
        "estimated_accuracy": 80.0,
        "low_confidence_segments": 0,
        "no_speech": False,
        "warnings": [],
        "outputs": [f"{stem}.txt", f"{stem}.srt"],
        "cached": False,
    } | values


def worked(figures: Mapping[str, Any] | None = None, key: str = "", **values: Any) -> Outcome:
    return Outcome(artifact_key=key, metrics=figures or {}, node="host-2", pid=77, memory_peak_mb=123.5, **values)


def failed(failure: Failure) -> Outcome:
    return Outcome(failure=failure, node="host-2", pid=78)


def tell_everything(out: Path) -> Batch:
    """A batch in which most things happen: two coordinators, then a stop. Its journal is left open."""
    batch = Batch(out)
    batch.open(0)
    good = batch.task("good.mp3", reference="/in/good.txt", priority=2)
    long, flaky, broken = batch.task("long.mp3"), batch.task("flaky.mp3"), batch.task("broken.mp3")
    silence, odd, late, waiting = (batch.task(name) for name in ("silence.wav", ODD, "late.mp3", "waiting.mp3"))
    files = (good, long, flaky, broken, silence, odd, late, waiting)
    spoken = BatchTask("p-1", TaskType.TRANSCRIBE, {"file_path": "talk.mp3"}, file_id="pipeline")
    polished = BatchTask("p-2", TaskType.ENHANCE, file_id="pipeline", depends_on=("p-1",))
    needy = BatchTask("n-1", TaskType.PREPROCESS, {"file_path": "x.wav"}, depends_on=("p-2",))
    batch.add(TasksAdded((*files, spoken, polished, needy)), InputsClosed(), 1)

    segments = [
        {"start_s": 0.0, "end_s": 2.5, "text": "one two", "confidence": 0.4, "avg_logprob": -0.9},
        {"start_s": 2.5, "end_s": 4, "text": "three four", "confidence": 0.9, "compression_ratio": 2.5},
        {"start_s": 4.0, "end_s": 9.0, "text": "la " * 80},
    ]
    key = batch.transcript("good", "one two three four", segments)
    batch.start(2, good)
    batch.end(
        14,
        good,
        worked(
            metrics(
                "good", wer_errors=2, wer_words=20, measured_accuracy=90.0, segments=3, warnings=["low_confidence"]
            ),
            key,
            started_at=START + 2.25,
            ended_at=START + 13.5,
        ),
    )

    chunks = make_parts(long, [(0.0, 600.0), (600.0, 900.0)])
    batch.start(15, long)
    batch.end(16, long, worked(children=chunks))
    batch.start(17, *chunks)
    for number, chunk in enumerate(chunks):
        figures = {"duration_s": 600.0, "cost_usd": 0.25}
        batch.end(18 + number, chunk, worked(figures, batch.transcript(f"long {number}", "x")))
    batch.start(20, long)
    batch.end(21, long, worked(metrics("long", duration_s=900.0), batch.transcript("long", "x x")))

    batch.start(30, flaky)
    batch.end(31, flaky, failed(TIMEOUT))
    batch.start(40, flaky)
    batch.end(50, flaky, worked(metrics("flaky"), batch.transcript("flaky", "went well \ud83d now")))

    batch.start(51, broken)
    batch.end(52, broken, failed(NO_SAMPLES))
    batch.start(53, silence)
    figures = metrics("silence", no_speech=True, warnings=["no_speech"], words=0, segments=0, estimated_accuracy=None)
    batch.end(54, silence, worked(figures, batch.transcript("silence", "", [])))

    batch.start(55, spoken)
    batch.end(56, spoken, worked(metrics("talk", cost_usd=0.25), batch.transcript("talk", "spoken")))
    batch.start(57, polished)
    batch.end(58, polished, failed(NO_SAMPLES))

    batch.start(60, odd)
    batch.open(1000)  # the first coordinator died at 60
    batch.start(1001, odd)
    batch.end(1002, odd, worked(metrics("b\udcffd"), batch.transcript("odd", "odd")))
    batch.start(1003, late)
    batch.end(1004, late, failed(NO_KEY))
    batch.add(Stopped(), 1010)
    return batch
