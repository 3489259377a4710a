"""What a file's bytes say beyond what FFmpeg reads of them: files that were joined, cut off, or have a wrong size.

Recordings that were put together with `cat` are several files in one. FFmpeg stops after the first WAV, MP4, ASF or FLV
of them, and can't follow Ogg to other sample rates. Here a file is cut into pieces, each of which FFmpeg reads whole.
Only headers are read.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import BinaryIO

from trax_ray.media.lengths import begins_file, behind_tags, stated_length
from trax_ray.media.medium import Medium

__all__ = [
    "WAV_UNKNOWN_BYTES",
    "Piece",
    "Slice",
    "after_id3",
    "chunks_of_wav",
    "ends_early",
    "leaves_a_rest",
    "pieces_of",
]

WAV_UNKNOWN_BYTES = 0x7FFF_F000
"""Programs that write WAV into a pipe state a size at or above this (sox 0x7FFFF..., ffmpeg 0xFFFFFFFF)."""

MAX_PIECES = 10_000
"""Songs of a radio station that was recorded for weeks; what has more is read as one piece."""

_MOST_CHUNKS = 10_000
"""Of a WAV file, or boxes of an MP4 file; what comes behind isn't looked at."""

_STRAY_BYTES = 4096
"""Bytes after a WAV file's last chunk that are no audio: tags of other formats, and zeros up to a sector's end."""

_TAIL_BYTES = 2 * 65_307
"""The longest page of Ogg lies within the last so many bytes. Source: RFC 3533, section 6."""

_NOTHING_BEHIND = frozenset(
    {"aac", "ac3", "amr", "ape", "asf", "au", "caf", "flac", "flv", "mp3", "tta", "voc", "w64", "wv"}
)
"""Formats whose audio ends where the file does, but for tags."""

_REST_BYTES = 16_384

_ZEROS_BYTES = 4096
"""Zeros at the end of a compressed file that were never written: no coder makes so many."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a file that FFmpeg reads as a file of its own.

    Args:
        start: Its first byte.
        end: The byte after its last one.
        options: What FFmpeg's demuxer is told besides: names and values.
    """

    start: int
    end: int
    options: tuple[tuple[str, str], ...] = ()


class Slice(io.RawIOBase):
    """A stretch of a file as a file.

    Args:
        medium: The file.
        piece: The stretch.
    """

    def __init__(self, medium: Medium, piece: Piece) -> None:
        super().__init__()
        self._file = medium.open()
        self._piece = piece
        self._file.seek(piece.start)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        left = max(0, self._piece.end - self._file.tell())
        return self._file.read(left if size < 0 else min(size, left))

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: self._piece.start, os.SEEK_CUR: self._file.tell(), os.SEEK_END: self._piece.end}[whence]
        return self._file.seek(max(self._piece.start, base + offset)) - self._piece.start

    def tell(self) -> int:
        return self._file.tell() - self._piece.start

    def close(self) -> None:
        self._file.close()
        super().close()


def pieces_of(medium: Medium) -> tuple[Piece, ...]:
    """The pieces of a media file, in order; one that is the whole file for nearly all.

    Args:
        medium: A file that can be read.
    """
    with medium.open() as file:
        size = medium.size_bytes
        head = file.read(12)
        start = after_id3(head)
        if _is_wav(file, start):
            found = list(_wav_pieces(file, start, size))
        elif head[:4] == b"OggS":
            found = _ogg_pieces(file, size)
        elif head[4:8] == b"ftyp":
            found = _mp4_pieces(file, size)
        else:
            found = list(_sized_pieces(file, 0, size))
    return tuple(found) if 0 < len(found) <= MAX_PIECES else (Piece(0, size),)


def _between(starts: list[int], size: int) -> list[Piece]:
    """Pieces that begin at these bytes; what stands before the first isn't read."""
    return [Piece(start, end) for start, end in pairwise([*starts, size])]


def ends_early(medium: Medium, container: str) -> bool:
    """Whether a file's last bytes show that more was to come.

    Args:
        medium: A file that can be read.
        container: FFmpeg's name of its format; one of which FFmpeg doesn't tell how long a header says that it is.
    """
    with medium.open() as file:
        size = medium.size_bytes
        if container in ("w64", "caf", "asf", "avi"):
            return stated_length(file, 0, size) > size
        if container in _CUT and _CUT[container](file, size):
            return True
        file.seek(max(0, size - _TAIL_BYTES))
        tail = file.read(_TAIL_BYTES)
    if container == "ogg":
        return not _ends_with_page(tail)
    return len(tail) > _ZEROS_BYTES and not tail[-_ZEROS_BYTES:].strip(b"\0")


def leaves_a_rest(medium: Medium, piece: Piece, read_to: int | None, container: str) -> bool:
    """Whether much of a file lies behind the last packet that was read of it, and isn't a tag.

    Args:
        medium: A file that can be read.
        piece: The piece of it that was read.
        read_to: The byte after that packet, counted from the piece's first; None where nobody knows.
        container: FFmpeg's name of its format. Those that have an index, pictures or other tracks there are passed by.
    """
    if read_to is None or container not in _NOTHING_BEHIND:
        return False
    with medium.open() as file:
        at = behind_tags(file, piece.start + read_to, piece.end)
        if piece.end - at < max(_REST_BYTES, (piece.end - piece.start) // 10):
            return False
        file.seek(at)
        behind = file.read(_REST_BYTES)
    return not behind.startswith(b"ID3") and bool(behind.strip(b"\0"))


# WAV. Source: RIFF/WAVE, Microsoft Multimedia Programming Interface 1.0.


def chunks_of_wav(file: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """The chunks of a RIFF file: (name, first byte, bytes as stated), as far as they are chunks.

    Args:
        file: Where it stands.
        start: Its first byte there.
        end: The byte after the last that may belong to it.
    """
    at = start + 12
    for _ in range(_MOST_CHUNKS):
        if at + 8 > end:
            return
        file.seek(at)
        name, size = struct.unpack("<4sI", file.read(8))
        if not _is_name(name):
            return
        yield name, at + 8, size
        at += 8 + size + size % 2


def _is_name(name: bytes) -> bool:
    return all(32 <= byte < 127 for byte in name)


def after_id3(head: bytes) -> int:
    """Where a file begins behind a tag that FFmpeg passes over in MP3 alone. Source: ID3v2.4.0, section 3.1."""
    if head[:3] != b"ID3" or len(head) < 10:
        return 0
    size = 0
    for byte in head[6:10]:
        size = size << 7 | byte & 0x7F
    return 10 + size


def _wav_pieces(file: BinaryIO, start: int, size: int) -> Iterator[Piece]:
    while start < size:
        after = _after_data(file, start, size)
        if after is None:
            yield Piece(start, size)
            return
        following = _next_wav(file, start, size)
        if following is not None:
            yield Piece(start, following)
            start = following
            continue
        other = next((each for each in (after + after % 2, after) if begins_file(file, each)), None)
        if other is not None:
            yield Piece(start, other)
            yield from _sized_pieces(file, other, size)
            return
        lost = size - after
        if lost > _STRAY_BYTES and not _is_chunk(file, after, size):
            yield Piece(start, size, (("ignore_length", "1"),))
        else:
            yield Piece(start, size)
        return


def _after_data(file: BinaryIO, start: int, size: int) -> int | None:
    """The byte after a WAV file's audio; None where it isn't known, or isn't there."""
    for name, first, length in chunks_of_wav(file, start, size):
        if name == b"data":
            return first + length if 0 < length < WAV_UNKNOWN_BYTES and first + length < size else None
    return None


def _next_wav(file: BinaryIO, start: int, size: int) -> int | None:
    """Where another WAV file begins behind the chunks of this one."""
    at = start + 12
    seen_data = False
    for name, first, length in chunks_of_wav(file, start, size):
        if name == b"RIFF" and seen_data:
            return first - 8 if _is_wav(file, first - 8) else None
        seen_data |= name == b"data"
        at = first + length
        if seen_data and length % 2 and _is_wav(file, at):  # without the byte that makes it even
            return at
    return at if seen_data and _is_wav(file, at) else None


def _is_wav(file: BinaryIO, at: int) -> bool:
    file.seek(at)
    head = file.read(12)
    return head[:4] == b"RIFF" and head[8:] == b"WAVE"


def _is_chunk(file: BinaryIO, at: int, size: int) -> bool:
    """Whether a chunk that fits begins here, or a byte later."""
    for start in (at, at + at % 2, at + 1):
        file.seek(start)
        head = file.read(8)
        if len(head) < 8:
            return True
        name, length = struct.unpack("<4sI", head)
        if _is_name(name) and start + 8 + length <= size + 1:
            return True
    return False


# Ogg. Source: RFC 3533, section 6.

_PAGE = struct.Struct("<4sBBqIIIB")
_FIRST_OF_STREAM, _LAST_OF_STREAM = 2, 4


def _ogg_pieces(file: BinaryIO, size: int) -> list[Piece]:
    """Chained streams apart: one begins where a first page follows one that is none."""
    if not _is_chained(file, size):
        return []
    starts = []
    begun = False
    for at, flags in _pages(file, size):
        first = bool(flags & _FIRST_OF_STREAM)
        if first and not begun:
            starts.append(at)
        begun = first
    return _between(starts, size)


def _is_chained(file: BinaryIO, size: int) -> bool:
    """Whether the last page belongs to another stream than those that the file begins with."""
    serials = set()
    for at, flags in _pages(file, size):
        if not flags & _FIRST_OF_STREAM:
            break
        file.seek(at + 14)
        serials.add(file.read(4))
    file.seek(max(0, size - _TAIL_BYTES))
    tail = file.read(_TAIL_BYTES)
    last = tail.rfind(b"OggS\0")
    return 0 <= last <= len(tail) - _PAGE.size and tail[last + 14 : last + 18] not in serials


def _pages(file: BinaryIO, size: int) -> Iterator[tuple[int, int]]:
    """Where pages begin, and their flags, up to the first damage."""
    at = 0
    while at + _PAGE.size <= size:
        file.seek(at)
        head = file.read(_PAGE.size + 255)
        length = _page_length(head)
        if length is None:
            return
        yield at, head[5]
        at += length


def _page_length(head: bytes) -> int | None:
    if len(head) < _PAGE.size or head[:5] != b"OggS\0":
        return None
    return _PAGE.size + head[26] + sum(head[27 : 27 + head[26]])


def _ends_with_page(tail: bytes) -> bool:
    """Whether a file ends with the last page of a stream of Ogg, whole, apart from a tag that was put behind it."""
    at = tail.rfind(b"OggS\0")
    if at < 0:
        return False
    length = _page_length(tail[at:])
    if length is None or at + length > len(tail) or not tail[at + 5] & _LAST_OF_STREAM:
        return False
    rest = tail[at + length :]
    return not rest or (len(rest) < _STRAY_BYTES and bool(rest.strip(b"\0")))


# MP4. Source: ISO/IEC 14496-12, section 4.2.


def _mp4_pieces(file: BinaryIO, size: int) -> list[Piece]:
    """MP4 files one after the other: each begins with a box `ftyp`. Fragments are read by FFmpeg across them."""
    starts = []
    at = 0
    for _ in range(_MOST_CHUNKS):
        if at + 8 > size:
            break
        file.seek(at)
        head = file.read(16)
        length, name = struct.unpack(">I4s", head[:8])
        if length == 1 and len(head) == 16:
            length = struct.unpack(">Q", head[8:])[0]
        if name == b"moof":
            return []
        if length < 8:
            break
        if name == b"ftyp":
            starts.append(at)
        at += length
    return _between(starts, size)


# Those that say how long they are.


def _sized_pieces(file: BinaryIO, start: int, size: int) -> Iterator[Piece]:
    """Files that state their length, one after the other, whatever kind the next one is."""
    while start < size:
        length = stated_length(file, start, size)
        # Not all writers fill up to whole words.
        filled = [start + each for each in (length, length + length % 2, -(-length // 8) * 8) if each]
        ends = [*filled, *(behind_tags(file, each, size) for each in filled[:1])]
        end = next((each for each in ends if each < size and begins_file(file, each)), size)
        yield Piece(start, end)
        start = end


# How streams end that state no length.


def _flv_ends_early(file: BinaryIO, size: int) -> bool:
    """Behind each tag stands its length. Source: Adobe Flash Video 10.1, E.3."""
    file.seek(max(0, size - 4))
    length = struct.unpack(">I", file.read(4).ljust(4, b"\0"))[0]
    if not 11 <= length <= size - 13:
        return True
    file.seek(size - 4 - length)
    return file.read(1)[0] & 0x1F not in (8, 9, 18)


def _ts_ends_early(file: BinaryIO, size: int) -> bool:
    """Packets of one length, each with the same first byte. Source: ISO/IEC 13818-1, 2.4.3."""
    head = file.read(3 * 204)
    for length, first in ((188, 0), (192, 4), (204, 0)):
        if all(head[at : at + 1] == b"\x47" for at in range(first, 2 * length + first + 1, length)):
            return bool(size % length)
    return False


def _ps_ends_early(file: BinaryIO, size: int) -> bool:
    """Whether the packets behind the last pack header don't end with the file. Source: ISO/IEC 13818-1, 2.5.3."""
    file.seek(max(0, size - _TAIL_BYTES))
    tail = file.read(_TAIL_BYTES)
    at = tail.rfind(b"\0\0\x01\xba")
    if at < 0:
        return False
    at += (
        12 if len(tail) > at + 4 and tail[at + 4] >> 4 == 2 else 14 + (tail[at + 13] & 7 if len(tail) > at + 13 else 0)
    )
    while tail[at : at + 3] == b"\0\0\x01" and len(tail) >= at + 6:
        if tail[at + 3] == 0xB9:  # the end
            return False
        at += 6 + int.from_bytes(tail[at + 4 : at + 6], "big")
    return at > len(tail)


_CUT: Mapping[str, Callable[[BinaryIO, int], bool]] = {
    "flv": _flv_ends_early,
    "mpegts": _ts_ends_early,
    "mpeg": _ps_ends_early,
}
"""By FFmpeg's name of the format."""
