"""The numbers that monitoring sees: closed sets of tags, and those of the board."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from trax_ray.core import gauges
from trax_ray.core.standing import fold
from trax_ray.core.state.events import CoordinatorStarted, Started, TasksAdded
from trax_ray.core.state.machine import BatchState
from trax_ray.core.task import TaskState, TaskType
from trax_ray.testing.factories import make_spec, make_task

BOARD = Path(__file__).parents[2] / "deploy" / "grafana" / "trax_ray.json"


def seen(count: int, hosts: int) -> dict[str, dict[gauges.Tags, float]]:
    """All numbers of a batch of so many recordings of so many hosts, one of which runs."""
    state = BatchState()
    state.handle(CoordinatorStarted(1, make_spec("/out").to_dict(), 4096, "run"), 0.0)
    tasks = [
        make_task(
            f"t{number}",
            TaskType.DOWNLOAD,
            file_id=f"f{number}",
            priority=number % 12,
            provider=f"download host-{number % hosts}.org",
            asks=True,
            url="https://secret.example/a",
        )
        for number in range(count)
    ]
    state.handle(TasksAdded(tuple(tasks)), 0.0)
    state.handle(Started((("t0", 1),)), 1.0)
    progress = fold(state, 2.0, {"t0": 0.5})
    found: dict[str, dict[gauges.Tags, float]] = {}
    for name, tags, value in gauges.values(state, progress, {("download", "succeeded"): 3}, memory_limit_mb=2048):
        assert tags not in found.setdefault(name, {}), "each is told once"
        found[name][tags] = value
    return found


def test_what_is_told() -> None:
    found = seen(24, 3)
    assert {band: found["trax_ray_queue_depth"][("band", band),] for band in gauges.BANDS} == {
        "highest": 1,
        "high": 10,
        "normal": 10,
        "low": 2,
    }
    assert found["trax_ray_tasks"][("kind", "download"), ("state", "running")] == 1
    assert found["trax_ray_tasks"][("kind", "download"), ("state", "queued")] == 23
    assert found["trax_ray_provider_in_flight"] == {(("provider", "download"),): 1}
    assert found["trax_ray_attempts"] == {(("kind", "download"), ("outcome", "succeeded")): 3}
    assert sum(found["trax_ray_phase"].values()) == 1.0
    assert found["trax_ray_phase"][("phase", "running"),] == 1.0
    assert found["trax_ray_memory_limit_mb"] == {(): 2048}


def test_no_series_grows_with_the_batch() -> None:
    few, many = seen(24, 2), seen(240, 100)
    assert {name: set(each) for name, each in few.items()} == {name: set(each) for name, each in many.items()}
    assert not re.search(r"secret|host-|\bf\d", repr(many))


def test_each_has_the_tags_that_it_is_declared_with() -> None:
    declared = {each.name: each.tags for each in gauges.GAUGES}
    found = seen(12, 2)
    assert set(found) == set(declared)
    for name, each in found.items():
        assert {tuple(key for key, _ in tags) for tags in each} == {declared[name]}
    assert {state for _, state in (tags[1] for tags in found["trax_ray_tasks"])} == {each.value for each in TaskState}


@pytest.mark.parametrize(
    ("priority", "band"), [(0, "highest"), (1, "high"), (5, "high"), (6, "normal"), (10, "normal"), (11, "low")]
)
def test_bands(priority: int, band: str) -> None:
    assert gauges.band_of(priority) == band


def test_the_board_asks_for_what_is_told_with_its_tags() -> None:
    declared = {f"ray_{each.name}": {"batch", *each.tags} for each in gauges.GAUGES}
    expressions = [target["expr"] for panel in json.loads(BOARD.read_text())["panels"] for target in panel["targets"]]
    asked = set()
    for expression in expressions:
        (name,) = set(re.findall(r"ray_trax_ray_\w+", expression))
        asked.add(name)
        by = re.findall(r"by \(([^)]*)\)", expression)
        tags = {tag.strip() for group in by for tag in group.split(",")} | set(
            re.findall(r"(\w+)(?:=~|!=)", expression)
        )
        assert tags <= declared[name], expression
    assert asked == set(declared) - {"ray_trax_ray_phase", "ray_trax_ray_cpu_percent"}


def test_the_page_names_each() -> None:
    page = (BOARD.parents[2] / "docs" / "cluster.md").read_text()
    rows = dict(re.findall(r"^\| `ray_(trax_ray_\w+)`(.*?) \|", page, re.MULTILINE))
    assert {name: tuple(re.findall(r"`(\w+)`", tags)) for name, tags in rows.items()} == {
        each.name: each.tags for each in gauges.GAUGES
    }
