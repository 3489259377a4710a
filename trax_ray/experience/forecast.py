"""How long a run will take, before it starts, and what is kept of it when it has ended."""

from __future__ import annotations

import time
from collections.abc import Sequence

from trax_ray.core.policy.admission import Capacity, capacity, idle_machine
from trax_ray.core.policy.prediction import Experience, Observation, Range, start_of
from trax_ray.core.spec import BatchSpec
from trax_ray.core.task import BatchTask
from trax_ray.experience.kept import recall, remember, this_machine
from trax_ray.heads.machine import usable_cores
from trax_ray.plan.models import request_of
from trax_ray.plan.outlook import finish_of

__all__ = ["at_once", "experience_of", "finish", "learn", "slots_of"]


def at_once(spec: BatchSpec) -> Capacity | None:
    """How many local attempts this machine will run at the same time; None where a service is asked.

    On a cluster it is what is measured there that counts; the running batch says it.
    """
    request = request_of(spec)
    return None if request is None else capacity(spec.limits, idle_machine(spec.limits, usable_cores()), request)


def slots_of(spec: BatchSpec, *, here: bool) -> int | None:
    """How many attempts of a core each run at the same time; None on a cluster, where the running batch finds out."""
    if not here:
        return None
    found = at_once(spec)
    return found.slots if found else int(usable_cores())


def experience_of(*, here: bool) -> Experience:
    """What is known of how long things take: on this machine, or (a cluster's machines are many) on any."""
    return Experience(recall(this_machine() if here else None))


def finish(tasks: Sequence[BatchTask], spec: BatchSpec, *, here: bool) -> Range | None:
    """Seconds that a run over these tasks will take, its start included; None where too little is known."""
    return finish_of(tasks, spec, experience_of(here=here), slots_of(spec, here=here))


def learn(observations: Sequence[Observation], took_s: float, *, calm: bool) -> None:
    """Keep what a run took, for the next ones.

    Args:
        observations: What its attempts took.
        took_s: What all of it took, seconds.
        calm: Whether it ran from its start to its end without a pause: only then the whole says something.
    """
    start = None
    if calm and observations:
        start = start_of(observations, took_s, machine=this_machine(), run=observations[0].run, at=time.time())
    remember([*observations, *([start] if start else [])])
