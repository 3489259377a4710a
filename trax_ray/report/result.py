"""What a batch has come to when it has ended: `BatchResult`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from trax_ray.core.policy.prediction import Range
from trax_ray.core.progress import BatchProgress, percent
from trax_ray.core.standing import failures_of

if TYPE_CHECKING:
    import pandas

    from trax_ray.core.state.machine import BatchState

__all__ = ["BatchResult", "result_of"]


@dataclass(frozen=True)
class BatchResult:
    """The end of a batch.

    Args:
        success_count: Inputs that succeeded.
        failure_count: Inputs that failed for good.
        total_count: Inputs in all.
        processing_time: Seconds that this run took.
        memory_peak_mb: Highest memory of the batch's own processes, MiB.
        cpu_peak_percent: Highest load of the coordinator's node, percent.
        quality_metrics: Accuracy, warnings and recovery figures.
        cancelled_count: Inputs that `stop` cancelled.
        failures: One mapping per failed input: file_id, file_name, failed_step, failure_class, category,
            code, error, attempts.
        reason: `complete`, `stopped` or `parked`.
        parked: Providers that wait for a person, with the reason.
        output_dir: Where transcripts and report are.
        report_error: Why the report could not be written; empty where it was.
        took_s: Seconds from the call of `start` to this result: `processing_time`, and starting Ray.
        predicted: How many they were expected to be; None where too little was known.
        cost_usd: What services have charged for this output folder so far, US dollars; None where nothing is known.
    """

    success_count: int = 0
    failure_count: int = 0
    total_count: int = 0
    processing_time: float = 0.0
    memory_peak_mb: float = 0.0
    cpu_peak_percent: float = 0.0
    quality_metrics: Mapping[str, Any] = field(default_factory=dict)
    cancelled_count: int = 0
    failures: Sequence[Mapping[str, Any]] = ()
    reason: str = "complete"
    parked: Mapping[str, str] = field(default_factory=dict)
    output_dir: str = ""
    report_error: str = ""
    cost_usd: float | None = None
    took_s: float = 0.0
    predicted: Range | None = None

    @property
    def success_rate(self) -> float:
        """100 x succeeded / total; 0.0 of nothing."""
        return percent(self.success_count, self.total_count)

    def to_pandas(self, table: str = "files") -> pandas.DataFrame:
        """One table of the report as a DataFrame.

        Args:
            table: `files`, `tasks`, `attempts` or `segments`.

        Raises:
            FileError: The report isn't there.
        """
        from trax_ray.report.frames import read_table

        return read_table(self.output_dir, table)


def result_of(state: BatchState, progress: BatchProgress, output_dir: str, report_error: str = "") -> BatchResult:
    """What a batch that has ended has come to.

    Args:
        state: The batch.
        progress: The same in figures, with what was measured.
        output_dir: Where transcripts and report are.
        report_error: Why the report could not be written; empty where it was.
    """
    return BatchResult(
        success_count=progress.completed_tasks,
        failure_count=progress.failed_tasks,
        cancelled_count=progress.cancelled_tasks,
        total_count=progress.total_tasks,
        processing_time=progress.elapsed_s,
        memory_peak_mb=progress.memory_peak_mb,
        cpu_peak_percent=progress.cpu_peak_percent,
        quality_metrics=progress.quality_metrics,
        failures=failures_of(state),
        reason=state.finished,
        parked=progress.parked,
        output_dir=output_dir,
        report_error=report_error,
        cost_usd=state.services.spent_usd or None,
    )
