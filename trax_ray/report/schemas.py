"""The columns of the four tables: flat, plain types, UTC microseconds.

`warnings` is text, the codes joined by commas and empty where there are none, rather than a list: every
reader can filter it (`warnings LIKE '%no_speech%'`, `df.warnings.str.contains("no_speech")`), write it to CSV
and group by it. Lists can't do the last two in pandas. Codes hold no commas.

Columns of a manifest that mean nothing to us follow ours in files, in the order in which they were first seen.
All are text, whatever they were, and null where a recording has no value: 3 is `3`, true is `true`, lists and
objects are JSON. One whose name is taken, case folded since SQL doesn't tell, gets `input_` before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pyarrow as pa

__all__ = ["SCHEMA_VERSION", "TABLES", "join_warnings", "schema"]

SCHEMA_VERSION = 1
"""Goes up when a column changes its name, type or meaning, or goes; not when one is added at the end."""

_UTC = pa.timestamp("us", tz="UTC")
_TEXT, _FLOAT, _INT, _LONG, _BOOL = pa.string(), pa.float64(), pa.int32(), pa.int64(), pa.bool_()

_FILES = {
    "file_id": _TEXT,
    "file_name": _TEXT,  # bytes that aren't UTF-8 as \xff; path_bytes has the true name
    "path_bytes": pa.binary(),
    "url": _TEXT,
    "status": _TEXT,
    "failed_step": _TEXT,  # task type whose failure is the reason; null unless status is failed
    "failure_class": _TEXT,
    "category": _TEXT,
    "error": _TEXT,
    "text": _TEXT,
    "language": _TEXT,
    "duration": _FLOAT,  # seconds
    "processing_s": _FLOAT,
    "attempts": _INT,  # executions, chunks and steps included
    "model": _TEXT,
    "measured_accuracy": _FLOAT,  # percent; against a reference transcript only
    "estimated_accuracy": _FLOAT,  # percent; from the model's confidence
    "wer": _FLOAT,  # errors per reference word, may pass 1
    "speech_s": _FLOAT,
    "warnings": _TEXT,
    "cost_usd": _FLOAT,
    "transcript_path": _TEXT,  # below the output folder
    "enhanced_path": _TEXT,
    "code": _TEXT,  # of the failure
    "priority": _INT,
    "chunks": _INT,  # 0 where it was transcribed in one piece
    "retries": _INT,  # failures that were followed by another attempt
    "words": _LONG,
    "segments": _INT,
    "low_confidence_segments": _INT,
    "wer_errors": _LONG,  # pooled WER: sum(wer_errors) / sum(wer_words)
    "wer_words": _LONG,
    "measured_accuracy_normalized": _FLOAT,  # percent, where `50` counts as `fifty`; English only
    "accuracy_unit": _TEXT,  # what wer and accuracies count: words, or characters of a script without spaces
    "duplicate_of": _TEXT,  # name of the input with the same content that was transcribed
    "cached": _BOOL,  # the transcript was there already
    "ended_at": _UTC,
    "artifact_key": _TEXT,  # of the transcript
    "uncovered_s": _FLOAT,  # seconds of speech in which no words were recognised
    "title": _TEXT,  # of a recording of the web, as its site has it; here and below null for files
    "channel": _TEXT,  # who published it
    "uploaded_on": _TEXT,  # YYYYMMDD
    "webpage": _TEXT,
    "site_id": _TEXT,  # its name at its site
    "captions": _TEXT,  # languages of the captions that the publisher offers, separated by commas
    "media_path": _TEXT,  # of what was fetched, below the output folder, where it is kept
}

_TASKS = {
    "task_id": _TEXT,
    "file_id": _TEXT,
    "task_type": _TEXT,
    "chunk": _INT,  # from 0; null for a whole input
    "priority": _INT,  # as given; what retries add is in attempts
    "state": _TEXT,
    "attempts": _INT,
    "queued_at": _UTC,  # of a delayed task: when its retry is due
    "started_at": _UTC,  # of its last attempt
    "ended_at": _UTC,
    "num_cpus": _FLOAT,
    "memory_mb": _INT,  # what it asks for now, MiB
    "artifact_key": _TEXT,
    "parent": _TEXT,  # task_id of the task that planned it
    "provider": _TEXT,
}

_ATTEMPTS = {
    "task_id": _TEXT,
    "attempt": _INT,
    "node": _TEXT,
    "pid": _LONG,
    "started_at": _UTC,
    "ended_at": _UTC,  # null while it runs, and where it was interrupted
    "outcome": _TEXT,
    "failure_class": _TEXT,
    "category": _TEXT,
    "error": _TEXT,
    "delay_s": _FLOAT,
    "priority": _INT,
    "memory_peak_mb": _FLOAT,
    "cost_usd": _FLOAT,
    "code": _TEXT,
    "epoch": _INT,
    "file_id": _TEXT,
}

_SEGMENTS = {
    "file_id": _TEXT,
    "segment": _INT,  # from 0
    "start_s": _FLOAT,
    "end_s": _FLOAT,
    "text": _TEXT,
    "speaker": _TEXT,
    "confidence": _FLOAT,  # 0-1
    "avg_logprob": _FLOAT,
    "no_speech_prob": _FLOAT,
    "compression_ratio": _FLOAT,
    "warnings": _TEXT,
    "enhanced_text": _TEXT,
    "language": _TEXT,  # of this segment, where the model tells
}

TABLES: Mapping[str, Mapping[str, pa.DataType]] = {
    "files": _FILES,
    "tasks": _TASKS,
    "attempts": _ATTEMPTS,
    "segments": _SEGMENTS,
}
"""Columns by table, with their types, in order."""


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
