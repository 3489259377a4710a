"""The board of a cluster's batches, in Ray's own store."""

from __future__ import annotations

import pytest

from trax_ray.cluster import neighbours
from trax_ray.cluster.connect import Connection
from trax_ray.cluster.neighbours import Neighbours
from trax_ray.core.policy.sharing import Amount
from trax_ray.core.spec import BatchSpec
from trax_ray.core.task import ResourceRequest
from trax_ray.testing.factories import make_task

TASK = make_task(resources=ResourceRequest(1.0, 256))
ROOM = Amount(8.0, 8192.0)


@pytest.fixture(autouse=True)
def own_board(head: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "NAMESPACE", "trax_ray tests")
    for batch in neighbours.read():
        neighbours.erase(batch)


def test_batches_hear_of_each_other_until_they_leave() -> None:
    first = Neighbours(BatchSpec("/ünterwegs/first"), "n1", [1, 2])
    second = Neighbours(BatchSpec("/second", batch_priority=0), "n2", [3])
    assert first.is_time
    first.meet([TASK] * 8, [TASK] * 8, [("n1", 7), ("n2", 8), ("n3", 9)], ROOM)
    assert first.share is None, "it is alone"
    assert not first.is_time
    second.meet([TASK] * 6, [], [], ROOM)
    assert second.share is not None
    assert (second.share.amount.cpus, second.share.reason) == (8.0, "")
    first.meet([TASK] * 8, [TASK] * 8, [("n1", 7), ("n2", 8), ("n3", 9)], ROOM)
    assert first.share is not None
    assert first.share.amount.cpus == 2.0
    assert first.share.reason == "gives way to the batch second (--batch-priority 0)"
    assert first.pids == frozenset(), "nothing of the other one runs here"
    second.meet([TASK] * 6, [], [("n1", 5)], ROOM)
    assert second.pids == {8}
    first.meet([], [], [], ROOM)
    assert first.pids == {5}
    second.leave()
    assert not second.is_time
    assert list(neighbours.read()) == ["/ünterwegs/first"]
    first.meet([TASK], [], [], ROOM)
    assert first.share is None
    first.leave()
    assert neighbours.read() == {}


def test_what_stands_there_that_no_batch_has_written_is_in_nobodys_way() -> None:
    neighbours.write("/odd", b"{")
    only = Neighbours(BatchSpec("/only"), "n1", [1])
    only.meet([TASK], [], [], ROOM)
    assert only.share is None


def test_without_a_board_a_batch_works_as_if_it_were_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    only = Neighbours(BatchSpec("/only"), "n1", [1])
    other = Neighbours(BatchSpec("/other"), "n1", [2])
    other.meet([TASK], [], [], ROOM)
    only.meet([TASK], [], [], ROOM)
    assert only.share is not None

    def lost(*_: object, **__: object) -> None:
        raise RuntimeError("the GCS is gone")

    monkeypatch.setattr(neighbours.internal_kv, "_internal_kv_put", lost)
    monkeypatch.setattr(neighbours.internal_kv, "_internal_kv_del", lost)
    only.meet([TASK], [], [], ROOM)
    assert only.share is None
    only.leave()
