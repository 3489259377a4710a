"""State and artifacts as rows of the four tables. Columns and their units are in `schemas`.

Rows are dicts, made one at a time, so that a report needs no more memory for ten thousand recordings than for
ten. What is missing from a row is null.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trax_ray.codes import FailureCode, WarningCode
from trax_ray.core.policy.quality import (
    LOW_CONFIDENCE,
    REPETITION_MIN_CHARACTERS,
    REPETITION_RATIO,
    accuracy_percent,
    compression_ratio,
    word_error_rate,
)
from trax_ray.core.state.ledger import Ledger, TaskRecord
from trax_ray.core.task import Failure, TaskState, TaskType
from trax_ray.report.fold import History
from trax_ray.report.schemas import TABLES, join_warnings
from trax_ray.report.text import clean, reason

__all__ = [
    "Entry",
    "attempt_rows",
    "entries",
    "extra_columns",
    "file_row",
    "owners",
    "segment_columns",
    "task_rows",
    "total_cost",
]

_OPEN_STATES = (TaskState.RUNNING, TaskState.QUEUED, TaskState.DELAYED, TaskState.BLOCKED)


@dataclass(slots=True)
class Entry:
    """One input of the batch, with all that was done for it.

    Args:
        file_id: Its id.
        steps: Its own tasks, in the order of adding: one, or one per step of a pipeline; those of the last run that
            was given it.
        planned: Tasks that these planned at run time, such as chunks; also ones that no longer count.
        retries: Failed attempts of all of these that were followed by another.
        cost_usd: What services charged for all of their attempts, those that failed too; None where none is known.
    """

    file_id: str
    steps: list[TaskRecord] = field(default_factory=list)
    planned: list[TaskRecord] = field(default_factory=list)
    retries: int = 0
    cost_usd: float | None = None

    @property
    def name(self) -> str:
        """What people know it by: its path below the input folder, its path as given, or its URL.

        May hold the surrogates of a name that isn't UTF-8.
        """
        names = (self.given(key) for key in ("name", "file_path", "url", "transcript_path"))
        return next((str(name) for name in names if name), self.file_id)

    def given(self, key: str) -> Any:
        """What the first of its tasks that was given a value of this name was given; None without."""
        return next((record.task.data[key] for record in self.steps if record.task.data.get(key)), None)

    @property
    def transcript(self) -> TaskRecord | None:
        """The task whose result is the transcript; None while there is none."""
        return self.result(TaskType.TRANSCRIBE)

    def result(self, task_type: TaskType | None = None) -> TaskRecord | None:
        """The last of its tasks that succeeded, of one kind or (None) of any; None while there is none."""
        for record in reversed(self.steps):
            if record.state is TaskState.SUCCEEDED and task_type in (None, record.task.task_type):
                return record
        return None

    def status(self, ledger: Ledger) -> str:
        """The input's verdict; while it has none, the state of what is furthest: running, queued, delayed, blocked."""
        verdict = ledger.total.inputs[self.file_id].verdict()
        if verdict is not None:
            return verdict.value
        states = {record.state for record in (*self.steps, *self.planned)}
        return next((state.value for state in _OPEN_STATES if state in states), TaskState.QUEUED.value)

    def failed(self) -> TaskRecord | None:
        """The first of its tasks that failed by itself, else the first that failed; None without failure."""
        failed = [record for record in self.steps if record.state is TaskState.FAILED]
        return next((record for record in failed if not _is_consequence(record.failure)), failed[0] if failed else None)


def owners(history: History) -> dict[str, str]:
    """The file_id of the input that each task belongs to, by task id; that of planned tasks is their planner's."""
    found: dict[str, str] = {}
    records = history.state.records
    for task_id, record in records.items():
        top = record
        while top.task.parent:
            top = records[top.task.parent]
        found[task_id] = top.task.file_id
    return found


def entries(history: History) -> list[Entry]:
    """The inputs of a batch, in the order in which they were added."""
    owner = owners(history)
    found: dict[str, Entry] = {}
    for task_id, record in history.state.records.items():
        entry = found.setdefault(owner[task_id], Entry(owner[task_id]))
        last = history.state.ledger.total.inputs[entry.file_id].given_in
        counts = not record.task.parent and record.given_in == last
        (entry.steps if counts else entry.planned).append(record)
    for attempt in history.attempts:
        entry = found[owner[attempt.task_id]]
        entry.retries += attempt.retried
        entry.cost_usd = total_cost([entry.cost_usd, attempt.cost_usd])
    return list(found.values())


def extra_columns(inputs: Iterable[Entry]) -> dict[str, str]:
    """The columns of files for what a manifest said besides: by its name for them, in the order of appearance."""
    taken = {name.casefold() for name in TABLES["files"]}
    columns: dict[str, str] = {}
    for entry in inputs:
        for name in entry.given("extra") or ():
            if name in columns:
                continue
            column = clean(name)
            while column.casefold() in taken:
                column = f"input_{column}"
            taken.add(column.casefold())
            columns[name] = column
    return columns


def file_row(entry: Entry, ledger: Ledger, text: str | None, extra: Mapping[str, str] | None = None) -> dict[str, Any]:
    """One row of files.

    Args:
        entry: The input.
        ledger: The ledger that counts it.
        text: Its transcript; None where there is none (yet), or where its artifact can't be read.
        extra: From `extra_columns`; None leaves these columns out.
    """
    row: dict[str, Any] = {
        "file_id": entry.file_id,
        "file_name": entry.name,
        "path_bytes": _path_bytes(entry.given("file_path")),
        "url": _text(entry.given("url")),
        "status": entry.status(ledger),
        "attempts": sum(record.attempt for record in (*entry.steps, *entry.planned)),
        "retries": entry.retries,
        "priority": entry.steps[0].task.priority,
        "chunks": sum(len(each.children) for each in entry.steps if each.task.task_type is not TaskType.ENHANCE),
        "ended_at": _micros(max((record.ended_at for record in entry.steps), default=0.0)),
        "cost_usd": entry.cost_usd,
        "text": text,
    }
    if not all(record.state.terminal for record in entry.steps):
        row["ended_at"] = None
    failed = entry.failed()
    if failed is not None:
        row["failed_step"] = _origin(failed, ledger).task.task_type.value
        row |= _failure_columns(failed.failure)
    row |= _result_columns(entry, missing=text is None) | _site_columns(entry)
    if extra:
        row |= {extra[name]: _passed_on(value) for name, value in (entry.given("extra") or {}).items()}
    return row


def task_rows(history: History) -> Iterator[dict[str, Any]]:
    """The rows of tasks, in the order of adding, chunks and steps included."""
    owner = owners(history)
    for task_id, record in history.state.records.items():
        task = record.task
        yield {
            "task_id": task_id,
            "file_id": owner[task_id],
            "task_type": task.task_type.value,
            "chunk": task.chunk,
            "priority": task.priority,
            "state": record.state.value,
            "attempts": record.attempt,
            "queued_at": _micros(record.queued_at),
            "started_at": _micros(record.started_at),
            "ended_at": _micros(record.ended_at),
            "num_cpus": task.resources.num_cpus,
            "memory_mb": task.resources.memory_mb,
            "artifact_key": record.artifact_key or None,
            "parent": task.parent or None,
            "provider": task.provider or None,
        }


def attempt_rows(history: History) -> Iterator[dict[str, Any]]:
    """The rows of attempts, in the order in which they started."""
    owner = owners(history)
    for attempt in history.attempts:
        yield {
            "task_id": attempt.task_id,
            "attempt": attempt.attempt,
            "epoch": attempt.epoch,
            "file_id": owner[attempt.task_id],
            "node": attempt.node or None,
            "pid": attempt.pid or None,
            "started_at": _micros(attempt.started_at),
            "ended_at": _micros(attempt.ended_at),
            "outcome": attempt.outcome,
            "delay_s": attempt.delay_s,
            "priority": attempt.priority,
            "memory_peak_mb": attempt.memory_peak_mb or None,
            "cost_usd": _number(attempt.cost_usd),
        } | _failure_columns(attempt.failure)


def segment_columns(
    file_id: str, payload: Mapping[str, Any], enhanced: Mapping[str, Any] | None = None
) -> dict[str, list[Any]]:
    """The segments of one transcript, in its order, by column: a batch has millions of them.

    Args:
        file_id: Of the input.
        payload: The transcript's artifact. Of a segment only start_s, end_s and text need be there.
        enhanced: The artifact of the same enhanced; None where it isn't.
    """
    segments: Sequence[Mapping[str, Any]] = payload.get("segments") or ()
    count = len(segments)
    texts = [str(each.get("text") or "") for each in segments]
    confidences = [_number(each.get("confidence")) for each in segments]
    ratios = [_number(each.get("compression_ratio")) for each in segments]
    lines = [str(line.get("text") or "") for line in ((enhanced or {}).get("lines") or ())[:count]]
    return {
        "file_id": [file_id] * count,
        "segment": list(range(count)),
        "start_s": [_number(each.get("start_s")) for each in segments],
        "end_s": [_number(each.get("end_s")) for each in segments],
        "text": texts,
        "speaker": [_text(each.get("speaker")) for each in segments],
        "confidence": confidences,
        "avg_logprob": [_number(each.get("avg_logprob")) for each in segments],
        "no_speech_prob": [_number(each.get("no_speech_prob")) for each in segments],
        "compression_ratio": ratios,
        "warnings": list(map(_warnings_of_segment, texts, confidences, ratios)),
        "language": [_text(each.get("language")) for each in segments],
        "enhanced_text": [*lines, *[None] * (count - len(lines))],
    }


def _warnings_of_segment(text: str, confidence: float | None, ratio: float | None) -> str:
    if ratio is None:
        # As for whole transcripts: zlib's overhead outweighs short texts.
        ratio = compression_ratio(clean(text)) if len(text) >= REPETITION_MIN_CHARACTERS else 0.0
    is_low, is_repetition = confidence is not None and confidence < LOW_CONFIDENCE, ratio > REPETITION_RATIO
    if not is_low and not is_repetition:
        return ""
    codes = [WarningCode.LOW_CONFIDENCE] * is_low + [WarningCode.REPETITION] * is_repetition
    return join_warnings(codes)


def _site_columns(entry: Entry) -> dict[str, Any]:
    """What its site says of a recording of the web: to the task that asks, else to the one that fetches."""
    asked, fetched = entry.result(TaskType.YOUTUBE), entry.result(TaskType.DOWNLOAD)
    said = [record.metrics for record in (asked, fetched) if record is not None]
    if not said:
        return {}
    names = ("title", "channel", "uploaded_on", "webpage", "site_id", "availability")
    first = {name: next((each[name] for each in said if each.get(name)), None) for name in names}
    captions = next((each["captions"] for each in said if each.get("captions")), ())
    return {
        **{name: _text(value) for name, value in first.items()},
        "captions": _text(",".join(map(str, captions))),
        "media_path": _first_output(fetched),
        "chapters": _passed_on(said[0].get("chapters")),
        "tags": _passed_on(said[0].get("tags")),
        "view_count": _whole(said[0].get("view_count")),
        "metadata_path": _first_output(asked),
    }


def _result_columns(entry: Entry, *, missing: bool) -> dict[str, Any]:
    """What the tasks that succeeded have to say. Figures are the transcript's, else the last task's."""
    record = entry.transcript or entry.result()
    if record is None:
        return {"warnings": ""}
    metrics = record.metrics
    warnings = {
        str(code)
        for step in entry.steps
        if step.state is TaskState.SUCCEEDED
        for code in step.metrics.get("warnings") or ()
    }
    if missing and entry.transcript is not None and entry.transcript.artifact_key:
        warnings.add(WarningCode.ARTIFACT_MISSING)
    errors, words = _whole(metrics.get("wer_errors")) or 0, _whole(metrics.get("wer_words")) or 0
    measured = _number(metrics.get("measured_accuracy"))
    enhanced = entry.result(TaskType.ENHANCE)
    return {
        "language": _text(metrics.get("language")),
        "duration": _number(metrics.get("duration_s")),
        "processing_s": _number(metrics.get("processing_s")),
        "model": _text(metrics.get("model")),
        "measured_accuracy": accuracy_percent(errors, words) if measured is None else measured,
        "measured_accuracy_normalized": _number(metrics.get("measured_accuracy_normalized")),
        "accuracy_unit": _text(metrics.get("accuracy_unit")),
        "estimated_accuracy": _number(metrics.get("estimated_accuracy")),
        "wer": word_error_rate(errors, words),
        "speech_s": _number(metrics.get("speech_s")),
        "warnings": join_warnings(warnings),
        "transcript_path": _first_output(entry.transcript),
        "enhanced_path": _first_output(enhanced),
        "words": _whole(metrics.get("words")),
        "segments": _whole(metrics.get("segments")),
        "low_confidence_segments": _whole(metrics.get("low_confidence_segments")),
        "wer_errors": errors if words else None,
        "wer_words": words or None,
        "duplicate_of": metrics.get("duplicate_of"),
        "cached": bool(metrics["cached"]) if "cached" in metrics else None,
        "artifact_key": (entry.transcript.artifact_key or None) if entry.transcript else None,
        "uncovered_s": _number(metrics.get("uncovered_s")),
        "source": str(metrics.get("source") or "model") if entry.transcript else None,
        **_enhanced_columns(enhanced),
    }


def _enhanced_columns(record: TaskRecord | None) -> dict[str, Any]:
    """What enhancement has to say."""
    metrics = record.metrics if record is not None else {}
    if "segments_preserved" not in metrics:
        return {}
    return {
        "enhanced_by": _text(metrics.get("model")) or None,
        "enhanced_accuracy": _number(metrics.get("accuracy_after")),
        "edits": sum((metrics.get("edits") or {}).values()),
        "edits_refused": sum((metrics.get("refused") or {}).values()),
        "segments_preserved": _whole(metrics["segments_preserved"]),
    }


def total_cost(costs: Iterable[float | None]) -> float | None:
    """The sum of those that are known, US dollars; None where none is."""
    known = [cost for each in costs if (cost := _number(each)) is not None]
    return sum(known) if known else None


def _passed_on(value: Any) -> str | None:
    """A value of a manifest as text."""
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _failure_columns(failure: Failure | None) -> dict[str, Any]:
    if failure is None:
        return {}
    return {
        "failure_class": failure.failure_class.value,
        "category": failure.category.value,
        "code": failure.code,
        "error": reason(failure),
    }


def _is_consequence(failure: Failure | None) -> bool:
    return failure is not None and failure.code == FailureCode.DEPENDENCY_FAILED


def _origin(record: TaskRecord, ledger: Ledger) -> TaskRecord:
    """The task that failed by itself, where the given one only needed it."""
    while _is_consequence(record.failure):
        needed = [ledger.records[name] for name in record.task.depends_on]
        before = next((other for other in needed if other.state is TaskState.FAILED), None)
        if before is None:
            break  # it has been revived in the meantime
        record = before
    return record


def _first_output(record: TaskRecord | None) -> str | None:
    outputs = () if record is None else record.metrics.get("outputs") or ()
    return str(outputs[0]) if outputs else None


def _path_bytes(path: Any) -> bytes | None:
    if not isinstance(path, str) or not path:
        return None
    try:
        return os.fsencode(path)
    except UnicodeEncodeError:  # a surrogate that stands for no byte: no file has this name
        return path.encode("utf-8", "surrogatepass")


def _text(value: Any) -> str | None:
    return str(value) if value else None


def _number(value: Any) -> float | None:
    """A figure of an outcome or an artifact; None for what is no finite number."""
    if value.__class__ is float:  # of a million segments nearly all, and half of the time that they take
        return value if math.isfinite(value) else None
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    return None


def _whole(value: Any) -> int | None:
    number = _number(value)
    return None if number is None else round(number)


def _micros(at: float | None) -> int | None:
    """Microseconds since the epoch, as Arrow takes them; None for times that aren't yet (0.0)."""
    return round(at * 1e6) if at else None
