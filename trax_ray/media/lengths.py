"""How long a media file says it is, and where another one begins: by their first bytes. Standard library only."""

from __future__ import annotations

import math
import struct
from typing import BinaryIO

__all__ = ["begins_file", "behind_tags", "stated_length"]

_MOST_CHUNKS = 10_000
"""Of a CAF or AVI file; what comes behind isn't looked at."""

_ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
"""Source: Advanced Systems Format, 10.1 and 10.2."""

_W64 = bytes.fromhex("726966662e91cf11a5d628db04c10000")
"""Source: Sony Wave64, section 2."""

_LONGEST_HEAD = 65_536

_MAGIC = (_ASF, _W64, b"caff\0\x01", b"FLV\x01", b"TTA1", b"OggS\0\x02", b"fLaC\0", b"ID3\x02", b"ID3\x03", b"ID3\x04")


def begins_file(file: BinaryIO, at: int) -> bool:
    """Whether a media file begins at this byte of another one; of kinds that are known by more than a word."""
    file.seek(at)
    head = file.read(16)
    if head.startswith(_MAGIC):
        return True
    form = {b"RIFF": (b"WAVE", b"AVI "), b"FORM": (b"AIFF", b"AIFC")}.get(head[:4])
    return head[8:12] in form if form else head[4:8] == b"ftyp" and head[:2] == b"\0\0"


def behind_tags(file: BinaryIO, at: int, end: int) -> int:
    """Where what stands behind the tags goes on that begin at this byte. Source: APEv2; ID3v1."""
    while at < end:
        file.seek(at)
        head = file.read(32)
        if head[:8] == b"APETAGEX" and len(head) == 32:
            at += 32 + int(struct.unpack("<I", head[12:16])[0])
        elif head[:3] == b"TAG" and end - at >= 128:
            at += 128
        else:
            break
    return min(at, end)


def stated_length(file: BinaryIO, at: int, end: int) -> int:
    """How many bytes a file has by its own word.

    Args:
        file: Where it stands.
        at: Its first byte there.
        end: The byte after the last that may belong to it.

    Returns:
        0 where it doesn't say, or isn't of a kind that is read here: AIFF, Wave64, CAF, ASF, TTA, FLV, AVI.
    """
    file.seek(at)
    head = file.read(_LONGEST_HEAD)
    if head[:4] == b"FORM" and len(head) >= 8:
        return 8 + int(struct.unpack(">I", head[4:8])[0])
    if head[:16] == _W64 and len(head) >= 24:
        stated: int = struct.unpack("<Q", head[16:24])[0]
        return stated if stated < 2**62 else 0
    if head[:4] == b"caff":
        return _of_caf(file, at, end)
    if head[:16] == _ASF:
        return _of_asf(head)
    if head[:4] == b"TTA1":
        return _of_tta(file, at, head)
    if head[:4] == b"FLV\x01":
        return _of_flv(head)
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return _of_avi(file, at, end)
    return 0


def _of_caf(file: BinaryIO, at: int, end: int) -> int:
    """Source: Apple Core Audio Format 1.0, "Chunks"."""
    start, at = at, at + 8
    for _ in range(_MOST_CHUNKS):
        if at + 12 > end:
            break
        file.seek(at)
        name, length = struct.unpack(">4sq", file.read(12))
        if name[:4] == b"caff":
            break
        if length <= 0:  # of the audio itself: up to the end
            return 0
        at += 12 + length
    return at - start


def _of_asf(head: bytes) -> int:
    """Source: Advanced Systems Format, 3.2: the size holds unless the file is a broadcast."""
    place = head.find(_ASF_PROPERTIES)
    if place < 0 or place + 92 > len(head):
        return 0
    stated, flags = struct.unpack("<Q40xI", head[place + 40 : place + 92])
    return 0 if flags & 1 else int(stated)


def _of_tta(file: BinaryIO, at: int, head: bytes) -> int:
    """Source: True Audio, "TTA1 format": a table of the lengths of its frames, of 256/245 s each."""
    if len(head) < 22:
        return 0
    rate, samples = struct.unpack("<II", head[10:18])
    count = math.ceil(samples * 245 / (256 * rate)) if rate else 0
    if not 0 < count < 1_000_000:
        return 0
    file.seek(at + 22)
    table = file.read(4 * count + 4)
    if len(table) < 4 * count + 4:
        return 0
    frames: tuple[int, ...] = struct.unpack(f"<{count}I", table[:-4])
    return 22 + len(table) + sum(frames)


def _of_flv(head: bytes) -> int:
    """Source: Adobe Flash Video 10.1, onMetaData."""
    place = head[:4096].find(b"filesize\0")
    stated = struct.unpack(">d", head[place + 9 : place + 17])[0] if place >= 0 and len(head) >= place + 17 else 0.0
    return int(stated) if 0 < stated < 2**53 else 0


def _of_avi(file: BinaryIO, at: int, end: int) -> int:
    """One RIFF after the other. Source: OpenDML AVI 1.02, section 4."""
    start = at
    for number in range(_MOST_CHUNKS):
        if at >= end:
            break
        file.seek(at)
        name, length, form = struct.unpack("<4sI4s", file.read(12).ljust(12, b"\0"))
        if name != b"RIFF" or form != (b"AVIX" if number else b"AVI "):
            break
        if not length:  # never filled in
            return 0
        at += 8 + length + length % 2
    return at - start
