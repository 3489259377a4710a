"""How many tasks may run: limits and measurements in, a number out, and what to end under pressure."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trax_ray.core.groups import Shut
from trax_ray.core.policy.admission import (
    CLOSES_AFTER_S,
    SETTLE_S,
    Allowance,
    Governor,
    Memory,
    NodeSample,
    ResourceSample,
    Use,
    capacity,
    cpu_slots,
    idle_machine,
    to_give_back,
)
from trax_ray.core.policy.admission import (
    admit as admit_tasks,
)
from trax_ray.core.spec import Limits
from trax_ray.core.task import BatchTask, ResourceRequest, TaskType
from trax_ray.testing.factories import make_task

quick = settings(max_examples=200, deadline=None)

MARGIN = 5.0
"""Percent points of foreign load between where cores go and where they come back."""

# Whole megabytes and quarters of a core, so that sums are exact.
megabytes = st.integers(0, 3000).map(float)
percents = st.floats(0, 100)
tasks = st.builds(
    lambda cpus, memory_mb, gpus, shared: make_task(
        resources=ResourceRequest(cpus, memory_mb, gpus),
        shared=shared,
    ),
    st.sampled_from([0.0, 0.25, 0.5, 1.0, 2.0, 4.0]),
    st.sampled_from([256, 512, 1024, 4096]),
    st.sampled_from([0.0, 0.0, 0.5, 1.0]),
    st.booleans(),
)
many_tasks = st.lists(tasks, max_size=12)
nodes = st.builds(
    NodeSample,
    node=st.just("n"),
    cores=st.sampled_from([0.0, 1.0, 2.0, 3.0, 8.0, 64.0]),
    foreign_cpu_percent=percents,
    overhead_mb=megabytes,
    workers_mb=megabytes,
    workers=st.integers(0, 8),
    gpus=st.sampled_from([0.0, 1.0, 2.0]),
)
samples = st.lists(nodes, max_size=3).map(
    lambda found: ResourceSample(tuple(replace(node, node=f"n{number}") for number, node in enumerate(found)))
)
limits = st.builds(
    Limits,
    max_workers=st.integers(1, 12),
    memory_limit_mb=st.integers(1, 8192),
    cpu_limit_percent=st.floats(1, 100),
)


def idle(cores: float, **fields: float) -> ResourceSample:
    """One node with nothing on it but what is told."""
    return ResourceSample((NodeSample("n", cores, **fields),))  # type: ignore[arg-type]


def first_look(limits: Limits, sample: ResourceSample) -> Allowance:
    """What somebody makes of a measurement who has seen none before."""
    return Governor(limits).observe(sample, 0.0)


def admit(limits: Limits, allowance: Allowance, running: Sequence[BatchTask], waiting: Sequence[BatchTask]) -> int:
    """How many start: the first ones, in their order."""
    found = admit_tasks(limits, allowance, running, iter(waiting))
    assert found == list(waiting[: len(found)])
    return len(found)


def admitted(limits: Limits, sample: ResourceSample, running: Sequence[BatchTask], waiting: Sequence[BatchTask]) -> int:
    return admit(limits, first_look(limits, sample), running, waiting)


def task(num_cpus: float, memory_mb: int = 256, num_gpus: float = 0.0) -> BatchTask:
    return make_task(resources=ResourceRequest(num_cpus, memory_mb, num_gpus))


ONE = task(1.0)
TINY = task(0.25)
CALL = make_task(resources=ResourceRequest(4.0, 4096, 1.0), shared=True)
ROOMY = Limits(max_workers=99, memory_limit_mb=99_999, cpu_limit_percent=100)


# Slots


def at_most(limits: Limits, allowance: Allowance) -> int:
    return capacity(limits, allowance).slots


@pytest.mark.parametrize(
    ("cores", "percent", "expected"),
    [
        (1, 90, 1),
        (2, 90, 2),
        (2, 50, 1),
        (2, 1, 1),
        (4, 90, 4),
        (4, 60, 2),
        (8, 90, 7),
        (16, 90, 14),
        (64, 90, 58),
        (64, 100, 64),
    ],
)
def test_cpu_slots_of_an_idle_node(cores: float, percent: float, expected: int) -> None:
    most = replace(ROOMY, cpu_limit_percent=percent)
    assert cpu_slots(cores, percent) == expected
    assert at_most(most, first_look(most, idle(cores))) == expected
    assert admitted(most, idle(cores), [], [ONE] * 99) == expected


def test_a_head_without_cores_runs_nothing_and_the_batch_waits_with_one() -> None:
    """That one is seen by the autoscaler, and brings the first node."""
    most = replace(ROOMY, cpu_limit_percent=90)
    assert cpu_slots(0, 90) == 0
    assert admitted(most, idle(0), [], [ONE] * 99) == 1
    both = ResourceSample((NodeSample("head", 0), NodeSample("worker", 8)))
    assert at_most(most, first_look(most, both)) == 7
    assert first_look(most, both).memory_mb == most.memory_limit_mb, "the head's isn't for tasks"


@quick
@given(cores=st.integers(1, 1000), percent=st.floats(0.1, 100))
def test_the_rule_for_slots(cores: int, percent: float) -> None:
    assert cpu_slots(cores, percent) == max(1, round(cores * percent / 100))
    assert 1 <= cpu_slots(cores, percent) <= max(1, cores)


@quick
@given(limits=limits, sample=samples)
def test_slots_are_what_would_start_of_tasks_of_one_core(limits: Limits, sample: ResourceSample) -> None:
    allowance = first_look(limits, sample)
    found = at_most(limits, allowance)
    assert 1 <= found <= limits.max_workers
    if allowance.memory is Memory.OPEN:
        boundless = replace(allowance, memory_mb=1e9)
        assert admit(limits, boundless, [], [ONE] * 99) == found
    else:
        assert found == 1 == admit(limits, allowance, [], [ONE] * 99)


def test_an_idle_node_has_one_slot_at_least() -> None:
    free = task(0.0)
    ten = replace(ROOMY, cpu_limit_percent=10)
    assert admitted(ten, idle(1), [free], [ONE]) == 1
    assert admitted(ten, idle(1, foreign_cpu_percent=95), [free], [ONE]) == 0


def test_twelve_workers_on_two_cores_is_no_error() -> None:
    twelve = Limits(max_workers=12, memory_limit_mb=99_999)
    assert admitted(twelve, idle(2), [], [ONE] * 20) == 2
    assert admitted(twelve, idle(2), [ONE, ONE], [ONE] * 20) == 0
    assert admitted(twelve, idle(2), [], [TINY] * 20) == 8
    assert admitted(twelve, idle(64), [], [TINY] * 20) == 12
    assert admitted(twelve, idle(64), [TINY] * 9, [TINY] * 20) == 3
    assert admitted(twelve, idle(64), [TINY] * 12, [TINY] * 20) == 0
    assert admitted(twelve, idle(64), [TINY] * 15, [TINY] * 20) == 0, "the ceiling was lowered meanwhile"


def test_nothing_waits_nothing_starts() -> None:
    assert admitted(ROOMY, idle(8), [], []) == 0


# Load


def test_own_load_never_closes_and_foreign_load_does_core_by_core() -> None:
    # What the batch itself burns is no part of a sample: 8 running tasks of a quarter core leave 6 of 8 cores.
    assert admitted(ROOMY, idle(8), [TINY] * 8, [ONE] * 9) == 6
    found = {
        percent: admitted(ROOMY, idle(8, foreign_cpu_percent=percent), [], [ONE] * 9) for percent in range(0, 101, 25)
    }
    assert found == {0: 8, 25: 6, 50: 4, 75: 2, 100: 1}
    assert admitted(ROOMY, idle(8, foreign_cpu_percent=100), [ONE], [ONE] * 9) == 0


@quick
@given(limits=limits, node=nodes, workers=st.integers(0, 64), workers_mb=megabytes)
def test_what_the_batch_itself_does_takes_no_cores(
    limits: Limits, node: NodeSample, workers: int, workers_mb: float
) -> None:
    governor = Governor(limits)
    quiet = governor.observe(ResourceSample((replace(node, workers=0, workers_mb=0.0),)), 0.0)
    busy = governor.observe(ResourceSample((replace(node, workers=workers, workers_mb=workers_mb),)), 1.0)
    assert busy.cores == quiet.cores


def test_foreign_load_within_what_the_limit_leaves_free_costs_nothing() -> None:
    ninety = replace(ROOMY, cpu_limit_percent=90)
    assert admitted(ninety, idle(10, foreign_cpu_percent=10), [], [ONE] * 20) == 9
    assert admitted(ninety, idle(10, foreign_cpu_percent=30), [], [ONE] * 20) == 7


def test_the_noise_of_an_idle_machine_costs_nothing_though_the_limit_leaves_nothing_free() -> None:
    assert [first_look(ROOMY, idle(64, foreign_cpu_percent=percent)).cores for percent in (1, 6, 6.5)] == [64, 64, 60]


@quick
@given(limits=limits, sample=samples, running=many_tasks, waiting=many_tasks, more=percents)
def test_more_foreign_load_never_admits_more(
    limits: Limits, sample: ResourceSample, running: list[BatchTask], waiting: list[BatchTask], more: float
) -> None:
    busier = ResourceSample(
        tuple(replace(node, foreign_cpu_percent=min(100, node.foreign_cpu_percent + more)) for node in sample.nodes)
    )
    assert admitted(limits, busier, running, waiting) <= admitted(limits, sample, running, waiting)
    assert at_most(limits, first_look(limits, busier)) <= at_most(limits, first_look(limits, sample))


def cores_under(limits: Limits, cores: float, loads: Sequence[float], step_s: float = CLOSES_AFTER_S) -> list[float]:
    """What is allowed as other people's load changes, one look each `step_s`."""
    governor = Governor(limits)
    return [
        governor.observe(idle(cores, foreign_cpu_percent=load), number * step_s).cores
        for number, load in enumerate(loads)
    ]


def settled(limits: Limits, cores: float, loads: Sequence[float]) -> list[float]:
    """The same where each load stays for a while."""
    return cores_under(limits, cores, [load for load in loads for _ in range(2)])[1::2]


def test_a_quarter_of_two_cores_taken_by_others_leaves_both_slots_open() -> None:
    """Half the speed, for 28 % of load, is what rounding 1.44 cores made of it."""
    ninety = replace(ROOMY, cpu_limit_percent=90)
    assert [first_look(ninety, idle(2, foreign_cpu_percent=load)).cores for load in (0, 25, 28, 30, 37)] == [2] * 5
    assert [first_look(ninety, idle(2, foreign_cpu_percent=load)).cores for load in (38, 50, 87)] == [1] * 3
    assert first_look(ninety, idle(2, foreign_cpu_percent=88)).cores == 0
    assert settled(ninety, 2, [0, 25, 30, 37, 28, 36]) == [2] * 6


def test_a_slot_that_was_closed_opens_with_room_to_spare() -> None:
    ninety = replace(ROOMY, cpu_limit_percent=90)
    assert settled(ninety, 2, [30, 45, 37, 33, 32, 36, 38, 36, 32]) == [2, 1, 1, 1, 2, 2, 1, 1, 2]


def test_cores_go_when_the_load_stays_and_come_back_when_there_is_room_to_spare() -> None:
    ninety = replace(ROOMY, cpu_limit_percent=90)
    assert settled(ninety, 8, [0, 50, 45, 40, 38, 38, 60, 10, 6, 5]) == [7, 4, 4, 5, 5, 5, 3, 7, 7, 7]
    assert settled(ninety, 8, [100, 95, 90, 50, 5]) == [0, 0, 1, 4, 7]


def test_a_load_that_is_soon_gone_closes_nothing() -> None:
    ninety = replace(ROOMY, cpu_limit_percent=90)
    assert cores_under(ninety, 2, [0, 100, 100, 100, 0, 100, 100, 100, 0], step_s=1.0) == [2] * 9
    assert cores_under(ninety, 2, [0, 100, 100, 100, 100], step_s=1.0) == [2, 2, 2, 2, 0]


def test_what_closes_is_what_was_missing_all_the_while() -> None:
    assert cores_under(ROOMY, 8, [0, 100, 25, 100, 100], step_s=1.0) == [8, 8, 8, 8, 6]
    assert cores_under(ROOMY, 8, [0, 100, 25, 100, 100, 100, 100, 100], step_s=1.0)[5:] == [6, 6, 0]


@quick
@given(limits=limits, cores=st.integers(1, 128), loads=st.lists(percents, min_size=1, max_size=12))
def test_cores_are_between_what_the_load_leaves_and_what_five_points_more_would(
    limits: Limits, cores: int, loads: list[float]
) -> None:
    for load, found in zip(loads, settled(limits, cores, loads), strict=True):
        least, most = (
            first_look(limits, idle(cores, foreign_cpu_percent=each)).cores for each in (load + MARGIN, load)
        )
        assert least <= found <= most


@quick
@given(limits=limits, cores=st.integers(1, 128), loads=st.lists(percents, min_size=1, max_size=12))
def test_looking_more_often_closes_no_more(limits: Limits, cores: int, loads: list[float]) -> None:
    now_and_then = cores_under(limits, cores, loads)
    often = cores_under(limits, cores, [load for load in loads for _ in range(3)], step_s=CLOSES_AFTER_S / 3)[::3]
    assert all(seldom >= more for seldom, more in zip(often, now_and_then, strict=True)), (often, now_and_then)


@quick
@given(
    limits=limits,
    cores=st.integers(1, 128),
    low=st.floats(0, 99),
    jitter=st.lists(st.floats(0, 4.99), min_size=2, max_size=12),
)
def test_a_load_that_jitters_by_less_than_the_margin_never_gives_back_what_it_took(
    limits: Limits, cores: int, low: float, jitter: list[float]
) -> None:
    found = cores_under(limits, cores, [low + each for each in jitter])
    assert all(later <= earlier for earlier, later in pairwise(found)), found


@quick
@given(limits=limits, cores=st.integers(1, 128), loads=st.lists(percents, max_size=5), rest=st.floats(0, 1))
def test_all_cores_are_back_when_others_rest(limits: Limits, cores: int, loads: list[float], rest: float) -> None:
    assert cores_under(limits, cores, [*loads, rest])[-1] == cpu_slots(cores, limits.cpu_limit_percent)


def test_every_node_has_its_own_load() -> None:
    governor = Governor(ROOMY)
    clock = iter(range(0, 999, 3))

    def cores(first: float | None, second: float) -> float:
        found = [NodeSample("a", 8, first)] if first is not None else []
        sample = ResourceSample((*found, NodeSample("b", 4, second)))
        governor.observe(sample, float(next(clock)))
        return governor.observe(sample, float(next(clock))).cores

    assert cores(0, 0) == 12
    assert cores(60, 0) == 7
    assert cores(58, 100) == 3, "the first hasn't come back, the second is gone"
    assert cores(0, 98) == 8
    assert cores(60, 0) == 7
    assert cores(None, 0) == 4, "the first node left"
    assert cores(58, 0) == 8, "and is another one when it comes again"


def test_nodes_add_up_each_with_its_own_rounding() -> None:
    sample = ResourceSample((NodeSample("a", 2), NodeSample("b", 2), NodeSample("c", 1, foreign_cpu_percent=100)))
    assert admitted(replace(ROOMY, cpu_limit_percent=90), sample, [], [ONE] * 20) == 4


# Memory


def test_memory_by_declaration_or_by_measurement_whichever_is_more() -> None:
    two_gb = Limits(max_workers=99, memory_limit_mb=2048)
    assert admitted(two_gb, idle(64), [], [ONE] * 20) == 8
    assert admitted(two_gb, idle(64, overhead_mb=500), [], [ONE] * 20) == 6
    assert admitted(two_gb, idle(64), [ONE] * 4, [ONE] * 20) == 4
    assert admitted(two_gb, idle(64, workers_mb=900), [ONE] * 4, [ONE] * 20) == 4
    assert admitted(two_gb, idle(64, workers_mb=1600), [ONE] * 4, [ONE] * 20) == 1
    assert admitted(two_gb, idle(64, workers_mb=9000), [ONE] * 4, [ONE] * 20) == 0
    assert admitted(two_gb, idle(64, overhead_mb=9000), [], [ONE] * 20) == 1


THOUSAND = Limits(max_workers=99, memory_limit_mb=1000)


def memory_under(used_mb: Sequence[float], step_s: float = 1.0) -> list[str]:
    """What is allowed as the memory of the batch changes, half of it overhead."""
    governor = Governor(THOUSAND)
    return [
        governor.observe(idle(8, overhead_mb=mb / 2, workers_mb=mb / 2), number * step_s).memory.value
        for number, mb in enumerate(used_mb)
    ]


def test_memory_closes_at_the_limit_and_opens_below_nine_tenths_of_it() -> None:
    used = [999, 1000, 999, 901, 900, 899, 999, 1000]
    assert memory_under(used) == ["open", "closed", "closed", "closed", "closed", "open", "open", "closed"]


@quick
@given(used=st.lists(st.integers(850, 1199), min_size=1, max_size=20))
def test_memory_that_jitters_between_nine_tenths_and_the_limit_changes_nothing(used: list[int]) -> None:
    for (before, _), (now, mb) in pairwise(zip(memory_under(used), used, strict=True)):
        if 900 <= mb < 1000:
            assert now == before
        else:
            assert now == ("open" if mb < 900 else "closed")


def test_a_closed_batch_starts_nothing_but_its_only_task() -> None:
    allowance = first_look(THOUSAND, idle(8, overhead_mb=1000))
    assert allowance.memory is Memory.CLOSED
    assert admit(THOUSAND, allowance, [], [ONE] * 9) == 1
    assert admit(THOUSAND, allowance, [], [CALL] * 9) == 1
    assert admit(THOUSAND, allowance, [TINY], [ONE] * 9) == 0
    assert admit(THOUSAND, allowance, [CALL], [CALL] * 9) == 0
    assert at_most(THOUSAND, allowance) == 1


def test_far_over_the_limit_something_is_given_back_and_then_there_is_time_to_see() -> None:
    used = [1199, 1200, 1300, 1300, 1300, 1300, 1100, 1300, 1300, 800, 1300]
    assert memory_under(used) == [
        "closed",
        "shed",
        "closed",
        "closed",
        "shed",
        "closed",
        "closed",
        "shed",
        "closed",
        "open",
        "shed",
    ]
    assert memory_under([1300] * 5, step_s=SETTLE_S) == ["shed"] * 5


@quick
@given(
    used=st.lists(st.integers(1000, 1400), min_size=1, max_size=20),
    steps=st.lists(st.sampled_from([0.25, 1.0, 2.0, 4.0]), min_size=20, max_size=20),
)
def test_whatever_the_memory_does_things_are_given_back_three_seconds_apart(
    used: list[int], steps: list[float]
) -> None:
    governor, now, last = Governor(THOUSAND), 0.0, float("-inf")
    for mb, step in zip(used, steps, strict=False):
        now += step
        allowance = governor.observe(idle(8, workers_mb=float(mb)), now)
        if mb >= 1200 and now - last >= 3.0:
            assert (allowance.memory, allowance.over) == (Memory.SHED, ("n",))
            last = now
        else:
            assert allowance.memory is Memory.CLOSED


def test_one_node_over_its_limit_closes_the_batch_until_that_one_has_room_or_is_gone() -> None:
    governor = Governor(THOUSAND)

    def memory(**used_mb: float) -> tuple[str, tuple[str, ...]]:
        sample = ResourceSample(tuple(NodeSample(name, 4, workers_mb=mb) for name, mb in used_mb.items()))
        allowance = governor.observe(sample, 0.0)
        return allowance.memory.value, allowance.over

    assert memory(a=500, b=999) == ("open", ())
    assert memory(a=500, b=1000) == ("closed", ())
    assert memory(a=950, b=850) == ("open", ()), "the limit is each node's own"
    assert memory(a=1000, b=1250) == ("shed", ("b",))
    assert memory(a=800, b=1250) == ("closed", ("b",))
    assert memory(a=800) == ("open", ())


def test_what_the_nodes_have_to_give_adds_up() -> None:
    sample = ResourceSample(
        (
            NodeSample("a", 8, overhead_mb=300, workers_mb=200, gpus=1),
            NodeSample("b", 4, overhead_mb=5000, workers_mb=100, gpus=2),
        )
    )
    found = first_look(THOUSAND, sample)
    assert (found.cores, found.memory_mb, found.workers_mb, found.gpus) == (11.0, 700.0, 300.0, 3.0)


def test_the_reason_is_told_where_there_is_less_than_the_limits_allow() -> None:
    assert first_look(THOUSAND, idle(8, foreign_cpu_percent=10, workers_mb=999)).reason == ""
    sample = ResourceSample(
        (NodeSample("0123456789", 8, foreign_cpu_percent=50.4), NodeSample("abc", 8, workers_mb=1100, overhead_mb=10))
    )
    assert first_look(THOUSAND, sample).reason == (
        "the batch uses 1110 of 1000 MB on node abc; other programs take 50 % of node 01234567"
    )


# What may start


def test_priority_is_strict_none_is_passed_over_for_a_smaller_one() -> None:
    big = task(4.0)
    assert admitted(ROOMY, idle(4), [ONE], [big, ONE, ONE]) == 0
    assert admitted(ROOMY, idle(4), [ONE], [ONE, big, ONE]) == 1
    assert admitted(ROOMY, idle(4), [ONE], [big, CALL]) == 0
    gpu = task(1.0, num_gpus=1.0)
    assert admitted(ROOMY, idle(8), [ONE], [gpu, ONE, ONE]) == 0


def test_what_comes_with_the_core_that_a_task_waits_for_is_not_kept_from_those_that_need_none() -> None:
    limits, fetch = Limits(max_workers=99, memory_limit_mb=2048), task(0.0, 256)

    def fetched(running: Sequence[BatchTask], *waiting: BatchTask, cores: float = 1) -> int:
        allowance, fetching = first_look(limits, idle(cores)), list(running)
        while new := admit_tasks(limits, allowance, fetching, [*waiting, fetch], Shut()):
            assert new == [fetch]
            fetching += new
        return len(fetching) - len(running)

    alike, smaller, larger = task(1.0, 512), task(1.0, 300), task(1.0, 1024)
    assert fetched([alike]) == 6
    assert fetched([alike], alike) == 6, "it has the other's memory with its core"
    assert fetched([alike], smaller) == 6
    assert fetched([alike], larger) == 4, "with 512 MB besides"
    assert fetched([alike, smaller], larger, cores=2) == 2, "whichever ends first: 300 MB come with the core"
    assert fetched([alike, *[fetch] * 5], alike) == 1, "nor where it has no room now"
    assert fetched([alike, *[fetch] * 5], larger) == 0, "what it lacks comes first"


def test_processes_of_those_that_need_no_core_start_as_many_at_a_time_as_there_are_cores() -> None:
    fetch, waiting = task(0.0, 256), [task(0.0, 256)] * 9

    def started(running: Sequence[BatchTask], *others: BatchTask, cores: float = 2, starting: int = 0) -> int:
        shut = Shut()
        found = admit_tasks(
            ROOMY, first_look(ROOMY, idle(cores)), running, [*waiting, *others], shut, starting=starting
        )
        assert found[found.count(fetch) :] == list(others), "the others don't wait for that"
        assert shut.starts
        return found.count(fetch)

    assert started([]) == 2
    assert started([fetch] * 2, starting=2) == 0
    assert started([fetch] * 5, starting=1) == 1
    assert started([fetch] * 5, ONE, CALL, TINY) == 2
    assert started([ONE] * 2, CALL) == 2, "they compute for a moment only"
    assert started([], cores=0.5) == 1
    assert started([], cores=0) == 1
    few = Limits(max_workers=2, memory_limit_mb=99_999)
    found = admit_tasks(few, first_look(few, idle(2)), [fetch], [fetch, ONE], Shut(), starting=2)
    assert found == [], "and its place"
    more = replace(few, max_workers=4)
    found = admit_tasks(more, first_look(more, idle(2)), [fetch], [fetch, *[CALL] * 9], Shut(), starting=2)
    assert found == [CALL] * 2
    assert len(admit_tasks(ROOMY, first_look(ROOMY, idle(2)), [], waiting, Shut())) == 9, "where nobody counts"
    tight = Limits(max_workers=99, memory_limit_mb=1024)
    found = admit_tasks(tight, first_look(tight, idle(2)), [fetch], [fetch, task(1.0, 600)], Shut(), starting=2)
    assert found == [], "its memory is kept for the one whose turn comes next"


def test_gpus() -> None:
    gpu = task(1.0, num_gpus=0.5)
    assert admitted(ROOMY, idle(8, gpus=1.0), [], [gpu] * 9) == 2
    assert admitted(ROOMY, idle(8, gpus=1.0), [gpu], [gpu] * 9) == 1
    assert admitted(ROOMY, idle(8), [], [gpu] * 9) == 1, "alone: Ray will say that it fits no node"
    assert admitted(ROOMY, idle(8), [gpu], [ONE] * 9) == 7, "tasks without a GPU don't care"


def test_tasks_that_share_a_process_weigh_nothing_but_a_worker() -> None:
    ten = replace(ROOMY, max_workers=10)
    assert admitted(ten, idle(1), [], [CALL] * 20) == 10
    assert admitted(ten, idle(1), [CALL] * 7, [CALL] * 20) == 3
    assert admitted(ten, idle(1, foreign_cpu_percent=100), [ONE], [CALL] * 20) == 9
    assert admitted(ten, idle(2), [CALL] * 5, [ONE, CALL, ONE, CALL, ONE, CALL]) == 4
    assert admitted(ten, idle(2), [CALL] * 10, [ONE]) == 0
    two_gb = Limits(max_workers=99, memory_limit_mb=2048)
    assert admitted(two_gb, idle(64), [CALL] * 9, [ONE] * 20) == 8, "what their process takes is measured"
    assert admitted(two_gb, idle(64, workers_mb=1024), [CALL] * 9, [ONE] * 20) == 4


@quick
@given(limits=limits, sample=samples, running=many_tasks, waiting=many_tasks)
def test_what_always_holds(
    limits: Limits, sample: ResourceSample, running: list[BatchTask], waiting: list[BatchTask]
) -> None:
    allowance = first_look(limits, sample)
    count = admit(limits, allowance, running, waiting)
    assert 0 <= count <= len(waiting)
    if not running and waiting:
        assert count >= 1
    assert count == 0 or len(running) + count <= limits.max_workers
    if allowance.memory is not Memory.OPEN:
        assert count == (not running and bool(waiting))
    # The first one starts in any case where nothing runs.
    fitting = [each.resources for each in waiting[not running : count] if not each.shared]
    if fitting:
        alone = [each.resources for each in [*running, *waiting[:count]] if not each.shared]
        assert sum(each.num_cpus for each in alone) <= allowance.cores or not any(each.num_cpus for each in fitting)
        assert sum(each.memory_mb for each in alone) <= allowance.memory_mb
        assert sum(each.num_gpus for each in alone) <= allowance.gpus or not any(each.num_gpus for each in fitting)
        new_mb = sum(each.resources.memory_mb for each in waiting[:count] if not each.shared)
        assert allowance.workers_mb + new_mb <= allowance.memory_mb


@quick
@given(limits=limits, sample=samples, running=many_tasks, waiting=many_tasks)
def test_it_admits_as_many_as_fit(
    limits: Limits, sample: ResourceSample, running: list[BatchTask], waiting: list[BatchTask]
) -> None:
    """One after the other comes to the same as all at once, with measurements that haven't caught up."""
    unmeasured = ResourceSample(tuple(replace(node, workers_mb=0.0) for node in sample.nodes))
    allowance = first_look(limits, unmeasured)
    started = list(running)
    rest = list(waiting)
    while rest and admit(limits, allowance, started, rest[:1]):
        started.append(rest.pop(0))
    assert len(waiting) - len(rest) == admit(limits, allowance, running, waiting)


# What is given back


def use(name: str, started_at: float, memory_mb: float = 500.0, *, node: str = "n", asked_mb: int = 512) -> Use:
    return Use(name, node, started_at, memory_mb, asked_mb)


SHED = Allowance(cores=4, memory_mb=1000, memory=Memory.SHED, over=("n",))


def test_what_uses_far_more_than_it_asked_for_is_given_back_even_where_it_is_alone() -> None:
    greedy, worse = use("greedy", 1.0, 641.0), use("worse", 2.0, 500.0, asked_mb=256)
    assert to_give_back(SHED, [use("young", 9.0), greedy]) == (greedy, True)
    assert to_give_back(SHED, [greedy, use("young", 9.0), worse]) == (worse, True), "the one that took most beyond it"
    assert to_give_back(SHED, [greedy]) == (greedy, True)


def test_a_quarter_more_than_it_asked_for_is_nobodys_fault() -> None:
    assert to_give_back(SHED, [use("much", 1.0, 640.0), use("young", 2.0)]) == (use("young", 2.0), False)
    assert to_give_back(SHED, [use("much", 1.0, 640.0)]) is None


def test_else_the_youngest_is_given_back_and_never_the_only_one() -> None:
    old, young = use("old", 1.0), use("young", 2.0)
    assert to_give_back(SHED, [old, young]) == (young, False)
    assert to_give_back(SHED, [young, old]) == (young, False)
    assert to_give_back(SHED, [young]) is None
    assert to_give_back(SHED, []) is None
    unknown = use("unknown", 3.0, 0.0)
    assert to_give_back(SHED, [old, unknown]) == (unknown, False)


def test_only_what_runs_where_the_memory_is_short_is_given_back() -> None:
    here, there, greedy = use("here", 1.0), use("there", 2.0, node="m"), use("greedy", 3.0, 9000.0, node="m")
    assert to_give_back(SHED, [here, there, greedy]) == (here, False)
    assert to_give_back(SHED, [there, greedy]) is None
    assert to_give_back(replace(SHED, over=("n", "m")), [here, there, greedy]) == (greedy, True)


uses = st.lists(
    st.builds(
        Use,
        st.sampled_from("abcd"),
        st.sampled_from(["n", "m"]),
        st.floats(0, 100),
        st.floats(0, 5000),
        st.sampled_from([256, 512, 1024]),
    ),
    max_size=5,
)


@quick
@given(memory=st.sampled_from(Memory), over=st.sets(st.sampled_from(["n", "m"])).map(tuple), uses=uses)
def test_what_is_given_back_is_greedy_or_the_youngest(memory: Memory, over: tuple[str, ...], uses: list[Use]) -> None:
    found = to_give_back(Allowance(4, 1000, memory=memory, over=over), uses)
    there = [each for each in uses if each.node in over]
    greedy = [each for each in there if each.memory_mb > 1.25 * each.requested_mb]
    if memory is not Memory.SHED or not there or (len(uses) == 1 and not greedy):
        assert found is None
        return
    assert found is not None
    chosen, to_blame = found
    assert to_blame == bool(greedy)
    assert chosen in (greedy or there)
    if not to_blame:
        assert chosen.started_at == max(each.started_at for each in there)


class TestWhichLimitHolds:
    """A batch of eight workers that runs two at once says why, and what would let more run."""

    def test_a_machine_of_eight_cores_with_default_limits_has_memory_for_three_tiny_models(self) -> None:
        found = capacity(Limits(), idle_machine(Limits(), 8), ResourceRequest(1.0, 512))
        assert (found.slots, found.reason) == (
            3, "--memory-limit 2048 has room for 3 of 512 MB each; --memory-limit 4096 lets 7 run",
        )  # fmt: skip

    def test_what_the_message_advises_is_enough_and_not_more_than_a_step(self) -> None:
        for cores, request_mb in itertools.product((2, 4, 8, 16), (256, 512, 1024)):
            request = ResourceRequest(1.0, request_mb)
            found = capacity(Limits(), idle_machine(Limits(), cores), request)
            if "--memory-limit" not in found.reason:
                continue
            more_mb, more = map(int, re.findall(r"--memory-limit ([0-9]+) lets ([0-9]+) run", found.reason)[0])
            for limit_mb, enough in ((more_mb, True), (more_mb - 256, False)):
                limits = Limits(memory_limit_mb=limit_mb)
                assert (capacity(limits, idle_machine(limits, cores), request).slots >= more) is enough

    def test_as_many_as_are_admitted(self) -> None:
        for request_mb in (256, 512, 768, 2048):
            request = ResourceRequest(1.0, request_mb)
            allowance = idle_machine(Limits(), 8)
            started = admit_tasks(
                Limits(), allowance, [], [BatchTask(str(i), TaskType.TRANSCRIBE, resources=request) for i in range(20)]
            )
            assert capacity(Limits(), allowance, request).slots == len(started)

    @pytest.mark.parametrize(
        ("limits", "cores", "slots", "reason"),
        [
            (Limits(), 2, 2, "there are 2 cores; more of them, or a cluster, let more run"),
            (Limits(cpu_limit_percent=50), 8, 4,
             "--cpu-limit 50 leaves 4 of 8 cores; a higher one, more cores, or a cluster let more run"),
            (Limits(max_workers=2), 8, 2, ""),
            (Limits(max_workers=2), 2, 2, ""),
        ],
    )  # fmt: skip
    def test_cores(self, limits: Limits, cores: float, slots: int, reason: str) -> None:
        found = capacity(limits, idle_machine(limits, cores), ResourceRequest(1.0, 256))
        assert (found.slots, found.reason) == (slots, reason)

    def test_others_at_work_are_named_and_not_the_machine(self) -> None:
        allowance = Allowance(cores=1, memory_mb=1e9, reason="other programs take 60 % of node n", all_cores=2)
        assert capacity(Limits(), allowance, ResourceRequest()).reason == "other programs take 60 % of node n"

    def test_each_of_several_nodes_is_given_its_share(self) -> None:
        allowance = replace(idle_machine(Limits(), 8), cores=14, memory_mb=3796, nodes=2)
        found = capacity(Limits(), allowance, ResourceRequest(1.0, 768))
        assert found.slots == 4
        assert found.reason == (
            "--memory-limit 2048 on each of 2 nodes has room for 4 of 768 MB each; --memory-limit 3328 lets 8 run"
        )
