"""A batch seen and steered from outside: what its journal says, what it says itself, and what becomes of commands."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any

import pytest

from trax_ray.cluster.status import write_status
from trax_ray.control import BatchControl, Outcome, Phase
from trax_ray.core.progress import BatchProgress, encode_progress
from trax_ray.core.state.events import (
    AttemptEnded,
    Draining,
    Event,
    InputsClosed,
    Paused,
    Started,
    Stopped,
)
from trax_ray.core.task import Category, Failure, FailureClass
from trax_ray.core.task import Outcome as AttemptOutcome
from trax_ray.errors import BusyError, FileError, JournalError, UsageError
from trax_ray.processor import BatchProcessor
from trax_ray.report.fold import read_history
from trax_ray.store import inbox
from trax_ray.store.batch_journal import BatchJournal
from trax_ray.store.cleaning import clean
from trax_ray.store.epochs import open_journal
from trax_ray.store.layout import Layout
from trax_ray.store.lease import Lease, holder_of
from trax_ray.testing.factories import make_spec, make_task

Journal = Callable[..., None]
AtWork = Callable[..., subprocess.Popen[str]]

PARKED = AttemptOutcome(failure=Failure(FailureClass.CONFIG, Category.RESOURCE, "no_weights", "no weights at hand"))


@pytest.fixture
def control(layout: Layout) -> BatchControl:
    return BatchControl(layout.output_dir, timeout_s=0.5)


class TestNobodyIsAtWork:
    """The journal says how a batch stands."""

    @pytest.mark.parametrize("there", [False, True])
    def test_a_folder_without_a_batch(self, control: BatchControl, layout: Layout, there: bool) -> None:
        if there:
            layout.private.mkdir(parents=True)
        for act in (control.status, control.pause, control.resume, control.stop, control.retry_failed):
            with pytest.raises(FileError, match=f"no batch in {layout.output_dir}.*trax-ray batch") as caught:
                act()
            assert caught.value.code == "not_found"
        assert not layout.inbox.exists()

    @pytest.mark.parametrize(
        ("events", "phase"),
        [
            ((), Phase.INTERRUPTED),
            ((InputsClosed(),), Phase.INTERRUPTED),
            ((Draining(),), Phase.INTERRUPTED),
            ((Stopped(),), Phase.STOPPED),
            ((Stopped("signal"),), Phase.STOPPED),
            ((Paused(),), Phase.PAUSED),
            ((Paused(), Stopped("signal")), Phase.PAUSED),
            ((Paused(), Stopped()), Phase.STOPPED),
            ((Started((("t2", 1),)), AttemptEnded("t2", 1, 1, AttemptOutcome()), InputsClosed()), Phase.COMPLETE),
            (
                (Started((("t2", 1),)), AttemptEnded("t2", 1, 1, AttemptOutcome()), Paused(), InputsClosed()),
                Phase.COMPLETE,
            ),
            ((InputsClosed(), Started((("t2", 1),)), AttemptEnded("t2", 1, 1, PARKED)), Phase.PARKED),
        ],
    )
    def test_its_phase(self, control: BatchControl, journal: Journal, events: tuple[Event, ...], phase: Phase) -> None:
        journal(*events)
        status = control.status()
        assert status.phase is phase
        assert not status.at_work
        assert (status.parked == {"scripted": "no weights at hand"}) is (phase is Phase.PARKED)

    def test_its_figures(self, control: BatchControl, layout: Layout, journal: Journal) -> None:
        journal()
        status = control.status()
        assert (status.name, status.output_dir) == ("out", str(layout.output_dir))
        assert (status.total, status.succeeded, status.failed, status.cancelled) == (3, 1, 1, 0)
        assert (status.active, status.queued, status.epoch) == (0, 1, 1)
        assert status.failures == {"permanent": 1}
        assert (status.elapsed_s, status.updated_at) == (10.0, 110.0)
        assert (status.memory_mb, status.cpu_percent, status.slots, status.estimated_remaining_s) == (None,) * 4
        assert (status.holder, status.pid, status.host, status.since) == ("", None, "", None)
        assert status.progress.completed_tasks == 1
        assert status.progress.success_rate == pytest.approx(33.3, abs=0.1)

    @pytest.mark.parametrize("record", [{"event": "FromTomorrow", "at": 1.0}, {"event": "Paused", "at": 1.0, "why": 1}])
    def test_a_journal_of_a_later_version(
        self, control: BatchControl, layout: Layout, journal: Journal, record: dict[str, Any]
    ) -> None:
        journal()
        opened = open_journal(layout.journal, "tomorrow", 1.0)
        opened.append([record])
        opened.close()
        words = r"this version of trax_ray can't read .*: use the version that wrote it"
        with pytest.raises(JournalError, match=words):
            control.status()
        with pytest.raises(JournalError, match=words):
            BatchJournal.open(layout, "today", 1.0)
        with pytest.raises(JournalError, match=words):
            read_history(layout.output_dir)
        assert holder_of(layout.lock) is None

    def test_what_a_dead_coordinator_said_does_not_count(
        self, control: BatchControl, layout: Layout, journal: Journal
    ) -> None:
        journal(Stopped())
        said = {"batch": "talks", "phase": "running", "pid": os.getpid(), "host": socket.gethostname(), "total": 99}
        layout.status.write_text(json.dumps(said))
        status = control.status()
        assert (status.phase, status.total) == (Phase.STOPPED, 3)
        assert status.name == "talks", "apart from its name"

    @pytest.mark.parametrize("content", ["", "{", "[]", "null"])
    def test_a_status_that_can_not_be_read(
        self, control: BatchControl, layout: Layout, journal: Journal, content: str
    ) -> None:
        journal()
        layout.status.write_text(content)
        assert control.status().total == 3

    def test_a_damaged_journal_is_said(self, control: BatchControl, layout: Layout, journal: Journal) -> None:
        journal()
        segment = next(layout.journal.iterdir())
        data = bytearray(segment.read_bytes())
        data[len(data) // 2] ^= 1
        segment.write_bytes(data)
        with pytest.raises(JournalError):
            control.status()

    def test_a_status_is_json(self, control: BatchControl, journal: Journal) -> None:
        journal()
        said = json.loads(json.dumps(control.status().to_dict()))
        assert said["phase"] == "interrupted"
        assert said["failures"] == {"permanent": 1}
        assert said["requests"] == []


class TestCommandsForTheNextRun:
    def test_a_pause_waits_and_waits_once(self, control: BatchControl, layout: Layout, journal: Journal) -> None:
        journal()
        assert control.pause().outcome is Outcome.LEFT
        assert control.pause().outcome is Outcome.NOTHING
        assert [request.command for request in inbox.waiting(layout.inbox)] == ["pause"]
        assert control.status().requests == ("pause",)

    def test_what_is_paused_already_needs_no_pause(
        self, control: BatchControl, layout: Layout, journal: Journal
    ) -> None:
        journal(Paused())
        assert control.pause().outcome is Outcome.NOTHING
        assert inbox.waiting(layout.inbox) == []

    def test_resuming_takes_a_pause_back(self, control: BatchControl, layout: Layout, journal: Journal) -> None:
        journal()
        assert control.resume().outcome is Outcome.NOTHING
        control.pause()
        assert control.resume().outcome is Outcome.LEFT
        assert control.resume().outcome is Outcome.NOTHING
        assert [request.command for request in inbox.waiting(layout.inbox)] == ["pause", "resume"]
        assert control.pause().outcome is Outcome.LEFT

    def test_resuming_what_was_paused(self, control: BatchControl, layout: Layout, journal: Journal) -> None:
        journal(Paused())
        assert control.resume().outcome is Outcome.LEFT
        assert [request.command for request in inbox.waiting(layout.inbox)] == ["resume"]

    def test_there_is_nothing_to_stop(self, control: BatchControl, layout: Layout, journal: Journal) -> None:
        journal()
        inbox.put(layout.inbox, "stop")  # as one that nobody took up
        inbox.put(layout.inbox, "pause")
        assert control.stop().outcome is Outcome.NOTHING
        assert [request.command for request in inbox.waiting(layout.inbox)] == ["pause"]

    def test_what_has_failed_is_asked_for_once(self, control: BatchControl, layout: Layout, journal: Journal) -> None:
        journal(Stopped())
        journal(run="b", fail=False)
        assert control.status().failed == 0, "the second run was given nothing"
        for _ in range(2):
            answer = control.retry_failed()
            assert (answer.outcome, answer.inputs) == (Outcome.LEFT, 1)
        assert [request.command for request in inbox.waiting(layout.inbox)] == ["retry-failed"]

    def test_where_nothing_has_failed_nothing_is_asked_for(
        self, control: BatchControl, layout: Layout, journal: Journal
    ) -> None:
        journal(fail=False)
        answer = control.retry_failed()
        assert (answer.outcome, answer.inputs) == (Outcome.NOTHING, 0)
        assert inbox.waiting(layout.inbox) == []


class TestABatchIsStarting:
    """Ray takes some seconds to start, and a driver shows that it is there."""

    @pytest.fixture(autouse=True)
    def lease(self, layout: Layout) -> Iterator[Lease]:
        lease = Lease(layout.starting)
        lease.acquire("batch talks, which is starting")
        yield lease
        lease.release()

    def test_its_status(self, control: BatchControl, layout: Layout, journal: Journal) -> None:
        status = control.status()
        assert (status.phase, status.total, status.pid) == (Phase.STARTING, 0, os.getpid())
        journal()
        status = control.status()
        assert (status.phase, status.total, status.at_work) == (Phase.STARTING, 3, True), "as the last run left it"

    @pytest.mark.parametrize("command", inbox.COMMANDS)
    def test_commands_wait_for_it(self, layout: Layout, command: str) -> None:
        control = BatchControl(layout.output_dir, timeout_s=0.2)
        answer = getattr(control, command.replace("-", "_"))()
        assert answer.outcome is Outcome.WAITS
        assert [request.command for request in inbox.waiting(layout.inbox)] == [command]

    def test_another_one_is_told(self, layout: Layout) -> None:
        processor = BatchProcessor(make_spec(layout.output_dir))
        processor.feed([make_task("a")])
        with pytest.raises(BusyError, match="batch talks, which is starting"):
            asyncio.run(processor.start())

    def test_nothing_is_cleaned(self, layout: Layout) -> None:
        with pytest.raises(BusyError, match="batch talks, which is starting"):
            clean(layout, 0.0)


class TestABatchIsAtWork:
    """What it says itself counts."""

    def test_its_status(self, control: BatchControl, layout: Layout, journal: Journal, at_work: AtWork) -> None:
        journal()
        process = at_work(
            epoch=2, total=10, succeeded=5, failed=1, cancelled=0, active=3, queued=1, memory_mb=512.5, cpu_percent=75,
            elapsed_s=61.0, estimated_remaining_s=30.0, slots=4, limits_reason="memory", parked={"openai": "no key"},
            services={"deepseek": "why"},
        )  # fmt: skip
        status = control.status()
        assert (status.name, status.phase, status.at_work) == ("talks", Phase.RUNNING, True)
        assert (status.holder, status.pid, status.host) == ("batch talks", process.pid, socket.gethostname())
        assert status.since == pytest.approx(time.time(), abs=60)
        assert status.updated_at == pytest.approx(time.time(), abs=10)
        assert (status.total, status.succeeded, status.failed, status.active, status.queued) == (10, 5, 1, 3, 1)
        assert (status.memory_mb, status.cpu_percent, status.slots, status.limits_reason) == (512.5, 75, 4, "memory")
        assert (status.elapsed_s, status.estimated_remaining_s, status.epoch) == (61.0, 30.0, 2)
        assert status.parked == {"openai": "no key"}
        assert status.services == status.progress.services == {"deepseek": "why"}
        assert status.failures == {"permanent": 1}, "from the journal"
        assert control.status(failures=False).failures == {}

    @pytest.mark.parametrize(
        ("said", "phase"),
        [
            ({"phase": "draining"}, Phase.DRAINING),
            ({"phase": "waiting", "waits_until": 1.8e9}, Phase.WAITING),
            ({"phase": "paused"}, Phase.PAUSED),
            ({"phase": "complete"}, Phase.COMPLETE),
            ({"phase": "of a later version"}, Phase.RUNNING),
        ],
    )
    def test_its_phase(
        self, control: BatchControl, layout: Layout, at_work: AtWork, said: dict[str, Any], phase: Phase
    ) -> None:
        at_work(**said)
        status = control.status()
        assert status.phase is phase
        assert status.waits_until == said.get("waits_until")

    def test_one_that_has_said_nothing_yet(
        self, control: BatchControl, layout: Layout, journal: Journal, at_work: AtWork
    ) -> None:
        process = at_work("silent")
        status = control.status()
        assert (status.phase, status.pid, status.total) == (Phase.RUNNING, process.pid, 0)
        assert status.name == "out"

    def test_one_that_begins_does_not_stand_where_the_last_one_stood(
        self, control: BatchControl, layout: Layout, journal: Journal, at_work: AtWork
    ) -> None:
        journal(Paused())
        layout.status.write_text(json.dumps({"phase": "complete", "pid": 1, "host": "elsewhere", "total": 99}))
        at_work("silent")
        status = control.status()
        assert (status.phase, status.total, status.at_work) == (Phase.PAUSED, 3, True)

    @pytest.mark.parametrize(
        ("command", "phase"), [("pause", Phase.PAUSED), ("resume", Phase.RUNNING), ("retry_failed", Phase.RUNNING)]
    )
    def test_it_takes_commands_up(
        self, control: BatchControl, layout: Layout, at_work: AtWork, command: str, phase: Phase
    ) -> None:
        at_work(failed=2)
        answer = getattr(control, command)()
        assert (answer.outcome, answer.status.phase) == (Outcome.TAKEN_UP, phase)
        assert answer.inputs == (2 if command == "retry_failed" else 0)
        assert inbox.waiting(layout.inbox) == []

    def test_it_stops(self, control: BatchControl, layout: Layout, journal: Journal, at_work: AtWork) -> None:
        journal(Stopped())
        process = at_work()
        answer = control.stop()
        assert answer.outcome is Outcome.TAKEN_UP
        assert process.wait(10) == 0
        assert not control.status().at_work

    def test_one_that_does_not_look_keeps_the_command(
        self, control: BatchControl, layout: Layout, at_work: AtWork
    ) -> None:
        at_work("ignores")
        answer = control.pause()
        assert answer.outcome is Outcome.WAITS
        assert answer.status.requests == ("pause",)
        assert [request.command for request in inbox.waiting(layout.inbox)] == ["pause"]

    @pytest.mark.parametrize("ended", [True, False])
    @pytest.mark.parametrize(
        ("command", "outcome", "left"),
        [("stop", Outcome.NOTHING, []), ("pause", Outcome.LEFT, ["pause"]), ("resume", Outcome.NOTHING, [])],
    )
    def test_one_that_ends_without_looking(
        self,
        control: BatchControl,
        layout: Layout,
        journal: Journal,
        at_work: AtWork,
        command: str,
        outcome: Outcome,
        left: list[str],
        ended: bool,
    ) -> None:
        """A stop that came too late must not lie in wait for the next run."""
        journal(*([Stopped()] if ended else []))
        at_work("ends")
        answer = getattr(control, command)()
        assert answer.outcome is outcome
        assert not answer.status.at_work
        assert [request.command for request in inbox.waiting(layout.inbox)] == left


SAID = {"phase": "running", "epoch": 7, "updated_at": 5.0, "total": 9, "succeeded": 1, "failed": 2, "cancelled": 3,
        "queued": 4, "active": 5, "memory_mb": 6.5, "cpu_percent": 7.5, "elapsed_s": 8.5, "estimated_remaining_s": 9.5,
        "parked": {"a": "b"}, "services": {"c": "d"}, "waits_until": 10.5, "draining": False, "slots": 11,
        "limits_reason": "why"}  # fmt: skip
"""What version 0.1 writes to `status.json`, pid, host and `batch` apart."""

JSON = {"name", "output_dir", "phase", "holder", "pid", "host", "since", "epoch", "updated_at", "total", "succeeded",
        "failed", "cancelled", "active", "queued", "memory_mb", "cpu_percent", "elapsed_s", "estimated_remaining_s",
        "parked", "waits_until", "slots", "limits_reason", "services", "failures", "requests"}  # fmt: skip
"""The keys of `trax-ray status --json` in version 0.1."""


class TestTheFile:
    """`status.json`: what it has from the first version on stays, and is read whoever wrote it."""

    def test_its_keys(self, layout: Layout) -> None:
        layout.private.mkdir(parents=True)
        write_status(layout, "talks", 3, BatchProgress(total_tasks=4, phase=Phase.DRAINING))
        said = json.loads(layout.status.read_text())
        assert {"batch", "pid", "host", *SAID} <= set(said)
        assert (said["batch"], said["epoch"], said["pid"], said["host"]) == ("talks", 3, os.getpid(), platform.node())
        assert (said["total"], said["phase"], said["draining"]) == (4, "draining", True)
        assert said["updated_at"] == pytest.approx(time.time(), abs=10)

    def test_what_an_earlier_version_wrote(self, control: BatchControl, at_work: AtWork) -> None:
        at_work(**SAID)
        said = control.status(failures=False).to_dict()
        assert {key: said.get(key, False) for key in SAID} == SAID

    def test_what_a_later_version_wrote(self, control: BatchControl, at_work: AtWork) -> None:
        at_work(total=3, paid_usd=1.5, quality_metrics=None)
        status = control.status()
        assert (status.total, status.quality_metrics) == (3, {})

    def test_every_figure_comes_through(self, control: BatchControl, layout: Layout, at_work: AtWork) -> None:
        """Also one that is added tomorrow."""
        values: dict[str, Any] = {
            "int": 3, "float": 2.5, "float | None": 1.5, "int | None": 4, "str": "why", "Phase": Phase.PARKED,
            "Mapping[str, str]": {"a": "b"}, "Mapping[str, Any]": {"x": 1.5, "y": None},
            "Mapping[str, Mapping[str, int]]": {"a": {"b": 1}}, "Sequence[Mapping[str, Any]]": [{"x": 1}],
            "Sequence[Mapping[str, str]]": [{"x": "y"}],
        }  # fmt: skip
        progress = BatchProgress(**{each.name: values[each.type] for each in fields(BatchProgress)})
        at_work(**encode_progress(progress))
        status = control.status(failures=False)
        assert {each.name: getattr(status, each.name) for each in fields(progress)} == vars(progress)

    def test_the_keys_of_a_status(self, control: BatchControl, journal: Journal) -> None:
        journal()
        assert set(control.status().to_dict()) >= JSON


def test_what_a_batch_was_to_do_is_known_after_its_end(control: BatchControl, layout: Layout, journal: Journal) -> None:
    """What was never brought to the queue isn't in the journal."""
    journal(Stopped())
    layout.status.write_text(json.dumps({"epoch": 1, "total": 9}))
    status = control.status()
    assert (status.total, status.succeeded, status.failed, status.cancelled, status.queued) == (9, 1, 1, 7, 0)
    layout.status.write_text(json.dumps({"epoch": 2, "total": 99}))
    assert control.status().total == 3, "another coordinator's"


def test_the_public_names() -> None:
    import trax_ray

    assert trax_ray.BatchControl is BatchControl
    assert trax_ray.BatchStatus.__name__ == "BatchStatus"


def test_there_are_no_other_commands(layout: Layout) -> None:
    """Each one of the inbox has a method here."""
    assert {name.replace("-", "_") for name in inbox.COMMANDS} <= set(dir(BatchControl))
    with pytest.raises(UsageError):
        inbox.put(layout.inbox, "shout")
