"""Lanes: async worker actors in which many attempts wait at the same time, instead of one process for each.

An attempt that calls an API waits nearly all of its time. A process for each would cost 60 MB and more a call; a lane
carries `LANE_WIDTH` of them in one process. What is on a lane when its process dies is suspected, not blamed: the next
attempt of each runs alone, as a remote function. A lane that answers no more is ended, which comes to the same: its
attempts can't even see that their time is over.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import ray

from trax_ray.cluster import remote
from trax_ray.core.state.events import encode
from trax_ray.kinds.run import make_call
from trax_ray.providers.credentials import hand_over

__all__ = ["LANE_WIDTH", "Lanes"]

LANE_WIDTH = 64
"""Attempts that one lane carries at the same time."""

ASK_PERIOD_S = 5.0
"""How often a lane is asked who it is."""


SWITCH_S = 0.0005
"""How long a thread of a lane may keep Python's lock from others, seconds. A call goes to a thread some times, for a
moment each; with Python's own 5 ms it waits longer for the lock than the thread needs for its work."""

_NEEDED = ("trax_ray.kinds.table", "openai", "httpx2")
"""What nearly all attempts on a lane load."""


class Lane:
    """The body of the actor."""

    def __init__(self) -> None:
        sys.setswitchinterval(SWITCH_S)
        for name in _NEEDED:  # now, and not in the first attempt's time
            importlib.import_module(name)

    async def about(self) -> dict[str, Any]:
        """Who this is: a sign of life, as the streaming kinds give it."""
        return await asyncio.to_thread(remote.alive, 0.0)

    async def attempt(self, packed: dict[str, Any], keys: dict[str, str]) -> dict[str, Any]:
        """Make one attempt, with these keys of services."""
        hand_over(keys)
        return {"outcome": encode(await make_call(remote.assignment_of(packed)))}


@dataclass(slots=True, eq=False)
class _Open:
    """A lane that takes attempts.

    Args:
        actor: Its process.
        asked: Reference to its next word of itself; None while it isn't asked for.
        asked_at: When it was asked last, seconds of the monotonic clock.
        in_flight: Attempts that it carries.
        idle_since: Since when it carries none, seconds of the monotonic clock.
        about: Its last word of itself; None before the first one.
    """

    actor: Any
    asked: Any
    asked_at: float
    in_flight: int = 0
    idle_since: float = 0.0
    about: Mapping[str, Any] | None = None


@dataclass(slots=True)
class Lanes:
    """The lanes of one coordinator, which die with it. Made as they are needed, never more than that.

    Args:
        keys: Keys of services by variable. They go along with each attempt, because arguments of methods aren't kept
            by Ray's GCS, as those of constructors are.
    """

    keys: Mapping[str, str] = field(default_factory=dict, repr=False)
    _open: list[_Open] = field(default_factory=list)
    _carrier: dict[Any, _Open] = field(default_factory=dict)

    def expect(self) -> None:
        """Have a lane there soon: attempts are being prepared, and it takes as long to start as that does."""
        if not self._open:
            self._another()

    def submit(self, kind: str, packed: Mapping[str, Any]) -> Any:
        """Start an attempt on the first lane that has room.

        Args:
            kind: Name of the kind of its task, which the dashboard shows.
            packed: The attempt, from `remote.pack`.

        Returns:
            A reference to its outcome.
        """
        lane = next((each for each in self._open if each.in_flight < LANE_WIDTH), None) or self._another()
        attempt = lane.actor.attempt.options(name=kind)
        reference = attempt.remote(packed, dict(self.keys))
        lane.in_flight += 1
        self._carrier[reference] = lane
        return reference

    def ended(self, reference: Any, *, died: bool) -> None:
        """An attempt has ended; where its lane has died, that one takes no more."""
        lane = self._carrier.pop(reference, None)
        if lane is None:
            return
        lane.in_flight -= 1
        lane.idle_since = time.monotonic()
        if died and lane in self._open:
            self._open.remove(lane)

    def cancel(self, reference: Any) -> None:
        """Cancel an attempt, and none of those beside it."""
        ray.cancel(reference)
        self.ended(reference, died=False)

    def about(self) -> list[Mapping[str, Any]]:
        """What the lanes said of themselves."""
        for lane in self._open:
            self._listen(lane)
        return [lane.about for lane in self._open if lane.about is not None]

    def end_silent(self, silent_s: float) -> None:
        """End the lanes that have answered before and then left a question open for so long, seconds."""
        now = time.monotonic()
        for lane in list(self._open):
            if lane.about is not None and lane.asked is not None and now - lane.asked_at > silent_s:
                self._end(lane)

    def end_carrier(self, reference: Any) -> None:
        """End the lane that carries an attempt; nothing happens where that has been done."""
        lane = self._carrier.get(reference)
        if lane in self._open:
            self._end(lane)

    def let_go(self, idle_s: float) -> None:
        """End the lanes that have carried nothing for so long, seconds: an actor keeps its node from being let go."""
        now = time.monotonic()
        for lane in [each for each in self._open if not each.in_flight and now - each.idle_since > idle_s]:
            self._open.remove(lane)
            ray.kill(lane.actor)

    def close(self) -> None:
        """End all lanes."""
        for lane in self._open:
            ray.kill(lane.actor)
        self._open.clear()
        self._carrier.clear()

    def _another(self) -> _Open:
        remote_class: Any = ray.remote(Lane)
        actor = remote_class.options(
            # Nothing is reserved for it. It stays as long as the batch, and what it held would be missing for the
            # tasks that prepare and assemble: on a small machine all of it, and they would wait for ever. What it
            # takes of memory is measured.
            num_cpus=0,
            scheduling_strategy="SPREAD",
            max_concurrency=LANE_WIDTH + 1,
            max_restarts=0,
            max_task_retries=0,
        ).remote()
        now = time.monotonic()
        lane = _Open(actor, actor.about.remote(), now, idle_since=now)
        self._open.append(lane)
        return lane

    def _end(self, lane: _Open) -> None:
        """It takes no more attempts; those that it carries end with an error of Ray's."""
        self._open.remove(lane)
        ray.kill(lane.actor)
        if lane.about is not None:
            # A process that was stopped, or hangs in a system call, hears nothing softer.
            remote.kill_process(lane.about["node_id"], lane.about["pid"], lane.about["mark"])

    @staticmethod
    def _listen(lane: _Open) -> None:
        """Take its answer, where there is one; ask again after a while."""
        if lane.asked is None:
            if time.monotonic() - lane.asked_at >= ASK_PERIOD_S:
                lane.asked, lane.asked_at = lane.actor.about.remote(), time.monotonic()
            return
        ready, _ = ray.wait([lane.asked], timeout=0)
        if ready:
            lane.asked = None
            with contextlib.suppress(ray.exceptions.RayError):  # its attempts will tell
                lane.about = ray.get(ready[0])
