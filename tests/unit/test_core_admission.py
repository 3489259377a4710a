"""How many tasks may start: limits and measurements in, a number out."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trax_ray.core.admission import NodeSample, ResourceSample, admit, cpu_slots
from trax_ray.core.spec import Limits
from trax_ray.core.task import ResourceRequest

quick = settings(max_examples=200, deadline=None)

requests = st.builds(
    ResourceRequest,
    st.sampled_from([0.0, 0.25, 0.5, 1.0, 2.0, 4.0]),
    st.sampled_from([256, 512, 1024, 4096]),
    st.sampled_from([0.0, 0.0, 0.5, 1.0]),
)
many_requests = st.lists(requests, max_size=12)
nodes = st.builds(
    NodeSample,
    node=st.just("n"),
    cores=st.sampled_from([0.0, 1.0, 2.0, 3.0, 8.0, 64.0]),
    foreign_cpu_percent=st.floats(0, 100),
    overhead_mb=st.floats(0, 3000),
    workers_mb=st.floats(0, 3000),
    workers=st.integers(0, 8),
    gpus=st.sampled_from([0.0, 1.0, 2.0]),
)
samples = st.builds(ResourceSample, st.lists(nodes, max_size=3).map(tuple))
limits = st.builds(
    Limits,
    max_workers=st.integers(1, 12),
    memory_limit_mb=st.integers(1, 8192),
    cpu_limit_percent=st.floats(1, 100),
)


def idle(cores: float, **fields: float) -> ResourceSample:
    return ResourceSample((NodeSample("n", cores, **fields),))


ONE = ResourceRequest(num_cpus=1.0, memory_mb=256)
TINY = ResourceRequest(num_cpus=0.25, memory_mb=256)
ROOMY = Limits(max_workers=99, memory_limit_mb=99_999, cpu_limit_percent=100)


@pytest.mark.parametrize(
    ("cores", "percent", "slots"),
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
        (0, 90, 1),
    ],
)
def test_cpu_slots_of_an_idle_node(cores: float, percent: float, slots: int) -> None:
    assert cpu_slots(cores, percent) == slots
    assert admit(replace(ROOMY, cpu_limit_percent=percent), idle(cores), [], [ONE] * 99) == slots


@quick
@given(cores=st.integers(0, 1000), percent=st.floats(0.1, 100))
def test_the_rule_for_slots(cores: int, percent: float) -> None:
    assert cpu_slots(cores, percent) == max(1, round(cores * percent / 100))
    assert 1 <= cpu_slots(cores, percent) <= max(1, cores)


def test_an_idle_node_has_one_slot_at_least() -> None:
    free = ResourceRequest(num_cpus=0.0, memory_mb=256)
    assert admit(replace(ROOMY, cpu_limit_percent=10), idle(1), [free], [ONE]) == 1
    assert admit(replace(ROOMY, cpu_limit_percent=10), idle(1, foreign_cpu_percent=95), [free], [ONE]) == 0


def test_twelve_workers_on_two_cores_is_no_error() -> None:
    twelve = Limits(max_workers=12, memory_limit_mb=99_999)
    assert admit(twelve, idle(2), [], [ONE] * 20) == 2
    assert admit(twelve, idle(2), [ONE, ONE], [ONE] * 20) == 0
    assert admit(twelve, idle(2), [], [TINY] * 20) == 8
    assert admit(twelve, idle(64), [], [TINY] * 20) == 12
    assert admit(twelve, idle(64), [TINY] * 9, [TINY] * 20) == 3
    assert admit(twelve, idle(64), [TINY] * 12, [TINY] * 20) == 0
    assert admit(twelve, idle(64), [TINY] * 15, [TINY] * 20) == 0, "the ceiling was lowered meanwhile"


def test_nothing_waits_nothing_starts() -> None:
    assert admit(ROOMY, idle(8), [], []) == 0


def test_own_load_never_closes_and_foreign_load_does_core_by_core() -> None:
    # What the batch itself burns is no part of a sample: 8 running tasks of a quarter core leave 6 of 8 cores.
    assert admit(ROOMY, idle(8), [TINY] * 8, [ONE] * 9) == 6
    found = {
        percent: admit(ROOMY, idle(8, foreign_cpu_percent=percent), [], [ONE] * 9) for percent in range(0, 101, 25)
    }
    assert found == {0: 8, 25: 6, 50: 4, 75: 2, 100: 1}
    assert admit(ROOMY, idle(8, foreign_cpu_percent=100), [ONE], [ONE] * 9) == 0


def test_foreign_load_within_what_the_limit_leaves_free_costs_nothing() -> None:
    ninety = replace(ROOMY, cpu_limit_percent=90)
    assert admit(ninety, idle(10, foreign_cpu_percent=10), [], [ONE] * 20) == 9
    assert admit(ninety, idle(10, foreign_cpu_percent=30), [], [ONE] * 20) == 7


def test_memory_by_declaration_or_by_measurement_whichever_is_more() -> None:
    two_gb = Limits(max_workers=99, memory_limit_mb=2048)
    assert admit(two_gb, idle(64), [], [ONE] * 20) == 8
    assert admit(two_gb, idle(64, overhead_mb=500), [], [ONE] * 20) == 6
    assert admit(two_gb, idle(64), [ONE] * 4, [ONE] * 20) == 4
    assert admit(two_gb, idle(64, workers_mb=900), [ONE] * 4, [ONE] * 20) == 4
    assert admit(two_gb, idle(64, workers_mb=1600), [ONE] * 4, [ONE] * 20) == 1
    assert admit(two_gb, idle(64, workers_mb=9000), [ONE] * 4, [ONE] * 20) == 0
    assert admit(two_gb, idle(64, overhead_mb=9000), [], [ONE] * 20) == 1


def test_priority_is_strict_none_is_passed_over_for_a_smaller_one() -> None:
    big = ResourceRequest(num_cpus=4.0, memory_mb=256)
    assert admit(ROOMY, idle(4), [ONE], [big, ONE, ONE]) == 0
    assert admit(ROOMY, idle(4), [ONE], [ONE, big, ONE]) == 1
    gpu = ResourceRequest(num_cpus=1.0, memory_mb=256, num_gpus=1.0)
    assert admit(ROOMY, idle(8), [ONE], [gpu, ONE, ONE]) == 0


def test_gpus() -> None:
    gpu = ResourceRequest(num_cpus=1.0, memory_mb=256, num_gpus=0.5)
    assert admit(ROOMY, idle(8, gpus=1.0), [], [gpu] * 9) == 2
    assert admit(ROOMY, idle(8, gpus=1.0), [gpu], [gpu] * 9) == 1
    assert admit(ROOMY, idle(8), [], [gpu] * 9) == 1, "alone: Ray will say that it fits no node"
    assert admit(ROOMY, idle(8), [gpu], [ONE] * 9) == 7, "tasks without a GPU don't care"


def test_nodes_add_up_each_with_its_own_rounding() -> None:
    sample = ResourceSample((NodeSample("a", 2), NodeSample("b", 2), NodeSample("c", 1, foreign_cpu_percent=100)))
    assert admit(replace(ROOMY, cpu_limit_percent=90), sample, [], [ONE] * 20) == 4


@quick
@given(limits=limits, sample=samples, running=many_requests, waiting=many_requests)
def test_what_always_holds(
    limits: Limits, sample: ResourceSample, running: list[ResourceRequest], waiting: list[ResourceRequest]
) -> None:
    count = admit(limits, sample, running, waiting)
    assert 0 <= count <= len(waiting)
    if not running and waiting:
        assert count >= 1
    assert count == 0 or len(running) + count <= limits.max_workers
    if len(running) + count > 1 and count:
        together = [*running, *waiting[:count]]
        cores = sum(cpu_slots(node.cores, limits.cpu_limit_percent) for node in sample.nodes)
        memory = sum(max(0.0, limits.memory_limit_mb - node.overhead_mb) for node in sample.nodes)
        assert sum(each.num_cpus for each in together) <= cores
        assert sum(each.memory_mb for each in together) <= memory
        assert sum(each.num_gpus for each in together) <= sum(node.gpus for node in sample.nodes) or not any(
            each.num_gpus for each in waiting[1 if not running else 0 : count]
        )
        measured = sum(node.workers_mb for node in sample.nodes)
        assert measured + sum(each.memory_mb for each in waiting[:count]) <= memory


@quick
@given(limits=limits, sample=samples, running=many_requests, waiting=many_requests, more=st.floats(0, 100))
def test_more_foreign_load_never_admits_more(
    limits: Limits, sample: ResourceSample, running: list[ResourceRequest], waiting: list[ResourceRequest], more: float
) -> None:
    busier = ResourceSample(
        tuple(replace(node, foreign_cpu_percent=min(100, node.foreign_cpu_percent + more)) for node in sample.nodes)
    )
    assert admit(limits, busier, running, waiting) <= admit(limits, sample, running, waiting)


@quick
@given(limits=limits, sample=samples, running=many_requests, waiting=many_requests)
def test_it_admits_as_many_as_fit(
    limits: Limits, sample: ResourceSample, running: list[ResourceRequest], waiting: list[ResourceRequest]
) -> None:
    """One after the other comes to the same as all at once, with measurements that haven't caught up."""
    unmeasured = ResourceSample(tuple(replace(node, workers_mb=0.0) for node in sample.nodes))
    started = list(running)
    rest = list(waiting)
    while rest and admit(limits, unmeasured, started, rest[:1]):
        started.append(rest.pop(0))
    assert len(waiting) - len(rest) == admit(limits, unmeasured, running, waiting)
