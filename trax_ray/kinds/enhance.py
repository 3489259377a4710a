"""ENHANCE: from a transcript to one that reads well and still says what was said.

The transcript is cut into windows, which are tasks of their own on a lane; when all are answered the task runs again,
applies what the checks let pass, and writes the files beside those of the transcript, which stay as they are.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from trax_ray.codes import WarningCode
from trax_ray.core.policy.quality import accuracy_percent
from trax_ray.core.task import Outcome, ResourceRequest, TaskType
from trax_ray.enhance.edits import LEVELS
from trax_ray.enhance.summary import Summary
from trax_ray.errors import ProcessingError
from trax_ray.kinds.accuracy import count_errors, read_reference
from trax_ray.kinds.assignment import Assignment, Progress
from trax_ray.kinds.base import Kind
from trax_ray.kinds.codec import from_json, to_json
from trax_ray.kinds.enhanced import Enhanced, EnhancedFigures, ruled
from trax_ray.kinds.enhancing import PROMPT_VERSION, SUMMARY, Passage
from trax_ray.kinds.original import Original, original_of
from trax_ray.kinds.windows import Windows
from trax_ray.store.artifacts import ArtifactStore
from trax_ray.store.layout import Layout
from trax_ray.store.outputs import write_files

__all__ = ["ENHANCE", "EnhanceData", "enhance"]

FORMAT_VERSION = 2
"""Of enhanced transcripts; a change of it makes new ones, of answers that are paid for already."""


@dataclass(frozen=True, slots=True)
class EnhanceData:
    """What an ENHANCE task is given.

    Args:
        transcript_path: Absolute path of a transcript; empty for that of a task which this one depends on.
        name: What people see.
        output: Path of the files below the output folder, without suffix and `.enhanced`; empty writes none.
        level: Of `ENHANCE_LEVELS`; empty takes the batch's.
        language: ISO 639-1 code; None takes what is known of the transcript.
        reference: Path of the reference transcript; empty where there is none.
        size_bytes: What it weighs in the estimate of the time still to go.
        off_peak: Whether it waits for the provider's cheap hours.
        missing: It couldn't be looked at when it was planned.
        extra: What a manifest says besides; the report passes it on.
    """

    transcript_path: str = ""
    name: str = ""
    output: str = ""
    level: str = ""
    language: str | None = None
    reference: str = ""
    size_bytes: int = 0
    off_peak: bool = False
    missing: bool = False
    extra: dict[str, Any] = field(default_factory=dict)


def enhance(assignment: Assignment) -> Iterator[Progress | Outcome]:
    """Make one attempt at a transcript: plan its windows, or apply what they brought.

    Yields:
        Progress, then one Outcome: the key of what was made and `EnhancedFigures`, or the windows to be asked first.

    Raises:
        FileError: The transcript or its reference can't be read, or a file can't be written.
        MediaError: There is no transcript in the file; permanent.
        ProcessingError: Nothing to enhance, or a server refused every window; permanent.
    """
    started = time.monotonic()
    yield Progress(0.0)
    job = _Job.of(assignment)
    payload = job.store.get(job.key)
    cached = payload is not None
    if payload is None:
        wanted = job.windows.wanted()
        if wanted:
            yield Outcome(children=wanted, metrics={"windows": len(wanted)})
            return
        yield Progress(0.5)
        payload = job.keep(started)
    enhanced = from_json(Enhanced, payload)
    summary = None
    if job.wants_summary:
        asking = job.summing_up(enhanced)
        wanted = asking.wanted()
        if wanted:
            yield Outcome(children=wanted, metrics={"windows": len(wanted)})
            return
        summary = asking.summary()
    figures = job.finished(enhanced, cached=cached, summary=summary)
    yield Outcome(artifact_key=job.key, metrics=to_json(figures))


ENHANCE = Kind(
    name="enhance",
    task_type=TaskType.ENHANCE,
    data=EnhanceData,
    runs=enhance,
    resources=ResourceRequest(num_cpus=0.0, memory_mb=256),  # seconds of work, that wait for no core
    needs="transcript_path",
    prepares_calls=lambda task, spec: True,
)


@dataclass(frozen=True)
class _Job:
    """An attempt with what follows from it.

    Args:
        assignment: The attempt.
        data: What it was given.
        layout: The output folder.
        store: Its artifacts.
        original: The transcript as it is.
        passage: That and how it is enhanced.
    """

    assignment: Assignment
    data: EnhanceData
    layout: Layout
    store: ArtifactStore
    original: Original
    passage: Passage

    @classmethod
    def of(cls, assignment: Assignment) -> _Job:
        data, spec = ENHANCE.read(assignment.task), assignment.spec.enhance
        layout = Layout.of(assignment.spec.output_dir)
        store = ArtifactStore(layout.artifacts)
        original = original_of(assignment, store, layout, data.transcript_path, data.language)
        passage = Passage(
            segments=ruled(original.segments, spec.glossary),
            level=data.level or spec.level,
            language=original.language,
            glossary=spec.glossary,
            remove_fillers=spec.remove_fillers,
        )
        return cls(assignment, data, layout, store, original, passage)

    @property
    def asks(self) -> bool:
        """Whether a model is asked."""
        return self.passage.level in LEVELS and bool(self.passage.segments)

    @property
    def wants_summary(self) -> bool:
        """Whether a model is asked to sum it up."""
        return self.assignment.spec.enhance.summary and self.asks

    @cached_property
    def key(self) -> str:
        """Of the enhanced transcript."""
        model = self.windows.model.name if self.asks else ""
        parameters = {**self.passage.parameters(), "prompt": PROMPT_VERSION}
        return self.store.key(self.original.content, "enhanced", parameters, model, FORMAT_VERSION)

    @cached_property
    def windows(self) -> Windows:
        """The windows; none where no model is asked."""
        return Windows(self.assignment, self.store, self.passage if self.asks else None, self.original.content)

    def summing_up(self, enhanced: Enhanced) -> Windows:
        """The one window that sums up what came of all others."""
        segments = tuple(enhanced.segments(self.original))
        passage = Passage(segments, SUMMARY, self.original.language)
        return Windows(self.assignment, self.store, passage, self.key)

    def keep(self, started: float) -> dict[str, Any]:
        """Apply what the windows brought, and commit it; what is committed then.

        Raises:
            ProcessingError: A server refused every window; permanent.
        """
        kept = self.windows.kept()
        if kept and len(kept) == len(self.passage.windows):
            code, reason = next(iter(kept.values()))
            raise ProcessingError(f"the text model refused all of it: {reason}", code=code)
        enhanced = Enhanced.of(
            self.passage,
            self.original,
            self.windows.answers(),
            kept,
            model=self.assignment.spec.enhance.model if self.asks else "",
            provider=self.windows.model.provider.name if self.asks else "",
            processing_s=round(time.monotonic() - started, 3),
        )
        return self.store.put(self.key, to_json(enhanced))[1]

    def finished(self, enhanced: Enhanced, *, cached: bool, summary: Summary | None) -> EnhancedFigures:
        """Write the files, and say how it went."""
        figures = replace(self._measured(enhanced), cached=cached)
        if self.wants_summary and summary is None:
            figures = replace(figures, warnings=tuple(sorted({*figures.warnings, WarningCode.NO_SUMMARY.value})))
        if not self.data.output:
            return figures
        contents = enhanced.files(self.assignment.spec, self.original)
        wanted = {f"{self.data.output}.enhanced.{suffix}": text for suffix, text in contents.items()}
        if summary is not None:
            wanted[f"{self.data.output}.summary.md"] = summary.markdown()
        encoded = {name: text.encode("utf-8", "backslashreplace") for name, text in wanted.items()}
        names = write_files(self.layout, self.assignment.task.file_id, encoded)
        beside = tuple(name for name, written in zip(wanted, names, strict=True) if name != written)
        more = {WarningCode.OUTPUT_KEPT.value} if beside else set()
        warnings = tuple(sorted({*figures.warnings, *more}))
        return replace(figures, outputs=tuple(names), kept_outputs=beside, warnings=warnings)

    def _measured(self, enhanced: Enhanced) -> EnhancedFigures:
        """Its figures, with its accuracy before and after where there is a reference."""
        figures = enhanced.figures()
        spoken = read_reference(self.data.reference) if self.data.reference else ""
        before, after = count_errors(spoken, enhanced.text_before), count_errors(spoken, enhanced.text)
        if before is None or after is None:
            return figures
        return replace(
            figures,
            errors_before=before.errors,
            errors_after=after.errors,
            reference_words=after.words,
            accuracy_before=accuracy_percent(before.errors, before.words),
            accuracy_after=accuracy_percent(after.errors, after.words),
        )
