"""Open a media file safely, read what its header says, and name what goes wrong.

FFmpeg (through PyAV) opens more than files: playlists, network addresses, lists of other files. Here it gets an
absolute path, a list of real media containers and the protocol `file`, so that an input can't reach past itself.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import struct
from dataclasses import dataclass
from typing import Any

from trax_ray.codes import FailureCode
from trax_ray.errors import FileError, MediaError, ProcessingError, ResourceError, TraxRayError

__all__ = ["FORMATS", "MediaInfo", "open_audio", "probe", "read_info", "translated", "undecodable"]

FORMATS = (
    "aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dsf,dts,dtshd,eac3,flac,flv,gsm,iff,loas,"
    "matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,mp3,mpc,mpc8,mpeg,mpegts,mxf,nut,ogg,oma,opus,qcp,rm,"
    "shn,spx,tak,truehd,tta,voc,w64,wav,wtv,wv,xwma"
)
"""Demuxers that read one media file. No playlists (hls, dash), lists (concat, ffmetadata), image sequences, network
descriptions (sdp, rtsp), generators (lavfi) or text."""

_OPTIONS = {"format_whitelist": FORMATS, "protocol_whitelist": "file"}

_DISCARD_ALL = 48
"""AVDISCARD_ALL of libavcodec/defs.h."""

_WAV_UNKNOWN_BYTES = 0x7FFF_F000
"""Programs that write WAV into a pipe state a size at or above this (sox 0x7FFFF..., ffmpeg 0xFFFFFFFF)."""


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """What a file's header says about its first (or best) audio stream.

    Args:
        container: FFmpeg's short name of the container, such as `wav` or `mp3`.
        codec: FFmpeg's name of the audio codec, such as `pcm_s16le`.
        sample_rate_hz: As stored; decoding converts it. 0 when the header doesn't say.
        channels: As stored; decoding mixes them down. 0 when the header doesn't say.
        duration_s: Seconds, from the header or estimated from the bit rate; None when unknown.
        declared_s: Seconds that the header promises, also when the file ends before; None without a promise.
        bit_rate_bps: Bits per second of the audio stream, else of the file; None when unknown.
        size_bytes: Size of the file.
    """

    container: str
    codec: str
    sample_rate_hz: int
    channels: int
    duration_s: float | None
    declared_s: float | None
    bit_rate_bps: int | None
    size_bytes: int


def probe(path: str | os.PathLike[str]) -> MediaInfo:
    """Read the header of a media file; nothing is decoded beyond what finds out the format.

    Args:
        path: A local file. A name such as `http:x.wav` is a file's name, never an address.

    Returns:
        What the header says.

    Raises:
        FileError: `not_found`, `permission_denied` or `not_a_file` (permanent), `unreadable` (transient).
        MediaError: `not_decodable` or `no_audio_stream` (permanent).
        ProcessingError: `decoder_bug` (transient): the decoder itself failed.
    """
    container, audio, size_bytes = open_audio(path)
    try:
        return read_info(container, audio, path, size_bytes)
    finally:
        container.close()


def open_audio(path: str | os.PathLike[str]) -> tuple[Any, Any, int]:
    """Open a media file and find its audio stream: (container, stream, size in bytes)."""
    import av

    name = os.path.abspath(os.fspath(path))  # noqa: PTH100 - keeps names that Path would change
    try:
        status = os.stat(name)  # noqa: PTH116
        if not stat.S_ISREG(status.st_mode):
            raise FileError(f"{path} is a folder or a device, not a media file", code=FailureCode.NOT_A_FILE)
        with open(name, "rb"):  # noqa: PTH123 - only to learn whether it may be read
            pass
    except OSError as error:
        raise translated(error, path) from error
    try:
        # PyAV below 19 fails on tags that aren't UTF-8 unless it is told not to; from 19 on it can't be told.
        told: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
        container: Any = av.open(name, options=dict(_OPTIONS), **told)
    except Exception as error:
        raise translated(error, path) from error
    audio = container.streams.best("audio")
    if audio is None and container.streams.audio:
        container.close()
        raise undecodable(path, "no decoder accepts its audio stream")
    if audio is None:
        kinds = sorted({str(other.type) for other in container.streams}) or ["nothing"]
        container.close()
        raise MediaError(f"{path} has no audio stream, only {', '.join(kinds)}", code=FailureCode.NO_AUDIO_STREAM)
    if audio.codec_context is None:
        container.close()
        raise undecodable(path, "no decoder for its audio codec")
    for other in container.streams:
        if other is not audio:
            with contextlib.suppress(AttributeError):  # an older PyAV reads their packets and drops them
                other.discard = _DISCARD_ALL
    audio.codec_context.thread_count = 1
    return container, audio, status.st_size


def read_info(container: Any, audio: Any, path: str | os.PathLike[str], size_bytes: int) -> MediaInfo:
    context = audio.codec_context
    duration_s: float | None = None
    if audio.duration:
        duration_s = float(audio.duration * audio.time_base)
    elif container.duration:
        duration_s = container.duration / 1_000_000
    name = container.format.name
    return MediaInfo(
        container=name,
        codec=context.codec.name,
        sample_rate_hz=context.sample_rate or 0,
        channels=context.channels or 0,
        duration_s=duration_s,
        declared_s=_declared_s(name, container, audio, path, duration_s),
        bit_rate_bps=context.bit_rate or container.bit_rate or None,
        size_bytes=size_bytes,
    )


def _declared_s(
    name: str, container: Any, audio: Any, path: str | os.PathLike[str], duration_s: float | None
) -> float | None:
    """The duration that a header promises for the audio stream; None where it is an estimate or unknown."""
    if name == "wav":
        return _wav_declared_s(path)
    if name == "mp3":
        return duration_s if _has_frame_count(path) else None
    if name.startswith("mov") or name in ("flac", "aiff", "caf", "w64"):
        return duration_s
    if name.startswith("matroska"):
        tag = audio.metadata.get("DURATION", "")
        if tag.count(":") == 2:
            hours, minutes, seconds = tag.split(":")
            try:
                return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
            except ValueError:
                return None
        return None if container.streams.video else duration_s
    return None


def _wav_declared_s(path: str | os.PathLike[str]) -> float | None:
    """The duration by the size in a WAV file's header; FFmpeg reports what the file holds instead.

    Source: RIFF/WAVE, Microsoft Multimedia Programming Interface 1.0; RF64, EBU Tech 3306.
    """
    byte_rate = 0
    with open(path, "rb") as file:  # noqa: PTH123
        if file.read(12)[:4] != b"RIFF":
            return None
        for _ in range(64):
            head = file.read(8)
            if len(head) < 8:
                return None
            kind, size = struct.unpack("<4sI", head)
            if kind == b"data":
                known = byte_rate and 0 < size < _WAV_UNKNOWN_BYTES
                return size / byte_rate if known else None
            start = file.tell()
            if kind == b"fmt ":
                byte_rate = struct.unpack("<I", file.read(12).ljust(12, b"\0")[8:12])[0]
            file.seek(start + size + size % 2)
    return None


def _has_frame_count(path: str | os.PathLike[str]) -> bool:
    """Whether an MP3 file's first frame states the number of frames (Xing or Info tag with its first flag set).

    Source: http://gabriel.mp3-tech.org/mp3infotag.html
    """
    with open(path, "rb") as file:  # noqa: PTH123
        head = file.read(10)
        if head[:3] == b"ID3" and len(head) == 10:
            size = 0
            for byte in head[6:]:
                size = size << 7 | byte & 0x7F
            file.seek(10 + size)
        else:
            file.seek(0)
        first = file.read(4096)
    for tag in (b"Xing", b"Info"):
        place = first.find(tag)
        if 0 <= place <= len(first) - 8:
            return bool(first[place + 7] & 1)
    return False


def undecodable(path: str | os.PathLike[str], why: str) -> MediaError:
    return MediaError(
        f"{os.fspath(path)} is no audio that can be decoded ({why}): is it complete and really a media file?",
        code=FailureCode.NOT_DECODABLE,
    )


_TRANSIENT_ERRNOS = frozenset(
    {errno.EAGAIN, errno.EINTR, errno.EBUSY, errno.ETIMEDOUT, errno.ESTALE, errno.EPIPE, errno.ENETUNREACH, errno.EIO}
)


def translated(error: Exception, path: str | os.PathLike[str]) -> TraxRayError:
    """One of our errors for one of the operating system's or FFmpeg's."""
    import av

    name = os.fspath(path)
    if isinstance(error, TraxRayError):
        return error
    if isinstance(error, FileNotFoundError):
        return FileError(f"{name} doesn't exist", code=FailureCode.NOT_FOUND)
    if isinstance(error, PermissionError):
        return FileError(f"{name} can't be read: permission denied", code=FailureCode.PERMISSION_DENIED)
    if isinstance(error, IsADirectoryError):
        return FileError(f"{name} is a folder, not a media file", code=FailureCode.NOT_A_FILE)
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return ResourceError(f"{name} can't be opened: {error.strerror}")
    internal = (MemoryError, av.error.BugError, av.error.UnknownError)
    if isinstance(error, av.error.FFmpegError) and not isinstance(error, (OSError, *internal)):
        return undecodable(path, error.strerror or type(error).__name__)
    if isinstance(error, OSError):
        transient = error.errno in _TRANSIENT_ERRNOS
        return FileError(
            f"{name} can't be read: {error.strerror}",
            failure_class="transient" if transient else "permanent",
            code=FailureCode.UNREADABLE,
        )
    return ProcessingError(
        f"the decoder failed on {name}: {type(error).__name__}: {error}",
        failure_class="transient",
        code=FailureCode.DECODER_BUG,
    )
