"""Groups of records: any cut yields a prefix, any damage is seen, a failed write is the segment's last."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trax_ray.errors import DiskFull, FileError, JournalError
from trax_ray.store import files, journal
from trax_ray.store.journal import JournalWriter, encode_group, iter_segment, read_groups

Groups = list[list[dict[str, Any]]]

GROUPS: Groups = [
    [{"event": "Added", "task": "a", "data": {"file_path": os.fsdecode(b"t\xe9l\xff.mp3")}}],
    [{"event": "Started", "at": 1767225600.125}, {"event": "Line\nbreak", "x": ["group", 1, 2, 3, "aa", "bb"]}],
    [{}],
    [{"event": "Ended", "ratio": 0.1 + 0.2, "none": None, "flag": True, "emoji": "\N{GRINNING FACE}"}],
]


def encode(groups: Groups) -> bytes:
    data = b""
    for group in groups:
        data += encode_group(group, len(data))
    return data


def ends(groups: Groups) -> list[int]:
    return [len(encode(groups[:count])) for count in range(len(groups) + 1)]


def test_round_trip() -> None:
    data = encode(GROUPS)
    assert read_groups(data) == (GROUPS, len(data))
    assert read_groups(b"") == ([], 0)


def test_every_line_is_json_and_ascii() -> None:
    lines = encode(GROUPS).decode("ascii").splitlines()
    heads = [line for line in lines if isinstance(json.loads(line), list)]
    assert len(heads) == len(GROUPS)
    assert len(lines) == len(GROUPS) + sum(map(len, GROUPS))


def test_every_cut_yields_a_prefix() -> None:
    data, borders = encode(GROUPS), ends(GROUPS)
    for cut in range(len(data) + 1):
        whole = sum(end <= cut for end in borders[1:])
        assert read_groups(data[:cut]) == (GROUPS[:whole], borders[whole])


def test_every_flipped_bit_is_seen() -> None:
    data, borders = encode(GROUPS), ends(GROUPS)
    for position in range(len(data)):
        for bit in range(8):
            damaged = bytearray(data)
            damaged[position] ^= 1 << bit
            if position < borders[-2]:
                with pytest.raises(JournalError):
                    read_groups(bytes(damaged))
            else:
                assert read_groups(bytes(damaged)) == (GROUPS[:-1], borders[-2])


def test_a_flipped_bit_and_then_a_torn_end_never_alter_a_record() -> None:
    data, borders = encode(GROUPS), ends(GROUPS)
    for cut in range(borders[-2] + 1, len(data), 7):
        for position in range(borders[-2]):
            damaged = bytearray(data[:cut])
            damaged[position] ^= 0x10
            try:
                groups, _ = read_groups(bytes(damaged))
            except JournalError:
                continue
            assert groups == GROUPS[: len(groups)]
            assert position >= borders[-3], "only the last group that was whole may go unnoticed"


def test_a_bad_body_before_a_torn_head_is_seen() -> None:
    # No later head is left to be found; but where the bad group ends is known, and something follows it.
    damaged = bytearray(encode(GROUPS)[: ends(GROUPS)[-2] + 1])
    damaged[-3] ^= 1
    with pytest.raises(JournalError, match="more follows"):
        read_groups(bytes(damaged))


@pytest.mark.parametrize("what", ["missing", "doubled", "swapped", "zeros", "bytes lost"])
def test_pieces_that_moved_are_seen(what: str) -> None:
    one, two, three, four = (encode(GROUPS)[a:b] for a, b in zip(ends(GROUPS), ends(GROUPS)[1:], strict=False))
    data = {
        "missing": one + two + four,
        "doubled": one + one + two + three + four,
        "swapped": two + one,
        "zeros": one + bytes(len(two)) + three,
        "bytes lost": one + two + three[:-2] + four,
    }[what]
    with pytest.raises(JournalError):
        read_groups(data)


def test_damage_names_segment_byte_and_way_out() -> None:
    damaged = bytearray(encode(GROUPS))
    damaged[ends(GROUPS)[1]] ^= 1  # the head of the second group: where it ends can't be known any more
    with pytest.raises(JournalError) as caught:
        read_groups(bytes(damaged), "000007.jsonl")
    message = caught.value.message
    assert "000007.jsonl" in message
    assert f"byte {ends(GROUPS)[1]}:" in message
    assert f"byte {ends(GROUPS)[2]}" in message, "the later group, as evidence"
    assert "backup" in message


def test_a_count_that_does_not_fit_is_an_error() -> None:
    body = b"{}\n{}\n"
    head = journal._encode_head(journal._Head(3, len(body), 0, journal.zlib.crc32(body)))
    with pytest.raises(JournalError, match="3 records"):
        read_groups(head + body)


@pytest.mark.parametrize(
    ("records", "error"),
    [([], ValueError), ([{"x": float("nan")}], ValueError), ([["group"]], TypeError), ([{"x": {1}}], TypeError)],
)
def test_what_is_no_group_is_refused(records: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        encode_group(records)


# Any text that a file name can give: also bytes that aren't UTF-8, as surrogateescape shows them.
texts = st.text(st.characters(exclude_categories=["Cs"]) | st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
groups = st.lists(st.lists(st.dictionaries(texts, values, max_size=3), min_size=1, max_size=3), max_size=5)


@settings(max_examples=60, deadline=None)
@given(groups, st.data())
def test_any_cut_yields_a_prefix(written: Groups, data: st.DataObject) -> None:
    segment, borders = encode(written), ends(written)
    assert read_groups(segment) == (written, len(segment))
    cut = data.draw(st.integers(0, len(segment)))
    whole = sum(end <= cut for end in borders[1:])
    assert read_groups(segment[:cut]) == (written[:whole], borders[whole])


@settings(max_examples=60, deadline=None)
@given(groups.filter(bool), st.data())
def test_any_burst_of_damage_alters_no_record(written: Groups, data: st.DataObject) -> None:
    segment, borders = bytearray(encode(written)), ends(written)
    start = data.draw(st.integers(0, len(segment) - 1))
    burst = data.draw(st.binary(min_size=1, max_size=8))
    same = bytes(segment[start : start + len(burst)]) == burst[: len(segment) - start]
    segment[start : start + len(burst)] = burst[: len(segment) - start]
    if same:
        return
    try:
        found, _ = read_groups(bytes(segment))
    except JournalError:
        assert start < borders[-2]
        return
    assert found == written[: len(found)]
    # Damage before the last group passes only where it took that one's head as well.
    assert len(found) == len(written) - 1 or start + len(burst) > borders[-2]


def test_writer_appends_groups(tmp_path: Path) -> None:
    path = tmp_path / "000001.jsonl"
    writer = JournalWriter(path)
    sizes = [writer.append(group) for group in GROUPS]
    assert sizes == ends(GROUPS)[1:]
    assert writer.append([]) == writer.size == path.stat().st_size
    assert path.read_bytes() == encode(GROUPS)
    writer.close()
    writer.close()
    with pytest.raises(FileError) as caught:
        writer.append(GROUPS[0])
    assert caught.value.code == "closed"


def test_writer_never_takes_an_existing_segment(tmp_path: Path) -> None:
    path = tmp_path / "000001.jsonl"
    path.write_bytes(b"theirs")
    with pytest.raises(FileExistsError):
        JournalWriter(path)
    with pytest.raises(FileError) as caught:
        JournalWriter(tmp_path / "none" / "000001.jsonl")
    assert caught.value.code == "not_writable"


def test_one_write_and_one_fsync_a_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = JournalWriter(tmp_path / "000001.jsonl")
    calls: list[str] = []
    write, fsync = os.write, files.fsync
    monkeypatch.setattr(files.os, "write", lambda fd, data: calls.append("write") or write(fd, data))
    monkeypatch.setattr(files, "fsync", lambda fd: calls.append("fsync") or fsync(fd))
    writer.append([{"n": n} for n in range(1000)])
    writer.close()
    assert calls == ["write", "fsync"]


@pytest.mark.parametrize("broken", ["write", "fsync"])
def test_a_failed_group_is_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    path = tmp_path / "000001.jsonl"
    writer = JournalWriter(path)
    writer.append(GROUPS[0])
    write = os.write

    def half(fd: int, data: bytes) -> int:
        write(fd, bytes(data[: len(data) // 2]))
        raise OSError(errno.ENOSPC, "No space left on device")

    def lost(fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "write", half) if broken == "write" else patch.setattr(files, "fsync", lost)
        with pytest.raises(DiskFull, match=r"000001\.jsonl"):
            writer.append(GROUPS[1])
    size = path.stat().st_size
    with pytest.raises(DiskFull, match="takes no more groups"):  # there is room again, but not here
        writer.append(GROUPS[2])
    assert path.stat().st_size == size
    assert [group.records() for group in iter_segment(path)] == GROUPS[: 1 if broken == "write" else 2]


def test_an_interrupt_in_the_middle_ends_the_segment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = JournalWriter(tmp_path / "000001.jsonl")

    def interrupted(fd: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(files, "fsync", interrupted)
        with pytest.raises(KeyboardInterrupt):
            writer.append(GROUPS[0])
    with pytest.raises(FileError, match="KeyboardInterrupt"):
        writer.append(GROUPS[1])


def test_records_that_cannot_be_encoded_do_no_harm(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path / "000001.jsonl")
    with pytest.raises(ValueError, match="not JSON compliant"):
        writer.append([{"x": float("inf")}])
    writer.append(GROUPS[0])
    writer.close()


def test_segment_files_are_read_to_the_limit(tmp_path: Path) -> None:
    path, borders = tmp_path / "000001.jsonl", ends(GROUPS)
    path.write_bytes(encode(GROUPS) + b"torn")
    assert [group.end for group in iter_segment(path)] == borders[1:]
    assert [group.end for group in iter_segment(path, borders[2])] == borders[1:3]
    for limit in (borders[2] - 1, borders[2] + 1, borders[-1] + 4, borders[-1] + 100):
        with pytest.raises(JournalError, match=f"{limit} bytes"):
            list(iter_segment(path, limit))
    with pytest.raises(FileError) as caught:
        list(iter_segment(tmp_path / "none"))
    assert caught.value.code == "not_found"


def test_a_writer_at_work_does_not_look_like_damage(tmp_path: Path) -> None:
    path, borders = tmp_path / "000001.jsonl", ends(GROUPS)
    path.write_bytes(encode(GROUPS)[: borders[2] + 20])  # the third group is being written
    reading = iter_segment(path)
    next(reading)
    path.write_bytes(encode(GROUPS))  # and now it is there, and another one
    assert [group.end for group in reading] == [borders[2]]
