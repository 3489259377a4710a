"""How long what runs may go on after a signal."""

from __future__ import annotations

import pytest

from trax_ray.core.policy.ending import GRACE_S, PAID_GRACE_S, grace_s
from trax_ray.core.task import BatchTask, TaskType
from trax_ray.testing.factories import make_task

PAID = make_task("paid", shared=True, provider="openai", estimate_usd=0.01)
FREE = make_task("free", shared=True, provider="openai")
OWN = make_task("own")
FETCHES = make_task("fetches", task_type=TaskType.DOWNLOAD)
HALF_PAID = make_task("prepares", estimate_usd=0.01)
"""It asks nobody."""


@pytest.mark.parametrize(
    ("given", "running", "expected"),
    [
        (None, [], GRACE_S),
        (None, [OWN, FREE, HALF_PAID], GRACE_S),
        (None, [OWN, PAID], PAID_GRACE_S),
        (None, [PAID.alone()], PAID_GRACE_S),
        (None, [FETCHES, FETCHES], 0.0),
        (None, [FETCHES, OWN], GRACE_S),
        (0.5, [PAID], 0.5),
        (3.0, [FETCHES], 3.0),
        (0.0, [OWN], 0.0),
        (30.0, [OWN], 30.0),
    ],
)
def test_paid_answers_are_waited_for_longer_where_nobody_says(
    given: float | None, running: list[BatchTask], expected: float
) -> None:
    assert grace_s(given, running) == expected
