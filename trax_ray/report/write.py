"""All files of `OUT/report/`, from the journal and the artifacts alone."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from trax_ray.core.task import Failure, TaskState, TaskType
from trax_ray.report.fold import Attempt, History, read_history
from trax_ray.report.page.write import Page
from trax_ray.report.parquet import TableFile
from trax_ray.report.schemas import SCHEMA_VERSION
from trax_ray.report.tables import (
    Entry,
    attempt_rows,
    entries,
    extra_columns,
    file_row,
    owners,
    segment_columns,
    task_rows,
    total_cost,
)
from trax_ray.report.text import clean_all, explained, iso_utc, one_line, reason
from trax_ray.report.transcripts import EarlierTexts, ahead, original_of, read_payload, text_of, uncovered_of
from trax_ray.store.artifacts import ArtifactStore
from trax_ray.store.explaining import shown
from trax_ray.store.files import ensure_folder
from trax_ray.store.layout import Layout
from trax_ray.store.writing import write_atomically

__all__ = ["write_history", "write_report"]

MAX_DECISIONS = 1000
"""Decisions on how many attempts may run that run.json holds, the newest; the journal has all."""

MAX_KEPT_OUTPUTS = 1000
"""Files of others that run.json names, beside which ours lie."""


def write_report(output_dir: str | Path, *, final: bool) -> dict[str, Any]:
    """Rebuild a batch's report from its journal and its artifacts; may be done while the batch runs.

    Each file is replaced in one step and only where it changes: the same journal gives the same bytes. A
    transcript that can't be read leaves a null text and the warning `artifact_missing`.

    Args:
        output_dir: The batch's output folder.
        final: True reads every artifact and writes segments too. False, for rewrites while the batch runs,
            takes the texts that the last report holds from there and leaves segments alone; the page that it writes of
            a batch that hasn't ended has no transcripts.

    Returns:
        Rows written by table (`files`, `tasks`, `attempts`; `segments` is None unless final), `retries`,
        `status` as in run.json, and `report`, the folder's path.

    Raises:
        FileError: There is no batch in this folder, or the report can't be written; permanent.
        JournalError: The journal is damaged, or was written by another version.
        DiskFull: No space, no quota; the files that were there are intact.
    """
    return write_history(output_dir, read_history(output_dir), final=final)


def write_history(output_dir: str | Path, history: History, *, final: bool) -> dict[str, Any]:
    """As `write_report`, for a history that is in memory already.

    Args:
        output_dir: The batch's output folder.
        history: Must not change until this returns.
        final: See `write_report`.
    """
    layout = Layout.of(output_dir)
    ensure_folder(layout.report)
    inputs = entries(history)
    with Page(layout, final=final) as page:
        segments = _write_files(layout, history, inputs, page, final=final)
        facts = run_facts(history)
        if final or not history.state.finished:  # what has ended had a page with its transcripts
            page.write(history, facts)
    counts = {"files": len(inputs)}
    for table, rows in (("tasks", task_rows(history)), ("attempts", attempt_rows(history))):
        with TableFile(layout.table(table), table) as written:
            for row in rows:
                written.add(row)
        counts[table] = written.count
    lines = "".join(f"{line}\n" for line in _error_lines(history, inputs))
    write_atomically(layout.errors_log, lines.encode())
    write_atomically(layout.run_json, (json.dumps(facts, indent=2, ensure_ascii=False) + "\n").encode())
    return {
        **counts,
        "segments": segments,
        "retries": history.retries,
        "status": facts["status"],
        "report": shown(layout.report),
    }


def run_facts(history: History) -> dict[str, Any]:
    """What run.json holds: the batch as a whole. Versions and host are those of the process that writes it.

    `status` is complete, stopped or parked (what is left waits for a person); running says that the journal
    has no end yet: the batch runs, or its coordinator died.
    """
    state, ledger = history.state, history.state.ledger
    verdicts = {
        kind: ledger.total.verdicts[kind] for kind in (TaskState.SUCCEEDED, TaskState.FAILED, TaskState.CANCELLED)
    }
    total = len(ledger.total.inputs)
    quality = ledger.total.quality.metrics(
        succeeded=verdicts[TaskState.SUCCEEDED], failed=verdicts[TaskState.FAILED], elapsed_s=history.worked_s
    )
    kept = [name for record in state.records.values() for name in record.metrics.get("kept_outputs") or ()]
    facts = {
        "schema_version": SCHEMA_VERSION,
        "name": history.spec.get("name", ""),
        "status": state.finished or "running",
        "started_at": iso_utc(history.started_at),
        "ended_at": iso_utc(state.now) if state.finished else None,
        "as_of": iso_utc(state.now),
        "worked_s": round(history.worked_s, 6),
        "counts": {
            "total": total,
            **{kind.value: count for kind, count in verdicts.items()},
            "open": total - sum(verdicts.values()),
        },
        "tasks": {kind.value: ledger.counts[kind] for kind in TaskState},
        "attempts": len(history.attempts),
        "retries": history.retries,
        "cost_usd": total_cost(attempt.cost_usd for attempt in history.attempts),
        "parked": {provider: failure.message for provider, failure in state.parked.items()},
        "scaling": [
            {"at": iso_utc(at), "slots": decision.slots, "reason": decision.reason}
            for at, decision in history.decisions[-MAX_DECISIONS:]
        ],
        "scaling_count": len(history.decisions),
        "quality_metrics": quality,
        "warnings": explained(quality["warnings"]),
        "kept_outputs": kept[:MAX_KEPT_OUTPUTS],
        "kept_outputs_count": len(kept),
        "spec": history.spec,
        "epochs": [
            {
                "epoch": run.epoch,
                "holder": run.holder,
                "started_at": iso_utc(run.started_at),
                "last_event_at": iso_utc(run.last_event_at),
            }
            for run in history.runs
        ],
        "host": platform.node(),
        "trax_ray_version": _version("trax-ray"),
        "python_version": platform.python_version(),
        "ray_version": _version("ray"),
    }
    cleaned: dict[str, Any] = clean_all(facts)
    return cleaned


def _write_files(layout: Layout, history: History, inputs: list[Entry], page: Page, *, final: bool) -> int | None:
    """Write files, and segments if it is the final report; the page sees all of it.

    Returns:
        The number of segments, None without.
    """
    ledger, store = history.state.ledger, ArtifactStore(layout.artifacts)
    extra = extra_columns(inputs)
    with ExitStack() as stack:
        files = stack.enter_context(TableFile(layout.table("files"), "files", extra.values()))
        segments = stack.enter_context(TableFile(layout.table("segments"), "segments")) if final else None
        earlier = None if final else stack.enter_context(closing(EarlierTexts(layout.table("files"))))
        wanted = (_Asked.of(entry, earlier, final=final) for entry in inputs)
        for asked, payload, enhanced in ahead(store, lambda each: each.read(store), wanted):
            entry = asked.entry
            row = file_row(entry, ledger, text_of(payload) if asked.text is None else asked.text, extra)
            files.add(row)
            # Where none are written, as while the batch runs, nobody looks at them.
            said = segment_columns(entry.file_id, (segments is not None and payload) or {}, enhanced)
            if segments is not None:
                segments.add_columns(said)
            page.add(entry, row, said, uncovered_of(payload))
    return None if segments is None else segments.count


@dataclass(frozen=True, slots=True)
class _Asked:
    """An input, what is known of its text, and the keys of the artifacts that are to be read for it."""

    entry: Entry
    text: str | None
    key: str
    enhanced: str

    @classmethod
    def of(cls, entry: Entry, earlier: EarlierTexts | None, *, final: bool) -> _Asked:
        key = entry.transcript.artifact_key if entry.transcript else ""
        text = earlier.get(entry.file_id, key) if key and earlier else None
        enhancing = entry.result(TaskType.ENHANCE)
        wanted = enhancing is not None and (final or not key)
        return cls(entry, text, key, enhancing.artifact_key if enhancing is not None and wanted else "")

    def read(self, store: ArtifactStore) -> tuple[_Asked, Mapping[str, Any] | None, Mapping[str, Any] | None]:
        """The same with its transcript and its enhanced one, where they are wanted and there."""
        payload = read_payload(store, self.key) if self.key and self.text is None else None
        enhanced = read_payload(store, self.enhanced) if self.enhanced else None
        return self, payload if self.key else original_of(enhanced), enhanced


def _error_lines(history: History, inputs: list[Entry]) -> Iterator[str]:
    """The lines of errors.log by time: failed attempts, and inputs that failed without one of their own.

    Columns, between tabs: UTC time, file, step, class, category, code, which attempt and what follows, reason.
    """
    records, owner = history.state.records, owners(history)
    names = {entry.file_id: entry.name for entry in inputs}
    found: list[tuple[float, str]] = []
    last: dict[str, Attempt] = {}
    for attempt in history.attempts:
        last[attempt.task_id] = attempt
    for attempt in history.attempts:
        if attempt.failure is None:
            continue
        record = records[attempt.task_id]
        number = f"attempt {attempt.attempt} of {attempt.limit}"
        if attempt.retried:
            number += f", again in {attempt.delay_s:.1f} s"
        elif last[attempt.task_id] is attempt and record.state is TaskState.FAILED:
            number += ", failed for good"
        at = attempt.ended_at or 0.0
        step = record.task.task_type.value
        if record.task.chunk is not None:
            step += f" chunk {record.task.chunk}"
        found.append((at, _line(at, names[owner[attempt.task_id]], step, attempt.failure, number)))
    for entry in inputs:
        failed = entry.failed()
        if failed is not None and failed.failure is not None:
            final = last.get(failed.task.id)
            if final is None or final.failure is None:
                step = failed.task.task_type.value
                line = _line(failed.ended_at, entry.name, step, failed.failure, "failed for good")
                found.append((failed.ended_at, line))
    found.sort(key=lambda pair: pair[0])
    return (line for _, line in found)


def _line(at: float, name: str, step: str, failure: Failure, number: str) -> str:
    parts = (name, step, failure.failure_class.value, failure.category.value, failure.code, number, reason(failure))
    return "\t".join([iso_utc(at) or "", *map(one_line, parts)])


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
