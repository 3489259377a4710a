"""How long work will take and what memory it needs, by what earlier work took. Pure: observations in, ranges out.

An observation is one attempt: its kind, its model, the machine, how much audio, how many seconds and how much memory.
Rates are seconds per minute of audio: the middle is the median, low and high are the 10th and 90th percentile, each
weighted by the audio, so that a hundred clips don't say how long a lecture takes. There is no estimate before there are
observations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from trax_ray.core.task import MEMORY_STEP_MB

__all__ = [
    "CHUNK",
    "CUT",
    "PREPROCESS",
    "REQUEST",
    "START",
    "TRANSCRIBE",
    "Ahead",
    "Experience",
    "Observation",
    "Range",
    "Rate",
    "Work",
    "blend",
    "length_steps",
    "predict",
    "predict_work",
    "quantile",
    "start_of",
]

TRANSCRIBE, CHUNK, REQUEST, PREPROCESS = "transcribe", "chunk", "request", "preprocess"
"""Kinds of tasks whose time goes by the length of the audio."""

CUT = "cut"
"""The attempt that reads a long recording and plans its parts, or prepares the requests for it."""

START = "start"
"""What a run takes besides the work itself: starting Ray and workers, loading models, the report. Per run, not per
minute."""

_INSTEAD: Mapping[str, str] = {TRANSCRIBE: CHUNK, CHUNK: TRANSCRIBE}
"""Whose rate holds where nothing is known of a kind: it is the same work, for a part or the whole."""

_SMALL = frozenset({CUT})
"""Kinds that are small beside those that follow: where nothing is known of them they count as nothing."""

RUNS_DIFFER = 0.2
"""By how much the time of one run is taken to differ from that of another over the same audio, for reasons that no rate
knows: other programs, caches, a warm machine."""

FEW = 3
"""Observations of this run from which on they count for more than those of earlier runs."""

MEMORY_COUNT = 5
"""So many observations may raise what a task asks for."""


def quantile(values: Sequence[tuple[float, float]], share: float) -> float:
    """The smallest value at which `share` of the weight is reached (numpy's `inverted_cdf`).

    Args:
        values: (value, weight), at least one; weights above 0.
        share: 0-1.
    """
    ordered = sorted(values)
    wanted = share * sum(weight for _, weight in ordered)
    reached = 0.0
    for value, weight in ordered:
        reached += weight
        if reached >= wanted - 1e-9:
            return value
    return ordered[-1][0]


@dataclass(frozen=True, slots=True)
class Observation:
    """One attempt that came to its end, or (kind `START`) one run.

    Args:
        kind: Its kind, of those above.
        model: Its model; empty where none is used.
        machine: Where it ran.
        audio_s: Seconds of audio that it was about; 0.0 of a run.
        seconds: What it took.
        memory_mb: The highest memory of its process, MiB; 0.0 when unknown.
        at: When it ended, seconds since the epoch.
        run: Names the run.
    """

    kind: str
    model: str
    machine: str
    audio_s: float
    seconds: float
    memory_mb: float = 0.0
    at: float = 0.0
    run: str = ""


@dataclass(frozen=True, slots=True)
class Rate:
    """Seconds per minute of audio: 10th percentile, median and 90th percentile, and of how many observations."""

    low: float
    middle: float
    high: float
    count: int


@dataclass(frozen=True, slots=True)
class Range:
    """Seconds that something will take: probably no less than `low_s`, about `middle_s`, probably no more than
    `high_s`."""

    low_s: float
    middle_s: float
    high_s: float

    def __add__(self, other: Range) -> Range:
        return Range(self.low_s + other.low_s, self.middle_s + other.middle_s, self.high_s + other.high_s)

    def times(self, factor: float) -> Range:
        """All of it longer or shorter by a factor."""
        return Range(self.low_s * factor, self.middle_s * factor, self.high_s * factor)

    def holds(self, seconds: float) -> bool:
        """Whether a time lies in it."""
        return self.low_s <= seconds <= self.high_s


@dataclass(frozen=True)
class Experience:
    """What is known of how long things take.

    Args:
        earlier: Observations of earlier runs.
        present: Those of this run. Once there are a few of a kind, they alone say its middle: this is the audio and
            the machine that matter.
    """

    earlier: tuple[Observation, ...] = ()
    present: tuple[Observation, ...] = ()
    _known: dict[tuple[str, str], Rate | None] = field(default_factory=dict, init=False, repr=False, compare=False)

    def rate(self, kind: str, model: str) -> Rate | None:
        """Seconds per minute of audio; None where nothing is known."""
        asked = kind, model
        if asked not in self._known:
            own = self._rate(kind, model)
            self._known[asked] = own or (self._rate(_INSTEAD[kind], model) if kind in _INSTEAD else None)
        return self._known[asked]

    def _rate(self, kind: str, model: str) -> Rate | None:
        now = self._of(self.present, kind, model)
        values = now if len(now) >= FEW else now + self._of(self.earlier, kind, model)
        if not values:
            return None
        low, middle, high = (quantile(values, share) for share in (0.1, 0.5, 0.9))
        return Rate(low, middle, high, len(values))

    @staticmethod
    def _of(observations: Iterable[Observation], kind: str, model: str) -> list[tuple[float, float]]:
        return [
            (60.0 * each.seconds / each.audio_s, each.audio_s)
            for each in observations
            if each.kind == kind and each.model == model and each.audio_s > 0
        ]

    @cached_property
    def start_s(self) -> Range | None:
        """What a run takes besides its work; None where nothing is known."""
        values = [(each.seconds, 1.0) for each in self.earlier if each.kind == START]
        if not values:
            return None
        low, middle, high = (quantile(values, share) for share in (0.1, 0.5, 0.9))
        return Range(min(low, (1 - RUNS_DIFFER) * middle), middle, max(high, (1 + RUNS_DIFFER) * middle))

    def memory_mb(self, kind: str, model: str, declared_mb: int, limit_mb: int) -> int:
        """What a task of a kind should ask for, MiB: what is declared, or more where it was seen to need more.

        Never less: what is declared was measured with the longest audio that there may be, and recordings so far may
        have been shorter. Nor more than the limit, above which nothing would start.
        """
        seen = [
            (each.memory_mb, 1.0)
            for each in (*self.earlier, *self.present)
            if each.kind == kind and each.model == model and each.memory_mb > 0
        ]
        if len(seen) < MEMORY_COUNT:
            return declared_mb
        needed = quantile(seen, 0.9)
        rounded = math.ceil(needed / MEMORY_STEP_MB) * MEMORY_STEP_MB
        return max(declared_mb, min(rounded, limit_mb // MEMORY_STEP_MB * MEMORY_STEP_MB))


@dataclass(frozen=True, slots=True)
class Work:
    """Work of one kind with one model.

    Args:
        count: How many tasks.
        audio_s: Seconds of audio, all of them together.
        longest_s: Of the longest task.
        shared: Whether they wait for a service, and run beside what takes a core.
    """

    count: int = 0
    audio_s: float = 0.0
    longest_s: float = 0.0
    shared: bool = False

    def with_tasks(self, audio_s: float, count: int = 1) -> Work:
        """This and so many tasks more over so much audio."""
        longest_s = max(self.longest_s, audio_s / count)
        return Work(self.count + count, self.audio_s + audio_s, longest_s, self.shared)


class Ahead:
    """Work that is still to do, gathered task by task.

    Args:
        chunk_s: Longest stretch of one attempt, seconds.
        is_service: Whether a model is asked over the network.
    """

    def __init__(self, chunk_s: float, is_service: Callable[[str], bool]) -> None:
        self.work: dict[tuple[str, str], Work] = {}
        self.unknown = 0
        self._chunk_s = chunk_s
        self._is_service = is_service
        self._services: dict[str, bool] = {}

    def add_recording(self, model: str, audio_s: float | None) -> None:
        """A recording that hasn't been begun; None where nobody knows how long it is."""
        if audio_s is None:
            self.unknown += 1
            return
        if model not in self._services:
            self._services[model] = self._is_service(model)
        parts = max(1, math.ceil(audio_s / self._chunk_s))
        if self._services[model]:
            self.add(CUT, model, audio_s)
            self.add(REQUEST, model, audio_s, count=parts, shared=True)
        elif parts > 1:
            self.add(CUT, model, audio_s)
            self.add(CHUNK, model, audio_s, count=parts)
        else:
            self.add(TRANSCRIBE, model, audio_s)

    def add(self, kind: str, model: str, audio_s: float, *, count: int = 1, shared: bool = False) -> None:
        """So many tasks of one kind over so much audio."""
        known = self.work.get((kind, model), Work(shared=shared))
        self.work[kind, model] = known.with_tasks(audio_s, count)

    @property
    def audio_s(self) -> float:
        """Seconds of audio that are to be recognised."""
        return sum(work.audio_s for (kind, _), work in self.work.items() if kind in (TRANSCRIBE, CHUNK, REQUEST))

    @property
    def counts(self) -> dict[str, int]:
        """Tasks by kind."""
        found: dict[str, int] = {}
        for (kind, _), work in self.work.items():
            found[kind] = found.get(kind, 0) + work.count
        return found


def predict(ahead: Ahead, experience: Experience, *, slots: int, workers: int) -> Range | None:
    """How long work will take, without what a run takes besides.

    Tasks that need a core share `slots`, requests share `workers`; the two go on at the same time. The sum of many
    tasks varies less than one of them: by what the percentiles say, divided by the root of their number, and by
    `RUNS_DIFFER`.

    Args:
        ahead: What is to do.
        experience: What is known.
        slots: Tasks of a core each that run at the same time.
        workers: Requests that are in flight at the same time, at most.

    Returns:
        Seconds; None where some of it is of a kind of which nothing is known, or of unknown length.
    """
    return None if ahead.unknown else predict_work(ahead.work, experience, slots=slots, workers=workers)


def predict_work(
    ahead: Mapping[tuple[str, str], Work], experience: Experience, *, slots: int, workers: int
) -> Range | None:
    """As `predict`, of work by kind and model."""
    on_cores: list[tuple[Work, Rate]] = []
    in_flight: list[tuple[Work, Rate]] = []
    for (kind, model), work in ahead.items():
        rate = experience.rate(kind, model)
        if rate is not None:
            (in_flight if work.shared else on_cores).append((work, rate))
        elif kind not in _SMALL:
            return None
    ranges = [_side_by_side(on_cores, slots), _side_by_side(in_flight, workers)]
    return max(ranges, key=lambda each: each.middle_s)


def _side_by_side(parts: Sequence[tuple[Work, Rate]], places: int) -> Range:
    """How long work takes that shares places."""
    middle = below = above = longest = 0.0
    count = 0
    for work, rate in parts:
        minutes = work.audio_s / 60
        middle += minutes * rate.middle
        below += minutes * (rate.middle - rate.low) / math.sqrt(work.count)
        above += minutes * (rate.high - rate.middle) / math.sqrt(work.count)
        longest = max(longest, work.longest_s / 60 * rate.middle)
        count = max(count, work.count)
    if not middle:
        return Range(0.0, 0.0, 0.0)
    shared = middle / max(1, min(places, count))
    factor = max(shared, longest) / middle
    low = middle - math.hypot(below, RUNS_DIFFER * middle)
    high = middle + math.hypot(above, RUNS_DIFFER * middle)
    return Range(max(0.0, low), middle, high).times(factor)


def start_of(
    observations: Sequence[Observation], took_s: float, *, machine: str, run: str, at: float
) -> Observation | None:
    """What a run took besides its work, as an observation; None where nothing is known of its work.

    It is the time in which none of its attempts ran. How many ran at once doesn't matter for it.

    Args:
        observations: What its attempts took.
        took_s: What all of it took, seconds.
        machine: Where it ran.
        run: Names it.
        at: When it ended, seconds since the epoch.
    """
    if not observations:
        return None
    busy_s, until = 0.0, -math.inf
    for began, ended in sorted((each.at - each.seconds, each.at) for each in observations):
        busy_s += max(0.0, ended - max(began, until))
        until = max(until, ended)
    return Observation(START, "", machine, 0.0, round(max(0.0, took_s - busy_s), 3), 0.0, at, run)


def blend(predicted: Range | None, at_this_speed_s: float | None, done: float) -> Range | None:
    """What is still to go, by rates and by the speed so far: the more is done, the more the latter counts.

    Args:
        predicted: By rates; None where they aren't known.
        at_this_speed_s: By the speed of this run so far, seconds; None as long as it has none.
        done: Share of the run's work that is done, 0-1.
    """
    if predicted is None or at_this_speed_s is None:
        return predicted
    if predicted.middle_s <= 0:
        return Range(at_this_speed_s, at_this_speed_s, at_this_speed_s)
    middle = (1.0 - done) * predicted.middle_s + done * at_this_speed_s
    return predicted.times(middle / predicted.middle_s)


def length_steps(audio_s: float) -> int:
    """How long a recording is in steps of a doubling: what is begun first among equals goes by it.

    Longest first leaves little to wait for in the end, and by steps, so that recordings of about the same length stay
    in the order in which they were named.
    """
    return math.frexp(audio_s)[1] if audio_s > 0 else 0
