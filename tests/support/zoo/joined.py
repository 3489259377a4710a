"""Recordings that were put together with `cat`, cut off, spoiled, or left half-written."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

from tests.support.zoo.bench import Bench, Specimen

__all__ = ["CUT", "JOINED", "SPOILED"]

_KINDS: dict[str, tuple[str, tuple[object, ...]]] = {
    "wav": ("WAV", ()),
    "mp3": ("MP3", ("-b:a", "64k")),
    "flac": ("FLAC", ()),
    "ogg": ("Ogg Vorbis", ("-c:a", "libvorbis")),
    "opus": ("Ogg Opus", ("-c:a", "libopus")),
    "m4a": ("MP4 with AAC", ("-c:a", "aac")),
    "aac": ("ADTS", ("-c:a", "aac")),
    "aiff": ("AIFF", ()),
    "au": ("AU", ()),
    "caf": ("CAF", ()),
    "w64": ("Wave64", ()),
    "flv": ("FLV with MP3", ("-c:a", "libmp3lame", "-ar", 22_050)),
    "wma": ("ASF with WMA", ("-c:a", "wmav2")),
    "tta": ("TTA", ("-c:a", "tta")),
    "wv": ("WavPack", ("-c:a", "wavpack")),
    "mka": ("Matroska with Opus", ("-c:a", "libopus")),
    "webm": ("WebM with Vorbis", ("-c:a", "libvorbis")),
    "ts": ("transport stream with AAC", ("-c:a", "aac")),
    "mpg": ("MPEG program stream with MP2", ("-c:a", "mp2", "-ar", 44_100)),
    "avi": ("AVI with MP3", ("-c:a", "libmp3lame")),
    "ac3": ("AC-3", ("-c:a", "ac3")),
    "amr": ("AMR", ()),
}
"""By suffix: what people call it, and how the ffmpeg program makes it. AMR has no encoder there."""


def whole(bench: Bench, suffix: str) -> bytes:
    return bench.ffmpeg(suffix, *_KINDS[suffix][1])


def _twice(suffix: str) -> Callable[[Bench], bytes]:
    return lambda bench: whole(bench, suffix) * 2


def _cut(suffix: str) -> Callable[[Bench], bytes]:
    def make(bench: Bench) -> bytes:
        made = whole(bench, suffix)
        return made[: len(made) * 6 // 10]

    return make


def _zeroed(suffix: str) -> Callable[[Bench], bytes]:
    """As a copy that was preallocated and broke off."""

    def make(bench: Bench) -> bytes:
        made = whole(bench, suffix)
        return made[: len(made) * 6 // 10].ljust(len(made), b"\0")

    return make


def _flipped(suffix: str) -> Callable[[Bench], bytes]:
    """Every 500th byte behind the head is another one."""

    def make(bench: Bench) -> bytes:
        made = bytearray(whole(bench, suffix))
        choose = random.Random(suffix)
        for at in range(2_000, len(made) - 500, 500):
            made[at + choose.randrange(400)] ^= 1 + choose.randrange(255)
        return bytes(made)

    return make


def _hole(suffix: str) -> Callable[[Bench], bytes]:
    """A second in the middle isn't there."""

    def make(bench: Bench) -> bytes:
        made = whole(bench, suffix)
        return made[: len(made) * 4 // 10] + made[len(made) * 55 // 100 :]

    return make


_MADE = [suffix for suffix in _KINDS if suffix != "amr"]


def _pages(data: bytes) -> list[int]:
    """Where Ogg's pages begin."""
    places, at = [], data.find(b"OggS\0")
    while at >= 0:
        places.append(at)
        at = data.find(b"OggS\0", at + 4)
    return places


def _at_a_page(bench: Bench) -> bytes:
    made = bench.ffmpeg("ogg", "-c:a", "libvorbis", "-page_duration", 200_000)
    pages = _pages(made)
    return made[: pages[len(pages) * 6 // 10]]


def _two_codecs_on_one_pid(bench: Bench) -> bytes:
    return whole(bench, "ts") + bench.ffmpeg("ts", "-c:a", "mp2")


JOINED = (
    *(Specimen(f"joined.{each}", f"two {_KINDS[each][0]} files, joined by `cat`", _twice(each)) for each in _MADE),
    Specimen(
        "joined-rates.wav",
        "WAV at 16 kHz and at 44.1 kHz, joined",
        lambda bench: whole(bench, "wav") + bench.ffmpeg("wav", "-ar", 44_100),
    ),
    Specimen(
        "joined-rates.ogg",
        "Ogg Vorbis at 16 kHz and at 44.1 kHz, joined",
        lambda bench: whole(bench, "ogg") + bench.ffmpeg("ogg", "-c:a", "libvorbis", "-ar", 44_100),
    ),
    Specimen(
        "joined-rates.mp3",
        "MP3 at 16 kHz and at 44.1 kHz, joined",
        lambda bench: whole(bench, "mp3") + bench.ffmpeg("mp3", "-ar", 44_100, "-ac", 2),
    ),
    Specimen(
        "joined-codecs.ogg", "Ogg Vorbis and Ogg Opus, joined", lambda bench: whole(bench, "ogg") + whole(bench, "opus")
    ),
    Specimen(
        "joined-codecs.ts", "transport streams with AAC and with MP2 on the same PID, joined", _two_codecs_on_one_pid
    ),
    Specimen(
        "joined-kinds.mp3",
        "an MP3 file and a WAV file, joined",
        lambda bench: whole(bench, "mp3") + whole(bench, "wav"),
    ),
    Specimen(
        "joined-kinds.wav",
        "a WAV file and an MP3 file, joined",
        lambda bench: whole(bench, "wav") + whole(bench, "mp3"),
    ),
    Specimen(
        "joined-to-text.mp3",
        "an MP3 file with 300 kB of text behind it",
        lambda bench: whole(bench, "mp3") + b"spoken by nobody, " * 17_000,
    ),
)

CUT = (
    *(Specimen(f"cut.{each}", f"{_KINDS[each][0]}, the first 60 %", _cut(each)) for each in _MADE),
    Specimen("cut-at-a-page.ogg", "Ogg Vorbis, cut between two pages", _at_a_page),
    *(
        Specimen(f"zero-filled.{each}", f"{_KINDS[each][0]}, zeros from 60 % on", _zeroed(each))
        for each in ("wav", "mp3", "ogg", "m4a", "flac", "mka", "ts")
    ),
    Specimen("cut-in-the-head.flac", "the first 60 bytes of FLAC", lambda bench: whole(bench, "flac")[:60]),
    Specimen("cut-in-the-head.m4a", "the first 60 bytes of MP4", lambda bench: whole(bench, "m4a")[:60]),
    Specimen("one-byte.mp3", "one byte", lambda _: b"\xff"),
    Specimen("empty.wav", "no byte", lambda _: b""),
    Specimen("header-only.wav", "a WAV header and nothing behind it", lambda bench: whole(bench, "wav")[:44]),
)

SPOILED = (
    *(
        Specimen(f"flipped.{each}", f"{_KINDS[each][0]}, a byte in 500 another one", _flipped(each))
        for each in ("mp3", "flac", "ogg", "opus", "m4a", "aac", "mka", "ts", "wma", "avi")
    ),
    *(
        Specimen(f"hole.{each}", f"{_KINDS[each][0]}, without 15 % in the middle", _hole(each))
        for each in ("mp3", "flac", "ogg", "aac", "mka", "ts")
    ),
    Specimen("noise.mp3", "100 kB of random bytes", lambda _: random.Random(1).randbytes(100_000)),
    Specimen(
        "noise-in-wav.wav", "random bytes as the samples of WAV", lambda _: _wav(random.Random(2).randbytes(64_000))
    ),
)


def _wav(samples: bytes) -> bytes:
    head = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, 16_000, 32_000, 2, 16)
    return (
        b"RIFF"
        + struct.pack("<I", 36 + len(samples))
        + b"WAVE"
        + head
        + b"data"
        + struct.pack("<I", len(samples))
        + samples
    )
