"""How batches on one cluster divide it: what each says of itself in, one's own share out."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trax_ray.core.groups import Shut
from trax_ray.core.policy.admission import Allowance, Memory, admit, capacity
from trax_ray.core.policy.sharing import (
    FORGOTTEN_AFTER_S,
    LAPSES_AFTER_S,
    PATIENCE_S,
    Amount,
    Heard,
    Held,
    Member,
    Patience,
    Share,
    decode_member,
    encode_member,
    narrowed,
    requests_of,
    share_of,
    to_give_way,
)
from trax_ray.core.spec import Limits
from trax_ray.core.task import ResourceRequest
from trax_ray.testing.factories import make_task

quick = settings(max_examples=200, deadline=None)

CORE = ResourceRequest(1.0, 256)
GPU = ResourceRequest(1.0, 256, 1.0)
EIGHT = Amount(8.0, 64 * 256.0)
LIMITS = Limits(max_workers=99, memory_limit_mb=99_999)


def member(
    batch: str,
    wants: int = 8,
    *,
    priority: int = 10,
    has: int = 0,
    request: ResourceRequest = CORE,
    served_s: float = 0,
) -> Member:
    """A batch that wants so many attempts of one kind, and has so many of them at work."""
    return Member(batch, f"batch {batch}", priority, (request,) * wants, (request,) * has, served_s)


def cores_of(own: Member, *others: Member, room: Amount = EIGHT) -> float:
    share = share_of(own, others, room)
    assert share is not None
    return share.amount.cpus


# Division


def test_a_batch_that_is_alone_has_no_share_but_all() -> None:
    assert share_of(member("a"), [], EIGHT) is None


def test_equals_have_equal_parts() -> None:
    a, b = member("a"), member("b")
    assert (cores_of(a, b), cores_of(b, a)) == (4.0, 4.0)
    three = [member(name) for name in "abc"]
    assert sorted(share.amount.cpus for share in all_shares(three, EIGHT).values()) == [2.0, 3.0, 3.0]


def test_what_one_doesnt_want_the_others_have() -> None:
    small, large = member("a", 1), member("b", 99)
    assert cores_of(large, small) == 7.0
    assert cores_of(small, large) == 1.0
    assert cores_of(small, member("b", 3)) == 5.0, "its own, and what nobody wants: more may come before it looks again"


def test_those_of_higher_priority_go_first_whatever_is_left() -> None:
    low, high, highest = member("low"), member("high", 3, priority=5), member("highest", 4, priority=0)
    assert cores_of(highest, low, high) == 8.0
    assert cores_of(high, low, highest) == 4.0
    assert cores_of(low, high, highest) == 1.0
    assert cores_of(low, member("all", 8, priority=0)) == 0.0


def test_one_core_goes_to_the_one_that_has_had_less_of_it() -> None:
    one = Amount(1.0, 4096.0)
    old, young = member("a", served_s=500.0), member("b", served_s=20.0)
    assert (cores_of(old, young, room=one), cores_of(young, old, room=one)) == (0.0, 1.0)


def test_a_batch_of_gpus_and_one_of_cores_are_in_nobodys_way() -> None:
    room = replace(EIGHT, gpus=2.0)
    on_gpus, on_cores = member("a", 2, request=GPU), member("b", 6)
    share = share_of(on_cores, [on_gpus], room)
    assert share is not None
    assert (share.amount.cpus, share.amount.gpus, share.reason) == (6.0, 0.0, "")
    share = share_of(on_gpus, [on_cores], room)
    assert share is not None
    assert (share.amount.cpus, share.amount.gpus) == (2.0, 2.0)


def test_one_that_takes_much_memory_has_had_its_part_sooner() -> None:
    """Dominant resource fairness: both have the same part of what they take most of."""
    room = Amount(9.0, 18 * 1024.0)
    memory, cores = ResourceRequest(1.0, 4096), ResourceRequest(3.0, 1024)
    shares = [
        share_of(member("a", 99, request=memory), [member("b", 99, request=cores)], room),
        share_of(member("b", 99, request=cores), [member("a", 99, request=memory)], room),
    ]
    # The example of the paper: three of the one, two of the other.
    assert [round(share.amount.cpus) for share in shares if share] == [3, 6]


def test_why_it_isnt_all() -> None:
    low = member("a")
    high, higher = member("b", priority=5), member("c", priority=0)
    reasons = [
        share.reason
        for share in (
            share_of(low, [member("b", 1)], EIGHT),
            share_of(low, [member("b", 1), member("c")], EIGHT),
            share_of(low, [high], EIGHT),
            share_of(low, [high, higher, member("d")], EIGHT),
            share_of(member("a", 0), [replace(high, name="talks")], EIGHT),
            share_of(low, [member("b", 0, priority=0)], EIGHT),
            share_of(high, [low], EIGHT),
        )
        if share
    ]
    assert reasons == [
        "shares the cluster with another batch",
        "shares the cluster with 2 other batches",
        "gives way to the batch batch b (--batch-priority 5)",
        "gives way to the batch batch c (--batch-priority 0) and 1 more",
        "gives way to the batch talks (--batch-priority 5)",
        "",
        "",
    ]


requests = st.builds(
    ResourceRequest,
    st.sampled_from([0.25, 1.0, 2.0, 4.0]),
    st.sampled_from([256, 1024, 4096]),
    st.sampled_from([0.0, 0.0, 0.0, 1.0]),
)
members = st.lists(
    st.builds(
        Member,
        batch=st.just(""),
        name=st.just("name"),
        priority=st.sampled_from([0, 5, 10]),
        wants=st.lists(requests, max_size=8).map(tuple),
        served_s=st.sampled_from([0.0, 7.0, 500.0]),
    ),
    min_size=2,
    max_size=5,
).map(lambda found: [replace(each, batch=f"b{number}") for number, each in enumerate(found)])
rooms = st.builds(
    Amount, st.sampled_from([0.0, 1.0, 2.0, 8.0, 64.0]), st.sampled_from([512.0, 8192.0]), st.sampled_from([0.0, 2.0])
)


def all_shares(found: Sequence[Member], room: Amount) -> dict[str, Share]:
    """What each works out for itself."""
    shares = {}
    for own in found:
        share = share_of(own, [each for each in found if each is not own], room)
        assert share is not None
        shares[own.batch] = share
    return shares


def given_to(own: Member, share: Share) -> tuple[ResourceRequest, ...]:
    """The attempts that it may run: the first ones that fit, in their order."""
    fitting: list[ResourceRequest] = []
    for request in own.wants:
        if not Amount.of([*fitting, request]).fits(share.amount):
            break
        fitting.append(request)
    return tuple(fitting)


@quick
@given(found=members, room=rooms, seed=st.integers(0, 99))
def test_what_always_holds(found: list[Member], room: Amount, seed: int) -> None:
    shares = all_shares(found, room)
    for own in found:
        assert shares[own.batch].amount.fits(room)
    # Nobody's view depends on the order in which the others stand on the board.
    mixed = random.Random(seed).sample(found, len(found))
    assert all_shares(mixed, room) == shares
    for own in found:
        # What those behind it want takes nothing from anybody.
        behind = [each for each in found if each is not own and each.priority > own.priority]
        beside = [each for each in found if each is not own and each not in behind]
        assert share_of(own, [*beside, *(replace(each, wants=()) for each in behind)], room) == shares[own.batch]
    # All that may run has room together.
    assert Amount.of(request for own in found for request in given_to(own, shares[own.batch])).fits(room)


@quick
@given(found=members, room=rooms)
def test_nothing_lies_idle_that_somebodys_next_attempt_would_fit_in(found: list[Member], room: Amount) -> None:
    shares = all_shares(found, room)
    wanting = [own for own in found if len(given_to(own, shares[own.batch])) < len(own.wants)]
    for own in wanting:
        given = given_to(own, shares[own.batch])
        following = Amount.of(own.wants[: len(given) + 1])
        assert not following.fits(shares[own.batch].amount)


@quick
@given(count=st.integers(2, 6), cores=st.integers(1, 40), served=st.lists(st.sampled_from([0.0, 9.0]), min_size=6))
def test_equals_of_the_same_kind_differ_by_one_attempt_at_most(count: int, cores: int, served: list[float]) -> None:
    found = [member(f"b{number}", 99, served_s=served[number]) for number in range(count)]
    had = [share.amount.cpus for share in all_shares(found, Amount(float(cores), 1e6)).values()]
    assert sum(had) == cores
    assert max(had) - min(had) <= 1


# What may start


def allowance(cores: float = 8.0, **fields: object) -> Allowance:
    return replace(Allowance(cores=cores, memory_mb=64 * 256.0, all_cores=cores), **fields)  # type: ignore[arg-type]


TASK = make_task(resources=CORE)
FETCH = make_task("f", resources=ResourceRequest(0.0, 256))


def test_a_batch_starts_what_its_share_has_room_for() -> None:
    share = share_of(member("a"), [member("b")], EIGHT)
    found = narrowed(allowance(), share)
    assert len(admit(LIMITS, found, [], [TASK] * 20)) == 4
    assert len(admit(LIMITS, found, [TASK] * 3, [TASK] * 20)) == 1
    assert len(admit(LIMITS, found, [TASK] * 6, [TASK] * 20)) == 0, "what runs beyond it ends by itself"
    assert capacity(LIMITS, found).slots == 4
    assert capacity(LIMITS, found).reason == "shares the cluster with another batch"
    assert narrowed(allowance(), None) == allowance()


def test_one_attempt_runs_in_any_case_beside_equals_and_none_beside_higher_priority() -> None:
    full = Amount(1.0, 4096.0)
    beside = narrowed(allowance(1.0), share_of(member("b"), [member("a")], full))
    assert beside.cores == 0.0
    assert len(admit(LIMITS, beside, [], [TASK] * 3)) == 1, "Ray gives the core to each in turn"
    below = narrowed(allowance(1.0), share_of(member("b"), [member("a", priority=0)], full))
    assert admit(LIMITS, below, [], [TASK] * 3) == []
    assert capacity(LIMITS, below).slots == 0
    assert capacity(LIMITS, below).reason == "gives way to the batch batch a (--batch-priority 0)"


def test_downloads_and_calls_give_way_to_nobody() -> None:
    found = narrowed(allowance(), share_of(member("b"), [member("a", priority=0)], EIGHT))
    call = make_task("c", shared=True)
    assert admit(LIMITS, found, [], [FETCH, call, TASK]) == [FETCH, call]
    assert admit(LIMITS, found, [], [TASK, FETCH], Shut()) == [FETCH]
    assert requests_of([FETCH, call, TASK, make_task("g", resources=GPU)]) == (CORE, GPU)


def test_what_is_left_beside_higher_priority_is_used_also_by_a_task_that_the_batchs_memory_has_no_room_for() -> None:
    found = narrowed(allowance(memory_mb=100.0), share_of(member("b"), [member("a", 7, priority=0)], EIGHT))
    assert len(admit(LIMITS, found, [], [TASK] * 3)) == 1, "slow, not stuck"
    closed = replace(found, memory=Memory.CLOSED)
    assert len(admit(LIMITS, closed, [], [TASK] * 3)) == 1


# Who gives way


def test_a_batch_waits_for_its_attempts_to_end_and_then_puts_the_youngest_back() -> None:
    patience = Patience()
    share = share_of(member("b"), [member("a", 6, priority=0, has=1)], EIGHT)
    assert share is not None
    assert (share.amount.cpus, share.short.cpus) == (2.0, 5.0)
    eight = Amount.of([CORE] * 8)
    attempts = [Held(f"t{number}", CORE, float(number)) for number in range(8)]
    assert not patience.is_over(share, eight, 100.0)
    assert not patience.is_over(share, eight, 100.0 + PATIENCE_S - 0.1)
    assert patience.is_over(share, eight, 100.0 + PATIENCE_S)
    given = to_give_way(share, eight, attempts)
    assert [each.task_id for each in given] == ["t7", "t6", "t5", "t4", "t3"], "no more than are missing"
    assert not patience.is_over(share, Amount.of([CORE] * 2), 131.0)
    assert not patience.is_over(share, eight, 132.0), "it begins anew"


def test_nobody_is_put_back_for_equals_or_for_who_has_all_at_work_or_for_what_isnt_missing() -> None:
    eight = Amount.of([CORE] * 8)
    for others, room in (
        ([member("a")], EIGHT),
        ([member("a", 6, priority=0, has=6)], EIGHT),
        ([member("a", 6, priority=20)], EIGHT),
        ([member("a", 1, priority=0, request=GPU)], replace(EIGHT, cpus=99.0, gpus=2.0)),
    ):
        share = share_of(member("b"), others, room)
        patience = Patience()
        assert not patience.is_over(share, eight, 0.0)
        assert not patience.is_over(share, eight, 999.0)
    assert not Patience().is_over(None, eight, 0.0)


def test_what_cant_be_put_back_counts_and_stays() -> None:
    share = share_of(member("b", 3), [member("a", 8, priority=0)], EIGHT)
    assert share is not None
    assert to_give_way(share, Amount.of([CORE] * 3), [Held("t", CORE, 1.0)]) == [Held("t", CORE, 1.0)]


@quick
@given(found=members, room=rooms, running=st.lists(requests, max_size=12))
def test_what_is_put_back_is_within_what_others_miss(
    found: list[Member], room: Amount, running: list[ResourceRequest]
) -> None:
    own, *others = found
    share = share_of(own, others, room)
    assert share is not None
    held = Amount.of(running)
    attempts = [Held(f"{number}", request, float(number)) for number, request in enumerate(running)]
    chosen = to_give_way(share, held, attempts)
    if not any(each.priority < own.priority and each.wants for each in others):
        assert chosen == []
    assert len(set(chosen)) == len(chosen)
    # One less would leave somebody short of what this batch has beyond its share.
    if chosen:
        missed = (held - share.amount).within(share.short)
        assert Amount.of([chosen[-1].request]).touches(missed - Amount.of(each.request for each in chosen[:-1]))


# What is said


def test_what_is_said_comes_back() -> None:
    told = Member("/out", "talks", 3, (CORE, CORE, GPU), (CORE,), 12.5, "n1", (("n1", (1, 2)), ("n2", (3,))))
    assert decode_member(encode_member(told, 7)) == told
    assert len(encode_member(member("a", 5000), 1)) < 400, "a thousand workers say no more than ten"


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff", b"[]", b"3", b'{"batch": "a"}', b"[" * 9999],
)
def test_what_no_batch_has_said_is_passed_over(content: bytes) -> None:
    assert decode_member(content) is None


def test_a_later_version_may_say_more() -> None:
    told = member("a")
    later = json.loads(encode_member(told, 1)) | {"mood": "good"}
    assert decode_member(json.dumps(later).encode()) == told


def test_what_isnt_said_again_lapses_and_is_taken_away_in_the_end() -> None:
    heard = Heard()
    dead, alive = encode_member(member("dead"), 1), member("alive")

    def living(at: float) -> list[str]:
        said = {"dead": dead, "alive": encode_member(alive, int(at)), "odd": b"{"}
        return [each.batch for each in heard.living(said, at)]

    assert living(0.0) == ["dead", "alive"]
    assert living(LAPSES_AFTER_S - 1) == ["dead", "alive"]
    assert living(LAPSES_AFTER_S) == ["alive"]
    assert heard.forgotten(LAPSES_AFTER_S) == []
    assert living(FORGOTTEN_AFTER_S) == ["alive"]
    assert heard.forgotten(FORGOTTEN_AFTER_S) == ["dead", "odd"]
    dead = encode_member(member("dead"), 2)
    assert living(FORGOTTEN_AFTER_S + 1) == ["dead", "alive"], "it was out of reach"
    assert heard.living({}, 999.0) == []
