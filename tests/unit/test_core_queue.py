"""The queue: priority, ties, aging and delays, by example and against a naive model."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from trax_ray.core.groups import Group, Shut
from trax_ray.core.state.queue import ALONE, TaskQueue

AGING_S = 4.0


def push(
    queue: TaskQueue,
    name: str,
    sequence: int = 0,
    priority: int = 0,
    degradation: int = 0,
    at: float = 0.0,
    group: Group = ALONE,
) -> None:
    queue.push(name, sequence=(sequence,), priority=priority, degradation=degradation, since=at, group=group)


def delay(
    queue: TaskQueue,
    name: str,
    sequence: int = 0,
    priority: int = 0,
    degradation: int = 0,
    at: float = 0.0,
    group: Group = ALONE,
) -> None:
    queue.push_delayed(name, sequence=(sequence,), priority=priority, degradation=degradation, ready_at=at, group=group)


def order(queue: TaskQueue, now: float) -> list[str]:
    queue.advance(now)
    return queue.peek(99)


def test_lower_numbers_first_and_ties_in_the_order_of_adding() -> None:
    queue = TaskQueue(AGING_S)
    push(queue, "third", sequence=2, priority=5)
    push(queue, "second", sequence=1, priority=5)
    push(queue, "fourth", sequence=0, priority=6)
    push(queue, "first", sequence=9, priority=0)
    assert queue.peek(99) == ["first", "second", "third", "fourth"]
    assert queue.peek(2) == ["first", "second"]
    assert queue.peek(0) == []


def test_priority_is_strict_however_long_something_waits() -> None:
    queue = TaskQueue(AGING_S)
    push(queue, "old", sequence=0, priority=1, at=0.0)
    push(queue, "new", sequence=1, priority=0, at=1e9)
    assert order(queue, 1e9) == ["new", "old"]


def test_degradation_wears_off_step_by_step_and_not_below_the_own_priority() -> None:
    queue = TaskQueue(AGING_S)
    push(queue, "retried", sequence=0, priority=1, degradation=2, at=100.0)
    push(queue, "one", sequence=1, priority=1, at=100.0)
    push(queue, "two", sequence=2, priority=2, at=100.0)
    push(queue, "zero", sequence=3, priority=0, at=100.0)
    assert order(queue, 100.0) == ["zero", "one", "two", "retried"]
    assert order(queue, 103.999) == ["zero", "one", "two", "retried"]
    assert order(queue, 104.0) == ["zero", "one", "retried", "two"]
    assert order(queue, 107.999) == ["zero", "one", "retried", "two"]
    assert order(queue, 108.0) == ["zero", "retried", "one", "two"]
    assert order(queue, 1e9) == ["zero", "retried", "one", "two"]
    assert queue.effective_priority("retried", 1e9) == 1


def test_delayed_ones_get_ready_at_their_time_in_the_order_of_their_times() -> None:
    queue = TaskQueue(AGING_S)
    delay(queue, "late", sequence=0, at=20.0)
    delay(queue, "early", sequence=1, at=10.0)
    assert (queue.ready_count, queue.delayed_count, len(queue), queue.next_due()) == (0, 2, 2, 10.0)
    assert queue.peek(9) == []
    assert queue.advance(9.999) == []
    assert queue.advance(10.0) == ["early"]
    assert (queue.ready_count, queue.delayed_count, len(queue), queue.next_due()) == (1, 1, 2, 20.0)
    assert queue.advance(10.0) == []
    queue.remove("early")
    delay(queue, "between", sequence=2, at=15.0)
    assert queue.advance(30.0) == ["between", "late"]
    assert queue.next_due() is None
    assert queue.peek(9) == ["late", "between"]


def test_a_delayed_ones_degradation_wears_off_from_the_time_it_got_ready() -> None:
    queue = TaskQueue(AGING_S)
    delay(queue, "retried", sequence=0, degradation=1, at=10.0)
    push(queue, "fresh", sequence=1)
    assert order(queue, 13.999) == ["fresh", "retried"]
    assert order(queue, 14.0) == ["retried", "fresh"]


def test_removing() -> None:
    queue = TaskQueue(AGING_S)
    push(queue, "a", sequence=0)
    delay(queue, "b", sequence=1, at=5.0)
    queue.remove("a")
    queue.remove("b")
    assert ("a" in queue, len(queue), queue.ready_count, queue.delayed_count) == (False, 0, 0, 0)
    assert queue.next_due() is None
    assert queue.advance(9.0) == []
    assert queue.peek(9) == []
    with pytest.raises(KeyError):
        queue.remove("a")
    push(queue, "a", sequence=0, priority=7)
    with pytest.raises(ValueError, match="task a is in the queue already"):
        push(queue, "a")
    assert queue.peek(9) == ["a"], "and not twice, for it was there before"


@settings(max_examples=100, deadline=None)
@given(
    aging_s=st.floats(0.01, 1e4),
    since=st.floats(1e9, 2e9),
    degradation=st.integers(1, 5),
    waits=st.lists(st.floats(0, 1e4), max_size=20),
)
def test_aging_ends_whatever_rounding_does(aging_s: float, since: float, degradation: int, waits: list[float]) -> None:
    """At real times, with steps that have no exact binary value."""
    queue = TaskQueue(aging_s)
    push(queue, "a", priority=3, degradation=degradation, at=since)
    push(queue, "b", sequence=1, priority=3, at=since)
    now, last = since, 3 + degradation
    for wait in waits:
        now += wait
        queue.advance(now)
        effective = queue.effective_priority("a", now)
        exact = 3 + degradation - min(degradation, int((Fraction(now) - Fraction(since)) / Fraction(aging_s)))
        assert 3 <= effective <= last
        assert abs(effective - exact) <= 1
        last = effective
    assert order(queue, now + degradation * aging_s + 1.0) == ["a", "b"]


@dataclass
class Entry:
    """What the model knows of a task."""

    sequence: int
    priority: int
    degradation: int
    ready_at: float
    group: Group


GROUPS = st.sampled_from(
    [ALONE, Group("a"), Group("b"), Group("a", prefetch=True), Group("b", coreless=True), Group(coreless=True)]
)


class QueueModel(RuleBasedStateMachine):
    """The queue against a list that is sorted anew every time."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = TaskQueue(AGING_S)
        self.model: dict[str, Entry] = {}
        self.ready: set[str] = set()
        self.now = 1000.0
        self.names = 0

    def ranked(self) -> list[str]:
        def rank(name: str) -> tuple[int, int]:
            entry = self.model[name]
            worn = int((self.now - entry.ready_at) // AGING_S)
            return entry.priority + max(0, entry.degradation - worn), entry.sequence

        return sorted(self.ready, key=rank)

    @rule(priority=st.integers(0, 3), degradation=st.integers(0, 3), waited=st.integers(0, 20), group=GROUPS)
    def push(self, priority: int, degradation: int, waited: int, group: Group) -> None:
        name = f"t{self.names}"
        self.names += 1
        self.model[name] = Entry(self.names, priority, degradation, self.now - waited, group)
        self.ready.add(name)
        push(self.queue, name, self.names, priority, degradation, self.now - waited, group)

    @rule(priority=st.integers(0, 3), degradation=st.integers(0, 3), seconds=st.integers(0, 20), group=GROUPS)
    def push_delayed(self, priority: int, degradation: int, seconds: int, group: Group) -> None:
        name = f"t{self.names}"
        self.names += 1
        self.model[name] = Entry(self.names, priority, degradation, self.now + seconds, group)
        delay(self.queue, name, self.names, priority, degradation, self.now + seconds, group)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.model)))
        self.queue.remove(name)
        del self.model[name]
        self.ready.discard(name)

    @precondition(lambda self: self.ready)
    @rule(data=st.data(), delayed=st.booleans(), group=GROUPS)
    def take_and_put_back(self, data: st.DataObject, delayed: bool, group: Group) -> None:
        """As a retry does: the same id again, with other figures."""
        name = data.draw(st.sampled_from(sorted(self.ready)))
        entry = self.model[name]
        self.queue.remove(name)
        entry.degradation += 1
        entry.group = group
        entry.ready_at = self.now + (2.0 if delayed else 0.0)
        if delayed:
            self.ready.discard(name)
        (delay if delayed else push)(
            self.queue, name, entry.sequence, entry.priority, entry.degradation, entry.ready_at, group
        )

    @rule(seconds=st.sampled_from([0.0, 0.5, 1.0, 3.5, 4.0, 40.0]))
    def advance(self, seconds: float) -> None:
        self.now += seconds
        due = [name for name in self.model if name not in self.ready and self.model[name].ready_at <= self.now]
        due.sort(key=lambda name: (self.model[name].ready_at, self.model[name].sequence))
        assert self.queue.advance(self.now) == due
        self.ready |= set(due)

    @rule(count=st.integers(0, 4))
    def peek_some(self, count: int) -> None:
        self.advance(0.0)
        assert self.queue.peek(count) == self.ranked()[:count]

    @rule(data=st.data(), most=st.none() | st.integers(1, 3))
    def read_while_groups_are_shut(self, data: st.DataObject, most: int | None) -> None:
        """The order of those that are left is the same; what is shut while somebody reads comes no more."""
        self.advance(0.0)
        shut = Shut()
        left = self.ranked()
        seen: Counter[Group] = Counter()
        for name in self.queue.in_order(shut, most):
            allowed = [
                each for each in left if self.model[each].group not in shut and seen[self.model[each].group] != most
            ]
            assert name == allowed[0]
            left = left[left.index(name) + 1 :]
            seen[self.model[name].group] += 1
            shut.providers |= data.draw(st.sets(st.sampled_from(["", "a", "b"]), max_size=1))
            shut.prefetch |= data.draw(st.booleans())
            shut.cores |= data.draw(st.booleans())
            shut.starts |= data.draw(st.booleans())
        groups = [self.model[each].group for each in left]
        assert all(group in shut or seen[group] == most for group in groups)

    @invariant()
    def counts_and_membership(self) -> None:
        assert len(self.queue) == len(self.model)
        assert self.queue.ready_count == len(self.ready)
        assert self.queue.delayed_count == len(self.model) - len(self.ready)
        assert all(name in self.queue for name in self.model)
        assert "nobody" not in self.queue
        waiting = [entry.ready_at for name, entry in self.model.items() if name not in self.ready]
        assert self.queue.next_due() == min(waiting, default=None)
        for name in self.ready:
            entry = self.model[name]
            worn = min(entry.degradation, int((self.now - entry.ready_at) // AGING_S))
            assert self.queue.effective_priority(name, self.now) == entry.priority + entry.degradation - worn

    def teardown(self) -> None:
        self.advance(0.0)
        assert self.queue.peek(len(self.queue)) == self.ranked()
        assert self.queue.peek(len(self.queue)) == self.ranked(), "looking takes nothing away"


TestQueueModel = QueueModel.TestCase
TestQueueModel.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)


def test_who_wants_the_first_of_thousands_looks_at_the_first_and_takes_nothing_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    queue = TaskQueue(AGING_S)
    for number in range(5000):
        push(queue, f"{number}", sequence=number)
    before = list(queue._lines[ALONE].heap)
    looked_at: list[str] = []
    live = TaskQueue._live
    monkeypatch.setattr(
        TaskQueue, "_live", lambda self, task_id, stamp: looked_at.append(task_id) or live(self, task_id, stamp)
    )
    assert next(queue.in_order()) == "0"
    assert queue.peek(3) == ["0", "1", "2"]
    assert len(looked_at) < 10
    assert queue._lines[ALONE].heap == before


def test_a_group_of_which_nothing_waits_is_forgotten() -> None:
    queue = TaskQueue(AGING_S)
    for number in range(500):
        push(queue, f"{number}", sequence=number, group=Group(f"host {number}"))
    assert len(queue.peek(500)) == 500
    for number in range(499):
        queue.remove(f"{number}")
    assert queue.peek(9) == ["499"]
    assert list(queue._lines) == [Group("host 499")]
    push(queue, "again", group=Group("host 0"))
    assert queue.peek(9) == ["again", "499"]


def test_what_was_removed_below_the_first_is_not_kept_for_ever() -> None:
    queue = TaskQueue(AGING_S)
    push(queue, "first", sequence=0)
    for number in range(1, 5000):
        push(queue, f"{number}", sequence=number)
        queue.remove(f"{number}")
    assert queue.peek(9) == ["first"]
    assert len(queue._lines[ALONE].heap) == 1
