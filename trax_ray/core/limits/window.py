"""How many requests a provider may have in flight at the same time, learned from what it turns away."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["INITIAL_WINDOW", "Window"]

INITIAL_WINDOW = 8

ROUND = 50
"""Answers in a round of the window, at least: a probe that is refused is 3 answers of 100, not every second one."""

CUT = 0.125
"""Share of the window that a cut takes."""

HELPS = 0.5
"""A smaller window helps if less than this share of the refusals remains."""

QUIET = 0.002
"""Share of refusals that any provider is expected to have."""

NOISE_MOST = 0.4
"""Above this share of refusals the window shrinks whether that helps or not."""

TRIAL_EVERY = 10
"""Rounds from one measurement of the noise to the next."""

GAP_LEAST_S, GAP_MOST_S, GAP_SHRINKS = 0.125, 30.0, 0.9
"""Bounds of the time between starts where one at a time is too many, and what each success leaves of it."""

PROBE_SHARE, PROBE_REST_MOST_S = 20.0, 60.0
"""After a wait that the provider asked for, the window doesn't grow for 20 times as long: so waits cost about 5 % of
the time."""


@dataclass(slots=True)
class Window:
    """How many requests may be in flight at the same time: additive increase, multiplicative decrease.

    It doubles per window of successes until requests are turned away, then grows by 1 per round of `max(ROUND, size)`
    answers, and by 2, 4, 8 ... after more rounds without a refusal. Refusals cut it by an eighth, but not below what is
    in flight, because the provider has just accepted that many; where most answers are refusals, it is cut to what is
    in flight. The floor is 1; where one at a time is too many, there is a gap between starts that doubles with every
    refusal.

    A cut is a trial: it has to help. If the next round, whose requests all started after the cut, has as many refusals,
    they are noise that comes at any size: the cut is undone, and refusals up to this share plus three standard
    deviations are ignored until the noise is measured again. Where the share is above `NOISE_MOST`, the size is halved
    instead, once per round, since one overload turns away many requests that were in flight together. A 500 or a lost
    connection says nothing of what the provider has room for; when they are most of a round, halving is tried in the
    same way. A 429 whose headers say that the allowance is used up concerns the meter, not the window.

    Source:
        D.-M. Chiu, R. Jain, "Analysis of the Increase and Decrease Algorithms for Congestion Avoidance in Computer
        Networks", Computer Networks and ISDN Systems 17, 1989: additive increase with multiplicative decrease
        converges to full and fair use. RFC 5681, 3.1: slow start, halving, one reduction per window; RFC 7661: no
        growth while the window isn't used. The eighth: T. Kelly, "Scalable TCP", 2003; halving for single refusals
        would leave a quarter of the capacity unused. The trial and its figures are ours; what they achieve is shown
        by the simulations in `tests/unit/test_core_ratelimit.py`.
    """

    most: int
    size: int = 0
    slow_start: bool = True
    step: int = 1
    answers: int = 0
    turned_away: int = 0
    failures: int = 0
    full: bool = False
    last_turned_away: float = 0.0
    last_failures: float = 0.0
    noise: float = 0.0
    rounds: int = 0
    trial: str = ""
    trial_of: int = 0
    trial_slow: bool = False
    to_skip: int = 0
    rest_until: float = -math.inf
    rest_rounds: int = 0
    gap_s: float = 0.0
    free_at: float = -math.inf

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Start small, as with a provider that hasn't answered yet."""
        self.size = min(INITIAL_WINDOW, self.most)
        self.slow_start, self.step = True, 1
        self.noise, self.trial, self.to_skip, self.rest_rounds = 0.0, "", 0, 0
        self.last_turned_away = self.last_failures = self.gap_s = 0.0
        self.rest_until = self.free_at = -math.inf
        self._begin_round()

    def recover(self, size: int) -> None:
        """An outage has ended: begin with half of what the provider took before it, but no fewer than at first."""
        self.restart()
        self.size = min(self.most, size, max(INITIAL_WINDOW, size // 2))

    def on_late(self, answered: int, in_flight: int) -> None:
        """A request was waited for in vain, and others were answered meanwhile.

        Where these are fewer than were in flight, the provider has a queue that is too long for somebody, and takes no
        more at a time than it answered.
        """
        if answered + 1 < in_flight and answered < self.size:
            self.restart()
            self.size, self.slow_start = min(self.most, max(1, answered)), False

    def on_started(self, in_flight: int, now: float) -> None:
        """A request started; `in_flight` counts it too."""
        self.full = self.full or in_flight >= self.size
        self.free_at = now + self.gap_s

    def on_success(self) -> None:
        """A request was answered."""
        self.gap_s = self.gap_s * GAP_SHRINKS if self.gap_s > GAP_LEAST_S else 0.0
        if self.slow_start and self.full and not self.trial:
            self._grow(1)

    def on_turned_away(self, in_flight: int, wait_s: float, now: float) -> bool:
        """The provider turned a request away (429, 503, 529).

        Args:
            in_flight: The other requests that had no answer yet.
            wait_s: What it asked to wait, seconds; 0.0 where it didn't.
            now: When.

        Returns:
            False where this is within the noise, and says nothing of the provider's capacity.
        """
        self.turned_away += 1
        if not in_flight and not wait_s:
            self.gap_s = min(GAP_MOST_S, max(2 * GAP_LEAST_S, 2 * self.gap_s))
            self.free_at = max(self.free_at, now + self.gap_s)
        expected = max(self.noise, QUIET) * self._round()
        if self.turned_away <= expected + 3 * math.sqrt(expected) + 1:
            return not self.noise
        if not self.trial:
            self._begin_trial("turned away", self.size)
        most_are = self.turned_away >= 4 and 2 * self.turned_away > self.answers
        before = self.size
        self.size = max(1, min(self.size, max(in_flight, 1 if most_are else _cut(self.trial_of))))
        if self.size < before:
            self.to_skip = self.answers + 1 + in_flight
        self.rest_until = max(self.rest_until, now + min(PROBE_SHARE * wait_s, PROBE_REST_MOST_S))
        return True

    def on_failure(self) -> None:
        """The provider failed: a 5xx, or no answer."""
        self.failures += 1

    def on_answered(self, now: float) -> None:
        """Count an answer of any kind; to be called last. What a round has shown takes effect at its end."""
        self.answers += 1
        if self.to_skip:
            if self.answers >= self.to_skip:
                self.to_skip = 0
                self._begin_round()
        elif self.answers >= self._round():
            self._end_round(now)

    def _end_round(self, now: float) -> None:
        turned_away, failures = self.turned_away / self.answers, self.failures / self.answers
        self.rounds += 1
        self.rest_rounds -= self.rest_rounds > 0
        full = self.full
        self._begin_round()
        if self.trial:
            share, before = (
                (failures, self.last_failures) if self.trial == "failures" else (turned_away, self.last_turned_away)
            )
            self._end_trial(share, before)
            return
        self.last_turned_away, self.last_failures = turned_away, failures
        if failures > 0.5 and not self.rest_rounds and self.size > 1:
            self._begin_trial("failures", self.size // 2)
        elif self.noise and self.rounds % TRIAL_EVERY == 0:
            self._begin_trial("turned away", _cut(self.size))
        elif full and not self.slow_start and not self.gap_s and now >= self.rest_until:
            self._grow(self.step)
            self.step = min(2 * self.step, max(1, self.size // 4))

    def _begin_trial(self, of: str, size: int) -> None:
        """Set another size. What is in flight started at the old one, so that the next `size` answers don't count."""
        self.trial, self.trial_of, self.trial_slow = of, self.size, self.slow_start
        self.to_skip = self.answers + self.size
        self.size = size

    def _end_trial(self, share: float, before: float) -> None:
        of, self.trial = self.trial, ""
        helped = share <= 1 / self._round() or share < HELPS * before
        if of == "failures":
            self.rest_rounds = 0 if helped else TRIAL_EVERY
        else:
            self.noise = 0.0 if helped or share > NOISE_MOST else share
            self.last_turned_away = share
            if share > NOISE_MOST and self.size > 1:
                self._begin_trial(of, self.size // 2)
                self.trial_slow = False
                return
            helped = helped or share > NOISE_MOST
        if helped:
            self.slow_start, self.step = False, 1
        else:
            self.size, self.slow_start = min(self.trial_of, self.most), self.trial_slow
            self.rest_until = -math.inf

    def _begin_round(self) -> None:
        self.answers = self.turned_away = self.failures = 0
        self.full = False

    def _round(self) -> int:
        return max(ROUND, self.size)

    def _grow(self, by: int) -> None:
        self.size = min(self.most, self.size + by)


def _cut(size: int) -> int:
    return max(1, min(size - 1, int(size * (1 - CUT))))
