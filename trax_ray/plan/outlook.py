"""What a batch will come to, before it runs: audio, tasks, money, time and room."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property

from trax_ray.core.policy.admission import Capacity
from trax_ray.core.policy.prediction import REQUEST, Ahead, Experience, Range, predict
from trax_ray.core.spec import BatchSpec
from trax_ray.core.survey import ahead_of
from trax_ray.core.task import BatchTask, TaskType
from trax_ray.plan.enhancing import enhancer_of
from trax_ray.plan.lengths import length_of, lengths_of
from trax_ray.plan.look import Look, of_unknown_length, to_do
from trax_ray.plan.plan import Plan
from trax_ray.providers.registry import provider_of

__all__ = ["Cost", "Outlook", "finish_of"]

GUESSED_LOW, GUESSED_HIGH = 0.5, 1.0
"""By how much a range widens downwards and upwards where all lengths follow from sizes: two times off is usual."""


@dataclass(frozen=True, slots=True)
class Cost:
    """About what a provider will charge.

    Args:
        provider: Its name.
        model: The model that is asked for.
        usd: US dollars; None where no price is known.
        as_of: When its prices were noted.
    """

    provider: str
    model: str
    usd: float | None
    as_of: date


@dataclass(frozen=True)
class Outlook:
    """What is known of a batch before it runs.

    Args:
        plan: The plan.
        look: What a look at its recordings came to.
        experience: What is known of how long things take.
        slots: Tasks of a core each that run at the same time; None on a cluster, where the running batch finds out.
        capacity: Why no more, for local attempts on this machine; None for others.
    """

    plan: Plan
    look: Look = field(default_factory=Look)
    experience: Experience = field(default_factory=Experience)
    slots: int | None = None
    capacity: Capacity | None = None

    @cached_property
    def to_do(self) -> tuple[BatchTask, ...]:
        """The tasks that recordings still need, those apart that can't be heard."""
        hopeless = {*self.look.broken, *self.look.silent}
        return tuple(task for task in to_do(self.plan) if task.data.get("file_path") not in hopeless)

    @cached_property
    def recordings(self) -> tuple[BatchTask, ...]:
        """The tasks that make what was asked for, one of each recording that is still to do."""
        return tuple(task for task in self.to_do if task.task_type.value == self.plan.spec.task)

    @property
    def done_before(self) -> int:
        """Recordings that earlier runs brought to their end."""
        wanted = self.plan.wanted
        return len({task.file_id for task in wanted} - {task.file_id for task in to_do(self.plan)})

    @cached_property
    def ahead(self) -> Ahead:
        """Work by kind and model. Copies of others are done once."""
        once = [task for task in self.to_do if task.data.get("file_path") not in self.look.copies]
        return ahead_of(once, lengths_of(self.plan.spec))

    @property
    def audio_s(self) -> float:
        """Seconds of audio in the recordings that are still to do, as far as their lengths are known or follow from
        their sizes."""
        return sum(length_of(task) or 0.0 for task in self.recordings)

    @property
    def guessed(self) -> int:
        """Recordings whose length follows from their size, or isn't known."""
        return len(of_unknown_length(self.recordings))

    @property
    def tasks(self) -> dict[str, int]:
        """Tasks by kind. Steps that are planned are counted as planned, parts of recordings by the lengths."""
        steps = Counter(task.kind for task in self.to_do)
        parts = {kind: count for kind, count in self.ahead.counts.items() if kind in ("chunk", "request")}
        return {**steps, **parts}

    @cached_property
    def costs(self) -> tuple[Cost, ...]:
        """What providers will charge, about; none where nobody is asked."""
        spec = self.plan.spec
        found = []
        for (kind, model), work in self.ahead.work.items():
            if kind != REQUEST:
                continue
            provider = provider_of(model, base_url=spec.base_url)
            each = provider.estimate_usd(
                model, work.audio_s / work.count, base_url=spec.base_url, limited=spec.max_cost_usd is not None
            )
            found.append(Cost(provider.name, model, None if each is None else each * work.count, provider.prices.as_of))
        return (*found, *self._costs_of_text())

    def _costs_of_text(self) -> Iterator[Cost]:
        """What a text model will charge, where recordings are enhanced, about."""
        asked, count = self.plan.spec.enhance, len(self.recordings)
        if not (asked.asks and self.plan.transcribes and count):
            return
        provider = enhancer_of(self.plan.spec)
        each = provider.estimate_usd(
            asked.model,
            self.audio_s / count,
            base_url=asked.base_url,
            limited=self.plan.spec.max_cost_usd is not None,
        )
        yield Cost(provider.name, asked.model, None if each is None else each * count, provider.prices.as_of)

    @cached_property
    def finish(self) -> Range | None:
        """Seconds until the batch has ended, from its start on; None where too little is known."""
        if not self.ahead.work and not self.ahead.unknown:
            return None
        return _finish(
            self.ahead, self.plan.spec, self.experience, self.slots, _guessed_share(self.recordings, self.audio_s)
        )


def finish_of(tasks: Sequence[BatchTask], spec: BatchSpec, experience: Experience, slots: int | None) -> Range | None:
    """How long these tasks will take, a run's start included: as `Outlook.finish`."""
    ahead = ahead_of(tasks, lengths_of(spec))
    wanted = [task for task in tasks if task.task_type is TaskType.TRANSCRIBE]
    share = _guessed_share(wanted, sum(length_of(task) or 0.0 for task in wanted))
    return _finish(ahead, spec, experience, slots, share)


def _finish(ahead: Ahead, spec: BatchSpec, experience: Experience, slots: int | None, guessed: float) -> Range | None:
    workers = spec.limits.max_workers
    found = predict(ahead, experience, slots=min(workers, slots or workers), workers=workers)
    if found is None or not ahead.work or (slots is None and any(not work.shared for work in ahead.work.values())):
        return None
    wide = Range(found.low_s * (1 - GUESSED_LOW * guessed), found.middle_s, found.high_s * (1 + GUESSED_HIGH * guessed))
    return wide + (experience.start_s or Range(0.0, 0.0, 0.0))


def _guessed_share(tasks: Iterable[BatchTask], audio_s: float) -> float:
    """Share of the audio whose length follows from sizes, 0-1."""
    guessed_s = sum(length_of(task) or 0.0 for task in of_unknown_length(tasks))
    return guessed_s / audio_s if audio_s > 0 else 0.0
