"""Headers that say what isn't so, sizes beyond reason, and files that unfold to far more than they are."""

from __future__ import annotations

import struct
import zlib

import numpy as np

from tests.support.zoo.bench import RATE, Bench, Specimen

__all__ = ["LYING", "SWELLING"]


def _wav(
    bench: Bench,
    *,
    form: int = 1,
    channels: int = 1,
    rate: int = RATE,
    align: int = 2,
    bits: int = 16,
    size: int | None = None,
    before: bytes = b"",
) -> bytes:
    samples = (bench.speech() * 32767).astype("<i2").tobytes()
    head = struct.pack("<4sIHHIIHH", b"fmt ", 16, form, channels, rate, rate * align & 0xFFFFFFFF, align, bits)
    length = len(samples) if size is None else size
    body = b"WAVE" + before + head + b"data" + struct.pack("<I", length) + samples
    return b"RIFF" + struct.pack("<I", min(len(body), 0xFFFFFFFF)) + body


def _no_fmt(bench: Bench) -> bytes:
    made = _wav(bench)
    return made[:12] + made[36:]


def _fmt_behind(bench: Bench) -> bytes:
    made = _wav(bench)
    return made[:12] + made[36:] + made[12:36]


def _flac_length(samples: int) -> bytes:
    return struct.pack(">Q", samples & 0xFFFFFFFFF)[3:]


def _flac(bench: Bench, samples: int) -> bytes:
    made = bytearray(bench.ffmpeg("flac"))
    low = _flac_length(samples)
    made[21] = (made[21] & 0xF0) | (low[0] & 0x0F)
    made[22:26] = low[1:5]
    return bytes(made)


def _boxes(data: bytes) -> list[tuple[int, int, bytes]]:
    found, at = [], 0
    while at + 8 <= len(data):
        size, name = struct.unpack(">I4s", data[at : at + 8])
        found.append((at, size, name))
        if size < 8:
            break
        at += size
    return found


def _mp4_without(name: bytes) -> object:
    def make(bench: Bench) -> bytes:
        made = bench.ffmpeg("m4a", "-c:a", "aac")
        return b"".join(made[at : at + size] for at, size, each in _boxes(made) if each != name)

    return make


def _mp4_duration(bench: Bench) -> bytes:
    """A thousand years in each of its headers."""
    made = bytearray(bench.ffmpeg("m4a", "-c:a", "aac"))
    for name, offset in ((b"mvhd", 20), (b"tkhd", 24), (b"mdhd", 20)):
        at = made.find(name)
        made[at + offset : at + offset + 4] = b"\xff\xff\xff\xfe"
    return bytes(made)


def _mp4_box_of(size: int) -> object:
    def make(bench: Bench) -> bytes:
        made = bytearray(bench.ffmpeg("m4a", "-c:a", "aac"))
        at = next(at for at, _, name in _boxes(bytes(made)) if name == b"moov")
        made[at : at + 4] = struct.pack(">I", size)
        return bytes(made)

    return make


def _nested_mp4(_: Bench) -> bytes:
    body = b""
    for _depth in range(20_000):
        body = struct.pack(">I4s", len(body) + 8, b"moov") + body
        if len(body) > 2_000_000:
            break
    return struct.pack(">I4s4sI", 16, b"ftyp", b"isom", 0) + body


def _nested_matroska(_: Bench) -> bytes:
    """Unknown sizes within unknown sizes."""
    head = b"\x1a\x45\xdf\xa3\x8b\x42\x82\x88matroska"
    return (
        head
        + b"\x18\x53\x80\x67\x01\xff\xff\xff\xff\xff\xff\xff"
        + b"\x10\x43\xa7\x70\x01\xff\xff\xff\xff\xff\xff\xff" * 50_000
    )


def _matroska_duration(bench: Bench) -> bytes:
    made = bytearray(bench.ffmpeg("mka", "-c:a", "libopus"))
    at = made.find(b"\x44\x89\x88")
    made[at + 3 : at + 11] = struct.pack(">d", 3.6e12)
    return bytes(made)


def _xing(bench: Bench) -> bytes:
    """A table of frames that promises ten hours."""
    made = bytearray(bench.by("mp3", "lame", "--quiet", "-V", "5", "SPEECH", "MADE"))
    at = max(made.find(b"Xing"), made.find(b"Info"))
    made[at + 8 : at + 12] = struct.pack(">I", 1_000_000)
    return bytes(made)


def _id3(size: int, length: int) -> object:
    def make(bench: Bench) -> bytes:
        packed = bytes((size >> shift) & 0x7F for shift in (21, 14, 7, 0))
        return b"ID3\x04\x00\x00" + packed + bytes(length) + bench.ffmpeg("mp3", "-b:a", "64k")

    return make


def _ogg_granule(bench: Bench) -> bytes:
    """The last page says that it is the end of three centuries."""
    made = bytearray(bench.ffmpeg("opus", "-c:a", "libopus"))
    at = made.rfind(b"OggS\0")
    made[at + 6 : at + 14] = struct.pack("<q", 2**48)
    length = 27 + made[at + 26] + sum(made[at + 27 : at + 27 + made[at + 26]])
    made[at + 22 : at + 26] = bytes(4)
    made[at + 22 : at + 26] = struct.pack("<I", _ogg_crc(bytes(made[at : at + length])))
    return bytes(made)


def _ogg_crc(page: bytes) -> int:
    crc = 0
    for byte in page:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1) ^ 0x04C11DB7 if crc & 0x80000000 else crc << 1
        crc &= 0xFFFFFFFF
    return crc


LYING = (
    Specimen("size-0.wav", "WAV whose header says 0 bytes", lambda bench: _wav(bench, size=0)),
    Specimen("size-small.wav", "WAV whose header says 1 s", lambda bench: _wav(bench, size=32_000)),
    Specimen("size-large.wav", "WAV whose header says 30 s", lambda bench: _wav(bench, size=960_000)),
    Specimen("size-unknown.wav", "WAV from a pipe: the size is 0xFFFFFFFF", lambda bench: _wav(bench, size=0xFFFFFFFF)),
    Specimen("rate-0.wav", "WAV with 0 samples a second", lambda bench: _wav(bench, rate=0)),
    Specimen("rate-1.wav", "WAV with 1 sample a second: 33 hours", lambda bench: _wav(bench, rate=1)),
    Specimen("rate-4e9.wav", "WAV with 4,294,967,295 samples a second", lambda bench: _wav(bench, rate=0xFFFFFFFF)),
    Specimen("channels-0.wav", "WAV with no channel", lambda bench: _wav(bench, channels=0)),
    Specimen(
        "channels-65535.wav", "WAV with 65,535 channels", lambda bench: _wav(bench, channels=65_535, align=65_534)
    ),
    Specimen("channels-64.wav", "WAV with 64 channels", lambda bench: _wav(bench, channels=64, align=128)),
    Specimen("align-0.wav", "WAV with frames of 0 bytes", lambda bench: _wav(bench, align=0)),
    Specimen("bits-0.wav", "WAV with samples of 0 bits", lambda bench: _wav(bench, bits=0)),
    Specimen("bits-64.wav", "WAV with integers of 64 bits that are of 16", lambda bench: _wav(bench, bits=64, align=8)),
    Specimen("form-unknown.wav", "WAV of a format that nobody knows", lambda bench: _wav(bench, form=0x7ABC)),
    Specimen("form-mp3.wav", "WAV that says it holds MP3, and holds samples", lambda bench: _wav(bench, form=0x55)),
    Specimen("no-fmt.wav", "WAV without its format chunk", _no_fmt),
    Specimen("fmt-behind.wav", "WAV with its format chunk behind the samples", _fmt_behind),
    Specimen(
        "many-chunks.wav",
        "WAV with 100,000 empty chunks in front",
        lambda bench: _wav(bench, before=b"junk\0\0\0\0" * 100_000),
    ),
    Specimen("length-0.flac", "FLAC whose header says 0 samples, as from a pipe", lambda bench: _flac(bench, 0)),
    Specimen("length-short.flac", "FLAC whose header says 1 s", lambda bench: _flac(bench, RATE)),
    Specimen("length-long.flac", "FLAC whose header says 1,000 h", lambda bench: _flac(bench, 3_600_000 * RATE)),
    Specimen("no-moov.m4a", "MP4 whose index was never written", _mp4_without(b"moov")),  # type: ignore[arg-type]
    Specimen("no-mdat.m4a", "MP4 without its audio", _mp4_without(b"mdat")),  # type: ignore[arg-type]
    Specimen("long.m4a", "MP4 whose headers say decades", _mp4_duration),
    Specimen("box-0.m4a", "MP4 with an index of 0 bytes", _mp4_box_of(0)),  # type: ignore[arg-type]
    Specimen("box-huge.m4a", "MP4 with an index of 4 GB", _mp4_box_of(0xFFFFFFFF)),  # type: ignore[arg-type]
    Specimen("nested.mp4", "MP4 with boxes in boxes, hundreds deep", _nested_mp4),
    Specimen("nested.mkv", "Matroska with elements in elements of unknown size", _nested_matroska),
    Specimen("long.mka", "Matroska that says a million hours", _matroska_duration),
    Specimen("frames.mp3", "MP3 whose table of frames promises ten hours", _xing),
    Specimen("tag-beyond-the-end.mp3", "MP3 whose tag is longer than the file", _id3(0xFFFFFFF, 100)),  # type: ignore[arg-type]
    Specimen("tag-20-mb.mp3", "MP3 with a tag of 20 MB", _id3(20_000_000, 20_000_000)),  # type: ignore[arg-type]
    Specimen("centuries.opus", "Ogg Opus whose last page says three centuries", _ogg_granule),
)


def _png(side: int) -> bytes:
    """A black picture of `side` by `side` dots, a thousandth of the size of its dots."""
    rows = zlib.compressobj(9)
    body = b"".join(rows.compress(bytes(1 + side * 3)) for _ in range(side)) + rows.flush()

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def _cover(bench: Bench) -> bytes:
    """400 MB of black in the cover of 60 kB of MP3."""
    picture = _png(12_000)
    frame = b"\0image/png\0\x03\0" + picture
    tag = b"APIC" + bytes((len(frame) >> shift) & 0x7F for shift in (21, 14, 7, 0)) + b"\0\0" + frame
    size = bytes((len(tag) >> shift) & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\x04\0\0" + size + tag + bench.ffmpeg("mp3", "-b:a", "64k")


def _silent_hours(bench: Bench) -> bytes:
    path = bench.scratch / "hours.flac"
    bench.run(
        "ffmpeg",
        "-v",
        "error",
        "-y",
        "-f",
        "lavfi",
        "-i",
        "anullsrc=r=8000:cl=mono",
        "-t",
        1200,
        "-frame_size",
        32_768,
        path,
    )
    return path.read_bytes()


def _sparse(bench: Bench) -> None:
    """A WAV file of 3 GB, nearly all of which is a hole in the disk: 2 min at 192 kHz with 32 channels."""
    rate, channels = 192_000, 32
    size = 120 * rate * channels * 4
    head = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, channels, rate, rate * channels * 4 & 0xFFFFFFFF, channels * 4, 32)
    with (bench.folder / "sparse-3-gb.wav").open("wb") as file:
        file.write(b"RIFF" + struct.pack("<I", 36 + size) + b"WAVE" + head + b"data" + struct.pack("<I", size))
        file.truncate(44 + size)


def _gaps(bench: Bench) -> bytes:
    """A packet a minute: an hour of a file, if one believes it."""
    return bench.ffmpeg("mka", "-c:a", "libopus", "-af", "asetpts='PTS+floor(T)*59/TB'")


def _tracks(bench: Bench) -> bytes:
    options: list[object] = []
    for _ in range(40):
        options += ["-map", "0:a"]
    return bench.ffmpeg("mka", *options, "-c:a", "libopus")


def _click(bench: Bench) -> bytes:
    return bench.wav(np.ones(1))


SWELLING = (
    Specimen("cover-400-mb.mp3", "MP3 whose cover is a picture of 12,000 by 12,000 dots", _cover),
    Specimen("silent-20-min.flac", "20 minutes of digital silence in 10 kB of FLAC", _silent_hours),
    Specimen("sparse-3-gb.wav", "3 GB of WAV that take no room on the disk", _sparse),
    Specimen("gaps.mka", "Matroska whose times jump by a minute every second", _gaps),
    Specimen("tracks-40.mka", "Matroska with 40 sound tracks", _tracks),
    Specimen("one-sample.wav", "WAV of one sample", _click),
)
