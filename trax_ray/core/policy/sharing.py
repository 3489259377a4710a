"""How batches that share a cluster divide it: what each says of itself in, one's own share out. Pure.

Each batch says what it has at work and what it would run if it were alone, and reads what the others say. From that
each works out the same division for itself: those of higher priority first; equals by turns, the next attempt to
whoever has least of what it takes most of (dominant resource fairness, Ghodsi et al. 2011). Nobody is asked, and
nothing depends on all being of one mind: Ray reserves what an attempt asks for in any case, and journal, money and
results are each batch's own.

A batch starts what its share has room for. What runs beyond it ends by itself, except where a batch of higher priority
is still short of it after `PATIENCE_S`: then attempts go back to the queue, the youngest first, as if they hadn't
started.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import heapify, heappop, heappush
from itertools import groupby
from typing import Any

from trax_ray.core.policy.admission import Allowance
from trax_ray.core.task import BatchTask, ResourceRequest

__all__ = [
    "LAPSES_AFTER_S",
    "PATIENCE_S",
    "Amount",
    "Heard",
    "Held",
    "Member",
    "Patience",
    "Share",
    "decode_member",
    "encode_member",
    "narrowed",
    "requests_of",
    "share_of",
    "to_give_way",
]

PATIENCE_S = 30.0
"""How long a batch of higher priority waits for attempts to end by themselves, seconds. A chunk takes up to minutes on
a slow model, and what is asked of a batch is to make way within one; most attempts end sooner than this."""

LAPSES_AFTER_S = 30.0
"""A batch that has said nothing new for so long, seconds, is dead or out of reach: it is reckoned with no more."""

FORGOTTEN_AFTER_S = 600.0
"""What a dead batch has left on the board is taken away after so long, seconds."""

_EPSILON = 1e-6


@dataclass(frozen=True, slots=True)
class Amount:
    """Of what attempts reserve: cores, memory (MiB), GPUs."""

    cpus: float = 0.0
    memory_mb: float = 0.0
    gpus: float = 0.0

    @classmethod
    def of(cls, requests: Iterable[ResourceRequest]) -> Amount:
        """What these ask for together."""
        total = cls()
        for each in requests:
            total += cls(each.num_cpus, each.memory_mb, each.num_gpus)
        return total

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.cpus + other.cpus, self.memory_mb + other.memory_mb, self.gpus + other.gpus)

    def __sub__(self, other: Amount) -> Amount:
        """What is left; nothing is less than none."""
        return Amount(*(max(0.0, one - another) for one, another in zip(self._all(), other._all(), strict=True)))

    def fits(self, room: Amount) -> bool:
        """Whether there is room for it."""
        return all(one <= another + _EPSILON for one, another in zip(self._all(), room._all(), strict=True))

    def within(self, other: Amount) -> Amount:
        """The less of both, of each."""
        return Amount(*map(min, self._all(), other._all()))

    def touches(self, other: Amount) -> bool:
        """Whether both have some of the same."""
        return any(
            one > _EPSILON and another > _EPSILON for one, another in zip(self._all(), other._all(), strict=True)
        )

    def largest_part_of(self, whole: Amount) -> float:
        """The share of what it takes most of; of what there is none, it takes all."""
        pairs = zip(self._all(), whole._all(), strict=True)
        return max(one / another if another else float(one > 0) for one, another in pairs)

    def __bool__(self) -> bool:
        return any(each > _EPSILON for each in self._all())

    def _all(self) -> tuple[float, float, float]:
        return self.cpus, self.memory_mb, self.gpus


@dataclass(frozen=True, slots=True)
class Member:
    """What a batch says of itself.

    Args:
        batch: Tells it from all others: its output folder, of which it is the only one.
        name: What people call it.
        priority: `--batch-priority`: lower goes first.
        wants: What its attempts would reserve if it were alone, those that run first.
        has: What those reserve that are at work; those that wait in Ray for room aren't.
        served_s: Core-seconds that it has had: where two have a claim to the same core, it goes to the one with less.
        node: The Ray node of its coordinator.
        pids: Its own processes on nodes where other coordinators measure the load, by node.
    """

    batch: str
    name: str
    priority: int
    wants: tuple[ResourceRequest, ...] = ()
    has: tuple[ResourceRequest, ...] = ()
    served_s: float = 0.0
    node: str = ""
    pids: tuple[tuple[str, tuple[int, ...]], ...] = ()


@dataclass(frozen=True, slots=True)
class Share:
    """What one batch may have.

    Args:
        amount: What its attempts may reserve together.
        reason: Why it isn't all that it wants, and who has the rest; empty where it is.
        yields: A batch of higher priority wants something: what has no room in the share doesn't start, be it the only
            attempt of the batch.
        short: What batches of higher priority want, and haven't at work.
    """

    amount: Amount
    reason: str = ""
    yields: bool = False
    short: Amount = Amount()


@dataclass(frozen=True, slots=True)
class Held:
    """An attempt that runs, and may go back to the queue: one in a process of its own that nobody is paid for.

    Args:
        task_id: Whose.
        request: What it reserves.
        began_at: When it was handed to Ray, seconds; the youngest is the greatest.
    """

    task_id: str
    request: ResourceRequest
    began_at: float


def requests_of(tasks: Iterable[BatchTask]) -> tuple[ResourceRequest, ...]:
    """What tasks reserve that others could use. Those without a core, as downloads and calls, are in nobody's way."""
    found = (task.resources for task in tasks if not task.shared)
    return tuple(request for request in found if request.num_cpus or request.num_gpus)


def share_of(own: Member, others: Sequence[Member], room: Amount) -> Share | None:
    """What a batch may have of a cluster.

    Args:
        own: The batch.
        others: All others that live.
        room: What the cluster has for attempts, as far as this batch's limits let it use it.

    Returns:
        None where there are no others.
    """
    if not others:
        return None
    # What those behind it want is no reason to start less, should more come before it looks again.
    counts, left = _divide([own, *(each for each in others if each.priority <= own.priority)], room)
    count = counts[own.batch]
    above = [each for each in others if each.priority < own.priority and each.wants]
    short = Amount()
    for each in above:
        short += Amount.of(each.wants).within(room) - Amount.of(each.has)
    amount = Amount.of(own.wants[:count]) + left
    reason = ""
    if count < len(own.wants) or (above and not amount.cpus):
        equals = sum(each.priority == own.priority and bool(each.wants) for each in others)
        reason = _way_to(above) if above else _beside(equals)
    return Share(amount, reason, bool(above), short)


def _divide(members: Sequence[Member], room: Amount) -> tuple[dict[str, int], Amount]:
    """How many of their attempts each may run, and what is left."""
    counts = {member.batch: 0 for member in members}
    left = room
    ordered = sorted(members, key=lambda member: member.priority)
    for _, tier in groupby(ordered, key=lambda member: member.priority):
        # What each has by now, as the part of what it takes most of; equals are told apart by what comes after it.
        turns = [(0.0, member.served_s, member.batch, member, Amount()) for member in tier]
        heapify(turns)
        while turns:
            _, served_s, batch, member, given = heappop(turns)
            count = counts[batch]
            following = Amount.of(member.wants[count : count + 1])
            if not following or not following.fits(left):
                continue  # it is through: none is passed over for a smaller one behind it
            counts[batch] = count + 1
            left, given = left - following, given + following
            heappush(turns, (given.largest_part_of(room), served_s, batch, member, given))
    return counts, left


def _way_to(above: Sequence[Member]) -> str:
    first = min(above, key=lambda each: (each.priority, each.batch))
    more = f" and {len(above) - 1} more" if len(above) > 1 else ""
    return f"gives way to the batch {first.name} (--batch-priority {first.priority}){more}"


def _beside(count: int) -> str:
    return f"shares the cluster with {'another batch' if count == 1 else f'{count} other batches'}"


def narrowed(allowance: Allowance, share: Share | None) -> Allowance:
    """What the nodes have to give, as far as a batch's share goes."""
    if share is None:
        return allowance
    cores, gpus = min(allowance.cores, share.amount.cpus), min(allowance.gpus, share.amount.gpus)
    is_less = (cores, gpus) != (allowance.cores, allowance.gpus)
    reason = share.reason if is_less and share.reason else allowance.reason
    return replace(allowance, cores=cores, gpus=gpus, reason=reason, yields=share.yields)


class Patience:
    """How long a batch has run more than its share while one of higher priority was short of it."""

    def __init__(self) -> None:
        self._since: float | None = None

    def is_over(self, share: Share | None, held: Amount, now: float) -> bool:
        """Whether it is time to give way.

        Args:
            share: The batch's, as it is now.
            held: What its attempts reserve.
            now: Seconds, of any clock that doesn't run backwards.
        """
        if share is None or not _excess(share, held):
            self._since = None
            return False
        if self._since is None:
            self._since = now
        return now - self._since >= PATIENCE_S


def to_give_way(share: Share, held: Amount, attempts: Iterable[Held]) -> list[Held]:
    """The attempts to put back: no more than others are short of, the youngest first, whose work costs least.

    Args:
        share: The batch's.
        held: What all of its attempts reserve, those included that can't be put back.
        attempts: Those that can.
    """
    excess = _excess(share, held)
    chosen = []
    for attempt in sorted(attempts, key=lambda each: -each.began_at):
        amount = Amount.of([attempt.request])
        if amount.touches(excess):
            chosen.append(attempt)
            excess -= amount
    return chosen


def _excess(share: Share, held: Amount) -> Amount:
    return (held - share.amount).within(share.short)


# What is said


class Heard:
    """What batches said last, and since when: what isn't said again lapses.

    Times are of the reader's own clock, which needn't agree with anybody's.
    """

    def __init__(self) -> None:
        self._heard: dict[str, tuple[bytes, float]] = {}

    def living(self, said: Mapping[str, bytes], now: float) -> list[Member]:
        """The batches that live, of what stands on the board.

        Args:
            said: What each has written last, by its key.
            now: Seconds, of any clock that doesn't run backwards.
        """
        before = self._heard
        self._heard = {
            key: before[key] if key in before and before[key][0] == content else (content, now)
            for key, content in said.items()
        }
        heard = [content for content, since in self._heard.values() if now - since < LAPSES_AFTER_S]
        return [member for member in map(decode_member, heard) if member is not None]

    def forgotten(self, now: float) -> list[str]:
        """Keys of those that have been dead for long."""
        return [key for key, (_, since) in self._heard.items() if now - since >= FORGOTTEN_AFTER_S]


def encode_member(member: Member, beat: int) -> bytes:
    """What stands on the board.

    Args:
        member: The batch.
        beat: A number that grows: what doesn't change says nothing of whether somebody lives.
    """
    said = {
        "beat": beat,
        "batch": member.batch,
        "name": member.name,
        "priority": member.priority,
        "wants": list(_counted(member.wants)),
        "has": list(_counted(member.has)),
        "served_s": round(member.served_s, 1),
        "node": member.node,
        "pids": {node: list(pids) for node, pids in member.pids},
    }
    return json.dumps(said).encode()


def decode_member(content: bytes) -> Member | None:
    """The batch that `encode_member` wrote, in this version or a later one; None for what no batch has written."""
    try:
        said = json.loads(content)
        return Member(
            batch=str(said["batch"]),
            name=str(said["name"]),
            priority=int(said["priority"]),
            wants=tuple(_uncounted(said["wants"])),
            has=tuple(_uncounted(said["has"])),
            served_s=float(said["served_s"]),
            node=str(said["node"]),
            pids=tuple((str(node), tuple(map(int, pids))) for node, pids in said["pids"].items()),
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _counted(requests: Iterable[ResourceRequest]) -> Iterator[list[float]]:
    """Equals in a row as one entry: a batch of a thousand workers says no more than one of ten."""
    for request, equals in groupby(requests):
        yield [request.num_cpus, request.memory_mb, request.num_gpus, len(list(equals))]


def _uncounted(entries: Iterable[Sequence[Any]]) -> Iterator[ResourceRequest]:
    for cpus, memory_mb, gpus, count in entries:
        yield from [ResourceRequest(float(cpus), int(memory_mb), float(gpus))] * int(count)
