"""What holds of the output folder before a run, and instead of one."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from trax_ray.codes import FailureCode
from trax_ray.core.progress import BatchProgress
from trax_ray.core.spec import BatchSpec
from trax_ray.core.standing import fold
from trax_ray.core.state.additions import additions
from trax_ray.core.state.events import CoordinatorStarted, InputsClosed, Known
from trax_ray.core.task import BatchTask
from trax_ray.errors import FileError
from trax_ray.plan.planner import Planner
from trax_ray.report.result import BatchResult, result_of
from trax_ray.store.batch_journal import missing_results
from trax_ray.store.cleaning import forget_stand_ins
from trax_ray.store.creating import expect_creation
from trax_ray.store.epochs import has_journal, written
from trax_ray.store.inbox import waiting
from trax_ray.store.layout import Layout
from trax_ray.store.lease import Lease, expect_nobody
from trax_ray.store.objects import stats_of
from trax_ray.store.uris import ObjectPath

__all__ = ["expect_usable", "settled", "starting"]


def expect_usable(spec: BatchSpec) -> None:
    """See, before Ray is started, that a store which gets the output folder can keep two batches apart.

    Raises:
        StoreError, NetworkError: As `expect_creation`.
    """
    layout = Layout.of(spec.output_dir)
    if isinstance(layout.private, ObjectPath):
        expect_creation(layout.private)
        forget_stand_ins(layout, time.time())


@contextmanager
def starting(spec: BatchSpec) -> Iterator[Callable[[], None]]:
    """Show who holds the output folder until the coordinator does; what it gives is called then.

    Raises:
        BusyError: Another driver is starting there, or another batch runs there.
    """
    layout = Layout.of(spec.output_dir)
    lease = Lease(layout.starting)
    try:
        lease.acquire(f"batch {spec.name}, which is starting")
    except FileError as error:
        if error.code != FailureCode.NO_LOCKS:  # there the coordinator's heartbeat has to do
            raise
    try:
        # Coordinators begin while their driver holds the one, so from here on nobody else's does.
        expect_nobody(layout.lock)
        yield lease.release
    finally:
        lease.release()


def settled(spec: BatchSpec, planner: Planner, given: Sequence[BatchTask]) -> tuple[BatchProgress, BatchResult] | None:
    """How it stands and the result, where all that was given had ended in earlier runs: nothing to start Ray for.

    Args:
        spec: What to do.
        planner: Knows the earlier runs.
        given: The tasks; more may come meanwhile.

    Raises:
        JournalError: The journal there is damaged.
    """
    layout = Layout.of(spec.output_dir)
    if not has_journal(layout.journal):
        return None
    state = planner.past.take_state(layout)
    if any(request.command == "retry-failed" for request in waiting(layout.inbox)):
        return None
    state.handle(CoordinatorStarted(state.epoch, spec.to_dict(), run=uuid.uuid4().hex), state.now)
    events = additions(state.ledger, given, missing_results(layout, state.records, given))
    if not all(isinstance(event, Known) and not event.tasks for event in events):
        return None
    for event in [*events, InputsClosed()]:
        state.handle(event, state.now)
    progress = fold(state, state.now, {})
    if not _report_is_newest(layout):
        from trax_ray.report.write import write_report

        write_report(spec.output_dir, final=True)
    return progress, result_of(state, progress, spec.output_dir)


def _report_is_newest(layout: Layout) -> bool:
    """Whether the report was written after the journal's last word; a batch may die between the two."""
    if isinstance(layout.run_json, ObjectPath):
        report = stats_of([layout.run_json])[layout.run_json]
        # Whole seconds: of what happened within one nobody knows the order.
        written_ns = 0 if report is None else report.modified_s * 10**9
        return all(segment.changed_ns < written_ns for segment in written(layout.journal))
    try:
        written_ns = layout.run_json.stat().st_mtime_ns
    except OSError:
        return False
    return all(segment.changed_ns <= written_ns for segment in written(layout.journal))
