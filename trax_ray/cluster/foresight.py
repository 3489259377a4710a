"""What a coordinator sees of how long attempts take, and what follows: what is still to go, what tasks ask for."""

from __future__ import annotations

import platform
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import replace

from trax_ray.cluster.attempts import Attempts
from trax_ray.core.policy.prediction import CHUNK, CUT, TRANSCRIBE, Experience, Observation
from trax_ray.core.progress import BatchProgress
from trax_ray.core.spec import BatchSpec
from trax_ray.core.standing import Expected, with_survey
from trax_ray.core.state.events import Dispatch
from trax_ray.core.state.machine import BatchState
from trax_ray.core.survey import Survey, observation_of, survey
from trax_ray.core.task import BatchTask, Outcome, ResourceRequest
from trax_ray.plan.lengths import lengths_of

__all__ = ["Foresight"]

PERIOD_S = 1.0
SHARE = 0.02
"""So much of a coordinator's time goes into looking at all tasks, at most."""

MOST = 1000
"""Observations of one run that are kept, the newest."""


class Foresight:
    """What is known of how long things take, and what is seen of it in this run.

    Args:
        spec: The batch.
        machine: What observations call the driver's machine.
        earlier: What earlier runs took.
        run: Names the run.
    """

    def __init__(self, spec: BatchSpec, machine: str, earlier: Iterable[Observation], run: str) -> None:
        self._spec = spec
        self._lengths = lengths_of(spec)
        self._machine = machine
        self._earlier = tuple(earlier)
        self._run = run
        self._seen: deque[Observation] = deque(maxlen=MOST)
        self._experience = Experience(self._earlier)
        self._found: Survey | None = None
        self._due_at = 0.0

    @property
    def seen(self) -> tuple[Observation, ...]:
        """What the attempts of this run took."""
        return tuple(self._seen)

    def note(self, dispatch: Dispatch, outcome: Outcome) -> None:
        """An attempt has ended."""
        seen = observation_of(
            dispatch.task,
            outcome,
            self._lengths,
            joins=bool(dispatch.children),
            seconds=outcome.ended_at - outcome.started_at,
            machine=self._machine if outcome.node == platform.node() else outcome.node,
            run=self._run,
        )
        if seen is not None:
            self._seen.append(seen)

    def tell(self, progress: BatchProgress, state: BatchState, attempts: Attempts, expected: Expected) -> BatchProgress:
        """A progress with what the tasks, all looked at now and then, tell; and what runs now."""
        began_at = time.monotonic()
        if self._found is None or began_at >= self._due_at or state.finished:
            self._experience = Experience(self._earlier, self.seen)
            self._found = survey(state, attempts.fractions(), self._lengths)
            self._due_at = began_at + max(PERIOD_S, (time.monotonic() - began_at) / SHARE)
        limits = self._spec.limits
        progress = with_survey(
            progress, state, self._found, self._experience, workers=limits.max_workers, expected=expected
        )
        return replace(
            progress,
            workers=attempts.doing(),
            max_cost_usd=self._spec.max_cost_usd,
            memory_limit_mb=limits.memory_limit_mb,
            cpu_limit_percent=limits.cpu_limit_percent,
        )

    def asking(self, task: BatchTask, most_mb: int) -> BatchTask:
        """The task, asking for more memory where such tasks needed more; `most_mb` is what there is on any node."""
        model = self._lengths.model_of(task)
        if not model or task.shared or self._lengths.is_service(model):
            return task
        wanted_mb = self._memory_mb(model, task.resources.memory_mb, most_mb)
        return task if wanted_mb == task.resources.memory_mb else task.with_memory(wanted_mb)

    def request(self, request: ResourceRequest | None, most_mb: int) -> ResourceRequest | None:
        """What an attempt with the batch's model asks of a node."""
        if request is None or not self._spec.model:
            return request
        return replace(request, memory_mb=self._memory_mb(self._spec.model, request.memory_mb, most_mb))

    def _memory_mb(self, model: str, declared_mb: int, most_mb: int) -> int:
        known = Experience(self._earlier)
        return max(known.memory_mb(kind, model, declared_mb, most_mb) for kind in (TRANSCRIBE, CHUNK, CUT))
