"""The columns of the four tables: flat, plain types, UTC microseconds. `docs/report.md` is made from what stands here.

`warnings` is text, the codes joined by commas and empty where there are none, rather than a list: every
reader can filter it (`warnings LIKE '%no_speech%'`, `df.warnings.str.contains("no_speech")`), write it to CSV
and group by it. Lists can't do the last two in pandas. Codes hold no commas.

Columns of a manifest that mean nothing to us follow ours in files, in the order in which they were first seen.
All are text, whatever they were, and null where a recording has no value: 3 is `3`, true is `true`, lists and
objects are JSON. One whose name is taken, case folded since SQL doesn't tell, gets `input_` before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import pyarrow as pa

__all__ = ["COLUMNS", "SCHEMA_VERSION", "TABLES", "Column", "join_warnings", "schema"]

SCHEMA_VERSION = 1
"""Goes up when a column changes its name, type or meaning, or goes; not when one is added at the end."""

_UTC = pa.timestamp("us", tz="UTC")
_TEXT, _FLOAT, _INT, _LONG, _BOOL, _BYTES = (
    pa.string(),
    pa.float64(),
    pa.int32(),
    pa.int64(),
    pa.bool_(),
    pa.binary(),
)


class Column(NamedTuple):
    """A column.

    Args:
        type: Of its values.
        meaning: What it says, with its unit; for people.
    """

    type: pa.DataType
    meaning: str


_FILES = {
    "file_id": Column(_TEXT, "the input's id; the other tables name it"),
    "file_name": Column(_TEXT, r"what people know it by; bytes that aren't UTF-8 as `\xff`"),
    "path_bytes": Column(_BYTES, "its path, as the file system has it; null for URLs"),
    "url": Column(_TEXT, "where it is fetched from; null for files"),
    "status": Column(_TEXT, "`succeeded`, `failed` or `cancelled`; of what is open the state of what is furthest"),
    "failed_step": Column(_TEXT, "task type whose failure is the reason; null unless status is `failed`"),
    "failure_class": Column(_TEXT, "`transient`, `permanent`, `config`, `unknown` or `resource`"),
    "category": Column(_TEXT, "`network`, `file`, `processing` or `resource`"),
    "error": Column(_TEXT, "why it failed, and the way out"),
    "text": Column(_TEXT, "the transcript; empty where nobody speaks, null where there is none"),
    "language": Column(_TEXT, "ISO 639-1 code, detected or given"),
    "duration": Column(_FLOAT, "length of the recording, seconds"),
    "processing_s": Column(_FLOAT, "what its transcription took, seconds"),
    "attempts": Column(_INT, "executions, those of its parts and steps included"),
    "model": Column(_TEXT, "what transcribed it"),
    "measured_accuracy": Column(_FLOAT, "percent; against a reference transcript only"),
    "estimated_accuracy": Column(_FLOAT, "percent; from the model's own confidence"),
    "wer": Column(_FLOAT, "errors per reference word; may pass 1"),
    "speech_s": Column(_FLOAT, "seconds of speech in it"),
    "warnings": Column(_TEXT, "codes, joined by commas; empty where there are none"),
    "cost_usd": Column(_FLOAT, "what services charged for all of its attempts; null where nothing is known"),
    "transcript_path": Column(_TEXT, "the first of its files, below the output folder"),
    "enhanced_path": Column(_TEXT, "the enhanced transcript likewise"),
    "code": Column(_TEXT, "of the failure"),
    "priority": Column(_INT, "lower runs first"),
    "chunks": Column(_INT, "parts that it was cut into; 0 where it was transcribed in one piece"),
    "retries": Column(_INT, "failures that were followed by another attempt"),
    "words": Column(_LONG, "words in the transcript"),
    "segments": Column(_INT, "segments in the transcript"),
    "low_confidence_segments": Column(_INT, "those that are worth a second look"),
    "wer_errors": Column(_LONG, "errors against the reference; pooled: `sum(wer_errors) / sum(wer_words)`"),
    "wer_words": Column(_LONG, "words of the reference"),
    "measured_accuracy_normalized": Column(_FLOAT, "percent, where `50` counts as `fifty`; English only"),
    "accuracy_unit": Column(_TEXT, "what these count: `words`, or `characters` of a script without spaces"),
    "duplicate_of": Column(_TEXT, "name of the input with the same content that was transcribed"),
    "cached": Column(_BOOL, "whether the transcript was there already"),
    "ended_at": Column(_UTC, "when it was done"),
    "artifact_key": Column(_TEXT, "of the transcript"),
    "uncovered_s": Column(_FLOAT, "seconds of speech in which no words were recognised"),
    "title": Column(_TEXT, "of a recording of the web, as its site has it; here and below null for files"),
    "channel": Column(_TEXT, "who published it"),
    "uploaded_on": Column(_TEXT, "`YYYYMMDD`"),
    "webpage": Column(_TEXT, "address of its page"),
    "site_id": Column(_TEXT, "its name at its site"),
    "captions": Column(_TEXT, "languages of the captions that the publisher offers, joined by commas"),
    "media_path": Column(_TEXT, "of what was fetched, below the output folder, where it is kept"),
    "source": Column(_TEXT, "of the transcript: `model`, or `captions` that the publisher wrote; null without one"),
    "chapters": Column(_TEXT, "JSON: `[[second, title], ...]`, as its site has them"),
    "tags": Column(_TEXT, "JSON: what its site files it under"),
    "availability": Column(_TEXT, "who may see it at its site: `public`, `unlisted`, ..."),
    "view_count": Column(_LONG, "how often it was seen at its site"),
    "metadata_path": Column(_TEXT, "all that its site says: a JSON file, a path below the output folder"),
    "enhanced_by": Column(_TEXT, "text model that it was enhanced with; null where none was asked"),
    "enhanced_accuracy": Column(_FLOAT, "percent, after; against a reference transcript only"),
    "edits": Column(_INT, "changes that enhancement made; null where it wasn't enhanced, and likewise below"),
    "edits_refused": Column(_INT, "changes and answers of the text model that were refused"),
    "segments_preserved": Column(_INT, "segments in which nothing had to be refused"),
}

_TASKS = {
    "task_id": Column(_TEXT, "the task's id"),
    "file_id": Column(_TEXT, "the input that it belongs to"),
    "task_type": Column(_TEXT, "its kind"),
    "chunk": Column(_INT, "number of the part, from 0; null for a whole input"),
    "priority": Column(_INT, "as given; what retries add is in attempts"),
    "state": Column(_TEXT, "`blocked`, `queued`, `delayed`, `running`, `succeeded`, `failed` or `cancelled`"),
    "attempts": Column(_INT, "executions so far"),
    "queued_at": Column(_UTC, "when it was ready; of a delayed task when its retry is due"),
    "started_at": Column(_UTC, "of its last attempt"),
    "ended_at": Column(_UTC, "of the same"),
    "num_cpus": Column(_FLOAT, "cores that it asks for"),
    "memory_mb": Column(_INT, "memory that it asks for now, MiB"),
    "artifact_key": Column(_TEXT, "of its result"),
    "parent": Column(_TEXT, "task_id of the task that planned it"),
    "provider": Column(_TEXT, "the service that it asks, or whose model it runs"),
}

_ATTEMPTS = {
    "task_id": Column(_TEXT, "the task's id"),
    "attempt": Column(_INT, "number, from 1"),
    "node": Column(_TEXT, "where it ran"),
    "pid": Column(_LONG, "the process that ran it"),
    "started_at": Column(_UTC, "by the worker's clock"),
    "ended_at": Column(_UTC, "null while it runs, and where it was interrupted"),
    "outcome": Column(
        _TEXT,
        "`running`, `succeeded`, `expanded` (into parts), `failed`, `interrupted`, `preempted`, `cancelled`",
    ),
    "failure_class": Column(_TEXT, "as in files"),
    "category": Column(_TEXT, "as in files"),
    "error": Column(_TEXT, "why it failed, and the way out"),
    "delay_s": Column(_FLOAT, "seconds until its retry; 0 where it makes none"),
    "priority": Column(_INT, "the task's, with what retries had added"),
    "memory_peak_mb": Column(_FLOAT, "of its process, MiB"),
    "cost_usd": Column(_FLOAT, "what it was charged, or may have been where nobody heard of it again"),
    "code": Column(_TEXT, "of the failure"),
    "epoch": Column(_INT, "of the coordinator that started it, from 1"),
    "file_id": Column(_TEXT, "the input that it belongs to"),
}

_SEGMENTS = {
    "file_id": Column(_TEXT, "the input"),
    "segment": Column(_INT, "number, from 0"),
    "start_s": Column(_FLOAT, "where it begins, seconds from the recording's beginning"),
    "end_s": Column(_FLOAT, "where it ends"),
    "text": Column(_TEXT, "as recognised"),
    "speaker": Column(_TEXT, "who speaks, as the engine calls them; null where it doesn't tell"),
    "confidence": Column(_FLOAT, "0-1; null where the model has none"),
    "avg_logprob": Column(_FLOAT, "mean token log probability (Whisper)"),
    "no_speech_prob": Column(_FLOAT, "0-1 (Whisper)"),
    "compression_ratio": Column(_FLOAT, "characters to compressed characters (Whisper)"),
    "warnings": Column(_TEXT, "codes, joined by commas"),
    "enhanced_text": Column(_TEXT, "the same, enhanced; null where it wasn't"),
    "language": Column(_TEXT, "of this segment, where the model tells"),
}

COLUMNS: Mapping[str, Mapping[str, Column]] = {
    "files": _FILES,
    "tasks": _TASKS,
    "attempts": _ATTEMPTS,
    "segments": _SEGMENTS,
}
"""Columns by table, in order."""

TABLES: Mapping[str, Mapping[str, pa.DataType]] = {
    table: {name: column.type for name, column in columns.items()} for table, columns in COLUMNS.items()
}
"""The types alone."""


def schema(table: str, extra: Iterable[str] = ()) -> pa.Schema:
    """The Arrow schema of a table, with `schema_version` in its metadata.

    Args:
        table: A name of TABLES.
        extra: Names of text columns that come after its own.
    """
    columns = {**TABLES[table], **dict.fromkeys(extra, _TEXT)}
    return pa.schema(
        list(columns.items()), metadata={"schema_version": str(SCHEMA_VERSION), "table": f"trax_ray.{table}"}
    )


def join_warnings(codes: Iterable[str]) -> str:
    """Warning codes as they stand in a table."""
    return ",".join(sorted(codes))
