"""The disk as a limit: how far downloads run ahead of their transcription."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trax_ray.core.groups import Shut
from trax_ray.core.limits.signals import ProviderSignal
from trax_ray.core.policy.admission import Allowance, admit
from trax_ray.core.policy.prefetch import MEGABYTE, USUAL_BYTES, Coming, Disk, bound_mb, is_prefetch, within
from trax_ray.core.spec import BatchSpec, Limits
from trax_ray.core.state.events import (
    AttemptEnded,
    Command,
    CoordinatorStarted,
    Dispatch,
    InputsClosed,
    LetGo,
    Resumed,
    Scaled,
    Started,
    Stopped,
    TasksAdded,
    decode_event,
    encode_event,
)
from trax_ray.core.state.machine import BatchState
from trax_ray.core.task import BatchTask, Category, Failure, FailureClass, Outcome, ResourceRequest, TaskState, TaskType
from trax_ray.testing.factories import make_task

FETCHES = ResourceRequest(num_cpus=0.0, memory_mb=256)
OK = ProviderSignal(status=200)
CORES = Allowance(cores=2.0, memory_mb=8192.0)


def download(name: str, *, declared: int = 0, host: str = "", output: str = "") -> BatchTask:
    fields: dict[str, Any] = {"size_bytes": declared} if declared else {}
    fields |= {"output": output} if output else {}
    provider = f"download {host or name}"
    return make_task(
        f"d-{name}", TaskType.DOWNLOAD, file_id=name, provider=provider, asks=True, resources=FETCHES, **fields
    )


def transcription(name: str, num_cpus: float = 1.0) -> BatchTask:
    resources = ResourceRequest(num_cpus=num_cpus, memory_mb=512)
    return make_task(f"t-{name}", file_id=name, provider="speech", depends_on=(f"d-{name}",), resources=resources)


def chains(sizes: Sequence[int], *, declared: bool = True) -> list[BatchTask]:
    both = ((download(str(n), declared=size if declared else 0), transcription(str(n))) for n, size in enumerate(sizes))
    return [task for pair in both for task in pair]


class Batch:
    """A machine, what runs, and how large each recording really is."""

    def __init__(self, tasks: Sequence[BatchTask], *, prefetch_mb: int | None = None, workers: int = 8) -> None:
        self.state = BatchState()
        self.now = 1000.0
        self.running: dict[str, Dispatch] = {}
        self.coming: dict[str, Coming] = {}
        self.sizes: dict[str, int] = {}
        self.events: list[dict[str, Any]] = []
        self.let_go: list[str] = []
        self.limits = Limits(max_workers=workers, prefetch_mb=prefetch_mb)
        self.begin(1, "run")
        self.do(TasksAdded(tuple(tasks)))
        self.do(InputsClosed())

    def begin(self, epoch: int, run: str) -> None:
        self.running.clear()
        spec = BatchSpec(output_dir="/out", limits=self.limits)
        self.do(CoordinatorStarted(epoch, spec.to_dict(), run=run))

    def do(self, event: Any) -> list[Command]:
        self.events.append(encode_event(event, self.now))
        commands = self.state.handle(event, self.now)
        self.let_go += [command.file_id for command in commands if isinstance(command, LetGo)]
        return commands

    def start(self) -> list[str]:
        """What starts until no more does, each process at once."""
        started: list[str] = []
        while more := self.turn():
            started += more
        return started

    def turn(self) -> list[str]:
        tasks = [dispatch.task for dispatch in self.running.values()]
        shut = Shut()
        waiting = self.state.upcoming(self.now, self.coming, shut)
        admitted = admit(self.limits, CORES, tasks, waiting, shut)
        if admitted:
            starts = Started(tuple((task.id, self.state.next_attempt(task.id)) for task in admitted))
            for command in self.do(starts):
                assert isinstance(command, Dispatch)
                self.running[command.task.id] = command
        return [task.id for task in admitted]

    def end(self, task_id: str, failure: Failure | None = None) -> None:
        dispatch = self.running.pop(task_id)
        self.coming.pop(task_id, None)
        size = self.sizes.get(dispatch.task.file_id, int(dispatch.task.data.get("size_bytes") or 0))
        figures = {"size_bytes": size} if is_prefetch(dispatch.task) and failure is None else {}
        signal = OK if dispatch.task.asks_provider else None
        outcome = Outcome(failure=failure, artifact_key="k", metrics=figures, signal=signal)
        self.do(AttemptEnded(task_id, dispatch.epoch, dispatch.attempt, outcome, jitter=0.5))


def failed(failure_class: str = "permanent", parks: str = "") -> Failure:
    return Failure(FailureClass(failure_class), Category.PROCESSING, "some", "no", parks=parks)


@pytest.mark.parametrize(("free", "expected"), [(100, 5_000), (8, 2_000), (0, 1)])
def test_a_quarter_of_the_free_disk_and_five_gigabytes_at_the_most(free: int, expected: int) -> None:
    assert bound_mb(free * 10**9) == expected


def test_downloads_run_ahead_until_the_bound_and_go_on_when_a_transcript_is_there() -> None:
    batch = Batch(chains([40 * MEGABYTE] * 6), prefetch_mb=100)
    assert batch.start() == ["d-0", "d-1"]
    batch.end("d-0")
    batch.end("d-1")
    assert batch.start() == ["t-0", "t-1"], "what was fetched waits, and takes its room"
    batch.end("t-0")
    assert batch.start() == ["d-2"]


def test_one_that_is_larger_than_the_bound_is_fetched_alone() -> None:
    batch = Batch(chains([10 * MEGABYTE, 500 * MEGABYTE, 10 * MEGABYTE]), prefetch_mb=100)
    assert batch.start() == ["d-0"], "no smaller one is taken before a large one that waits"
    batch.end("d-0")
    assert batch.start() == ["t-0"]
    batch.end("t-0")
    assert batch.start() == ["d-1"]
    batch.end("d-1")
    assert batch.start() == ["t-1"]
    batch.end("t-1")
    assert batch.start() == ["d-2"]


def test_what_the_server_says_counts_and_what_has_come_beyond_it() -> None:
    batch = Batch(chains([0] * 9), prefetch_mb=100)
    assert batch.start() == ["d-0", "d-1"], f"{USUAL_BYTES} each as long as nothing is known"
    batch.coming = {"d-0": Coming(1, 10 * MEGABYTE), "d-1": Coming(1, 10 * MEGABYTE)}
    assert batch.start() == ["d-2"]
    batch.coming["d-2"] = Coming(1, 10 * MEGABYTE)
    assert batch.start() == ["d-3"]
    batch.coming["d-3"] = Coming(71 * MEGABYTE, 10 * MEGABYTE)
    assert batch.start() == []


def test_what_is_usual_is_learned() -> None:
    batch = Batch(chains([0] * 9), prefetch_mb=100)
    batch.sizes = {"0": 20 * MEGABYTE, "1": 20 * MEGABYTE}
    batch.start()
    batch.end("d-0")
    batch.end("d-1")
    assert batch.start() == ["t-0", "t-1", "d-2", "d-3", "d-4"]


def test_media_that_a_user_gets_are_not_bounded() -> None:
    tasks = [download(str(n), declared=90 * MEGABYTE, output=f"media/{n}") for n in range(5)]
    assert len(Batch(tasks, prefetch_mb=100).start()) == 5


def test_without_a_bound_all_start() -> None:
    assert len(Batch(chains([10**12] * 5)).start()) == 5, "as by a journal of before"


def test_the_next_come_while_transcriptions_take_all_cores() -> None:
    batch = Batch(chains([MEGABYTE] * 20), prefetch_mb=100)
    assert len(batch.start()) == 8
    for n in range(4):
        batch.end(f"d-{n}")
    started = batch.start()
    assert started == ["t-0", "t-1", "d-8", "d-9"]
    batch.end("d-4")
    assert batch.start() == ["d-10"], "t-2 waits for a core, and that is no reason not to fetch"


def test_a_transcription_that_waits_for_a_core_gets_its_memory_with_it_and_downloads_go_on() -> None:
    tasks = [transcription("a"), transcription("b"), *(download(str(n)) for n in range(4))]
    tight = Allowance(cores=1.0, memory_mb=1024.0 + 300.0)

    def started(waiting: Sequence[BatchTask]) -> list[str]:
        running: list[BatchTask] = []
        while found := admit(Limits(max_workers=8), tight, running, waiting, Shut()):
            running += found
            waiting = [task for task in waiting if task not in found]
        return [task.id for task in running]

    assert started(tasks) == ["t-a", "d-0", "d-1", "d-2"], "812 are left, and t-b will have t-a's 512"
    large = replace(tasks[1], resources=ResourceRequest(1.0, 1024))
    assert started([tasks[0], large, *tasks[2:]]) == ["t-a", "d-0"], "512 are kept for it besides"


def test_what_waits_for_a_parked_service_ends_the_batch_though_downloads_are_left() -> None:
    batch = Batch(chains([60 * MEGABYTE] * 4), prefetch_mb=100)
    batch.start()
    batch.end("d-0")
    assert batch.start() == ["t-0"]
    batch.end("t-0", failed("config", parks="speech"))
    assert batch.start() == []
    assert batch.state.finished == "parked", "else it would fill the disk, or wait for ever"
    batch.begin(2, "run")
    batch.do(InputsClosed())
    assert batch.start() == ["t-0"]
    batch.end("t-0")
    assert batch.start() == ["d-1"]


def test_as_long_as_there_is_room_a_parked_service_keeps_no_download_back() -> None:
    batch = Batch(chains([30 * MEGABYTE] * 4), prefetch_mb=100)
    batch.start()
    batch.end("d-0")
    batch.end("d-1")
    batch.end("d-2")
    assert batch.start() == ["t-0", "t-1"]
    batch.end("t-0", failed("config", parks="speech"))
    batch.end("t-1")
    assert batch.start() == ["d-3"]
    assert not batch.state.finished
    batch.end("d-3")
    assert batch.state.finished == "parked"


def test_a_download_may_exceed_the_bound_where_nothing_else_could_go_on() -> None:
    """Two downloads for one transcription, which only Python can ask for."""
    tasks = [download("a", declared=60 * MEGABYTE), download("b", declared=60 * MEGABYTE)]
    both = make_task("t-both", file_id="c", provider="speech", depends_on=("d-a", "d-b"))
    batch = Batch([*tasks, both], prefetch_mb=100)
    assert batch.start() == ["d-a"]
    batch.end("d-a")
    assert batch.start() == ["d-b"]
    batch.end("d-b")
    assert batch.start() == ["t-both"]


def test_media_of_what_failed_for_good_are_let_go() -> None:
    batch = Batch(chains([60 * MEGABYTE] * 3), prefetch_mb=100)
    batch.start()
    batch.end("d-0")
    batch.start()
    batch.end("t-0", failed("transient"))
    assert batch.let_go == []
    assert batch.state.ledger.media.held_bytes == 60 * MEGABYTE, "it is tried again"
    batch.now += 10.0
    assert batch.start() == ["t-0"]
    batch.end("t-0", failed())
    assert batch.let_go == ["0"]
    assert batch.state.ledger.media.held_bytes == 0
    assert batch.start() == ["d-1"]
    batch.end("d-1", failed())
    assert batch.let_go == ["0", "1"], "parts of what can't be had go too"
    assert batch.state.ledger.media.is_needless("1")
    assert not batch.state.ledger.media.is_needless("2")


def test_media_of_what_was_stopped_stay_for_the_next_run() -> None:
    batch = Batch(chains([60 * MEGABYTE] * 2), prefetch_mb=100)
    batch.start()
    batch.end("d-0")
    batch.do(Stopped())
    assert batch.let_go == []
    assert not batch.state.ledger.media.is_needless("0")
    assert not batch.state.ledger.media.is_needless("unknown")


def test_a_download_that_waited_behind_one_that_the_disk_keeps_back_parks_with_it_when_its_delay_is_over() -> None:
    sizes = [1, 1, 1, 2]
    batch = Batch(chains([size * MEGABYTE for size in sizes]), prefetch_mb=2, workers=2)
    batch.start()
    batch.end("d-0")
    batch.end("d-1", failed())
    batch.start()
    batch.end("t-0", failed("config", parks="speech"))
    batch.end("d-2", failed("transient"))
    due = batch.state.next_due()
    assert due is not None
    assert not batch.state.ends_by_time(batch.now)
    batch.now = due + 0.1
    assert batch.start() == []
    assert batch.state.ends_by_time(batch.now)
    batch.do(Scaled(2, ""))
    assert batch.state.finished == "parked"


@given(data=st.data(), declared=st.booleans(), bound=st.integers(1, 200), workers=st.integers(1, 9))
@settings(max_examples=80, deadline=None)
def test_never_beyond_the_bound_and_never_stuck(data: st.DataObject, declared: bool, bound: int, workers: int) -> None:
    sizes = data.draw(st.lists(st.integers(1, 150), min_size=1, max_size=12))
    batch = Batch(chains([size * MEGABYTE for size in sizes], declared=declared), prefetch_mb=bound, workers=workers)
    batch.sizes = {str(n): size * MEGABYTE for n, size in enumerate(sizes)}
    troubles = 20
    for _ in range(400):
        batch.start()
        held = [
            name
            for name, size in batch.sizes.items()
            if batch.state.records[f"d-{name}"].state in (TaskState.RUNNING, TaskState.SUCCEEDED)
            and not batch.state.records[f"t-{name}"].state.terminal
        ]
        if declared:
            assert len(held) <= 1 or sum(batch.sizes[name] for name in held) <= bound * MEGABYTE
        if batch.state.finished == "parked":
            batch.do(Resumed())
            batch.begin(batch.state.epoch + 1, "run")
            batch.do(InputsClosed())
            continue
        if batch.state.finished:
            break
        if not batch.running and batch.state.ends_by_time(batch.now):
            batch.do(Scaled(2, ""))
            assert batch.state.finished
            continue
        if not batch.running:
            due = batch.state.next_due()
            assert due is not None, "something goes on, always"
            batch.now = due + 0.1
            continue
        task_id = data.draw(st.sampled_from(sorted(batch.running)))
        if not declared and is_prefetch(batch.running[task_id].task):
            batch.coming[task_id] = Coming(0, batch.sizes[batch.running[task_id].task.file_id])
        troubles -= 1
        how = data.draw(st.sampled_from(["", "", "", "permanent", "transient", "config"])) if troubles > 0 else ""
        batch.end(task_id, failed(how, parks="speech" if task_id.startswith("t-") else "") if how else None)
        batch.now += 0.5
    assert batch.state.finished == "complete"
    assert batch.state.ledger.media.held_bytes == 0
    again = BatchState()
    for line in batch.events:
        again.handle(*decode_event(json.loads(json.dumps(line))))
    assert again.dump() == batch.state.dump()


def test_the_rule_alone() -> None:
    tasks = [download("a", declared=5), transcription("b"), download("c", declared=1), download("d", declared=4)]
    full = Disk(bound_bytes=10, held_bytes=6, usual_bytes=1)
    assert [task.id for task in within(tasks, full, lambda: False, Shut())] == ["t-b"]
    assert [task.id for task in within(tasks[2:], full, lambda: True, Shut())] == ["d-c"]
    assert [task.id for task in within(tasks, full, lambda: True, Shut())] == ["t-b"], "something else goes on"
    half = Disk(bound_bytes=10, held_bytes=4, usual_bytes=1)
    assert [task.id for task in within(tasks, half, lambda: False, Shut())] == ["d-a", "t-b", "d-c"]
    assert [task.id for task in within(tasks, Disk(None, 10**15, 1), lambda: False, Shut())] == [
        "d-a",
        "t-b",
        "d-c",
        "d-d",
    ]
