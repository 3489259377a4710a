"""Which files of a watched folder are whole, on a clock that only moves when it is told to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trax_ray.core.policy.settling import Look, Settling
from trax_ray.testing.clock import FakeClock


class Folder:
    """A folder that is looked at."""

    def __init__(self, settle_s: float = 10.0) -> None:
        self.clock = FakeClock()
        self.settling = Settling(settle_s)
        self.files: dict[str, Look] = {}

    def write(self, name: str, size_bytes: int, inode: int = 1) -> None:
        self.files[name] = Look(size_bytes, int(self.clock() * 1e9), inode)

    def look(self, after_s: float = 0.0) -> list[str]:
        return self.settling.take(self.files, self.clock.advance(after_s))


@pytest.fixture
def folder() -> Folder:
    return Folder()


def test_a_file_is_taken_once_it_has_not_changed_for_a_while(folder: Folder) -> None:
    folder.write("a.wav", 100)
    assert folder.look() == []
    assert folder.settling.next_at() == folder.clock() + 10.0
    assert folder.look(9.9) == []
    assert folder.look(0.2) == ["a.wav"]
    assert folder.look(100.0) == [], "once"
    assert folder.settling.next_at() is None


def test_one_that_grows_waits_however_slowly(folder: Folder) -> None:
    for size in range(1, 20):
        folder.write("a.wav", size)
        assert folder.look(9.0) == []
    assert folder.look(10.0) == ["a.wav"]


def test_one_whose_size_was_set_before_it_was_filled_waits_too(folder: Folder) -> None:
    for _ in range(5):
        folder.write("a.wav", 1000)
        assert folder.look(9.0) == []
    assert folder.look(10.0) == ["a.wav"]


def test_an_empty_file_is_none(folder: Folder) -> None:
    folder.write("a.wav", 0)
    assert [folder.look(10.0) for _ in range(5)] == [[]] * 5
    folder.write("a.wav", 5)
    assert folder.look() == []
    assert folder.look(10.0) == ["a.wav"]


def test_one_that_is_moved_away_half_written_never_was(folder: Folder) -> None:
    folder.write("a.wav", 5)
    folder.look()
    del folder.files["a.wav"]
    assert folder.look(9.0) == []
    folder.write("a.wav", 5)
    assert folder.look(2.0) == [], "it begins anew"
    assert folder.look(10.0) == ["a.wav"]


def test_another_name_is_another_file(folder: Folder) -> None:
    folder.write("a.wav.part", 5)
    folder.look()
    folder.files["a.wav"] = folder.files.pop("a.wav.part")
    assert folder.look(9.0) == []
    assert folder.look(10.0) == ["a.wav"]


def test_one_that_goes_and_comes_back_as_it_was_is_not_taken_twice(folder: Folder) -> None:
    folder.write("a.wav", 5)
    folder.look()
    assert folder.look(10.0) == ["a.wav"]
    kept = folder.files.pop("a.wav")
    folder.look(10.0)
    folder.files["a.wav"] = kept
    assert folder.look(10.0) == folder.look(10.0) == []


def test_one_that_changes_later_is_given_again_and_now_and_then(folder: Folder) -> None:
    folder.write("a.wav", 5)
    folder.look()
    assert folder.look(10.0) == ["a.wav"]
    folder.write("a.wav", 9)
    assert folder.look(1.0) == []
    assert folder.look(10.0) == ["a.wav"]
    given = [bool(folder.look(10.0)) for _ in range(16)]
    assert given == [each in (0, 2, 6, 14) for each in range(16)], "after 10, 20, 40 and 80 seconds"
    folder.write("a.wav", 12)
    assert folder.look(100.0) == []
    assert folder.look(10.0) == ["a.wav"]


def test_what_could_not_be_taken_waits_anew(folder: Folder) -> None:
    folder.write("a.wav", 5)
    folder.look()
    assert folder.look(10.0) == ["a.wav"]
    folder.settling.put_back("a.wav")
    assert folder.look() == []
    assert folder.look(10.0) == ["a.wav"]


def test_who_wants_no_wait_gets_none() -> None:
    folder = Folder(settle_s=0.0)
    folder.write("a.wav", 5)
    assert folder.look() == ["a.wav"]
    assert folder.look() == []


steps = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from(["write", "remove", "rename", "nothing"]), st.floats(0.0, 15.0)),
    max_size=60,
)


@given(steps)
def test_what_is_given_has_not_changed_for_the_whole_time(done: list[tuple[str, str, float]]) -> None:
    folder = Folder()
    changed_at: dict[str, float] = {}
    for size, (name, what, after_s) in enumerate(done, 1):
        if what == "write":
            folder.write(name, size)
            changed_at[name] = folder.clock()
        elif what == "remove":
            folder.files.pop(name, None)
        elif what == "rename" and name in folder.files:
            folder.files[f"{name}2"] = folder.files.pop(name)
            changed_at[f"{name}2"] = folder.clock()
        for given_name in folder.look(after_s):
            assert folder.clock() - changed_at[given_name] >= 10.0
            assert given_name in folder.files
    folder.look()
    settled = set(folder.look(10.0))
    assert folder.settling.waiting_count == 0
    assert folder.look(0.0) == []
    assert settled <= set(folder.files)
