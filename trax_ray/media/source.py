"""Open a media file safely, read what its header says, and name what goes wrong.

FFmpeg (through PyAV) opens more than files: playlists, network addresses, lists of other files. Here it gets an
absolute path or bytes that we read ourselves, a list of real media containers, the decoders of sound and the protocol
`file`, so that an input can't reach past itself.
"""

from __future__ import annotations

import contextlib
import errno
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from trax_ray.codes import FailureCode
from trax_ray.errors import FileError, MediaError, ProcessingError, ResourceError, TraxRayError
from trax_ray.media.medium import LocalFile, Medium, Readable, medium_of, named
from trax_ray.media.pieces import WAV_UNKNOWN_BYTES, Piece, Slice, after_id3, chunks_of_wav, pieces_of

__all__ = [
    "FORMATS",
    "MediaInfo",
    "Source",
    "is_damage",
    "probe",
    "read_info",
    "read_only",
    "translated",
    "undecodable",
]

FORMATS = (
    "aac,ac3,act,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dsf,dss,dts,dtshd,eac3,flac,flv,gsm,iff,ircam,loas,"
    "matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,mp3,mpc,mpc8,mpeg,mpegts,mxf,nistsphere,nut,ogg,oma,opus,qcp,rm,"
    "shn,sox,spx,tak,truehd,tta,voc,w64,wav,wtv,wv,xwma"
)
"""Demuxers that read one media file. No playlists (hls, dash), lists (concat, ffmetadata), image sequences, network
descriptions (sdp, rtsp), generators (lavfi) or text."""


@lru_cache(maxsize=1)
def _options() -> dict[str, str]:
    """What FFmpeg may do. It has no decoder of pictures: to find out what a cover is it would unpack all of it."""
    from av.codec import Codec, codecs_available

    decoders = set()
    for name in codecs_available:
        with contextlib.suppress(ValueError):  # one that only encodes
            codec = Codec(name, "r")
            decoders |= {codec.name} if codec.type == "audio" else set()
    return {
        "format_whitelist": FORMATS,
        "protocol_whitelist": "file",
        "codec_whitelist": ",".join(sorted(decoders)),
    }


_DISCARD_ALL = 48
"""AVDISCARD_ALL of libavcodec/defs.h."""

_COUNTED_FORMATS = frozenset({"flac", "aiff", "au", "nistsphere", "tta", "wv", "ape", "tak"})
"""Their headers say how many samples there are, and FFmpeg believes them."""

_LONG_LOOK = {"analyzeduration": "600000000", "probesize": "100000000"}
"""How far FFmpeg looks for what streams hold: ten minutes or 100 MB in place of five seconds or 5 MB."""


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


def probe(path: Readable) -> MediaInfo:
    """Read the header of a media file; nothing is decoded beyond what finds out the format.

    Args:
        path: A local file, or a `Medium`. A name such as `http:x.wav` is a file's name, never an address.

    Returns:
        What the header says; of the first file where several were joined.

    Raises:
        FileError: `not_found`, `permission_denied` or `not_a_file` (permanent), `unreadable` (transient).
        MediaError: `not_decodable` or `no_audio_stream` (permanent).
        ProcessingError: `decoder_bug` (transient): the decoder itself failed.
    """
    source = Source.of(path)
    with source.opened() as (container, audio):
        return read_info(container, audio, source.medium, source.pieces[0])


@dataclass(frozen=True, slots=True)
class Source:
    """A media file that may be read, and the pieces that FFmpeg reads one by one.

    Args:
        path: As it was given, for messages.
        medium: Where its bytes come from.
        pieces: See `trax_ray.media.pieces`; at least one.
    """

    path: Readable
    medium: Medium
    pieces: tuple[Piece, ...]

    @classmethod
    def of(cls, path: Readable) -> Source:
        """A file that is there and may be read; errors as `probe`."""
        try:
            medium = medium_of(path)
            return cls(path, medium, pieces_of(medium))
        except OSError as error:
            raise translated(error, path) from error

    @contextlib.contextmanager
    def opened(self, number: int = 0, track: int | None = None) -> Iterator[tuple[Any, Any]]:
        """A piece's container and one of its audio streams, which alone is read; closed in the end.

        Args:
            number: Which piece.
            track: The stream's index in the container; None, or one that isn't there, for FFmpeg's best.
        """
        with self.container(number) as container:
            audio = _track(container, track, self.path)
            read_only(container, [audio])
            audio.codec_context.thread_count = 1
            yield container, audio

    @contextlib.contextmanager
    def container(self, number: int = 0) -> Iterator[Any]:
        """A piece as FFmpeg opens it; closed in the end."""
        piece = self.pieces[number]
        with contextlib.ExitStack() as stack:
            container = stack.enter_context(self._open(piece, {}))
            if _is_unclear(container):
                # A track that begins late in a transport stream is announced, and first seen here.
                stack.close()
                container = stack.enter_context(self._open(piece, _LONG_LOOK))
            yield container

    @contextlib.contextmanager
    def _open(self, piece: Piece, options: Mapping[str, str]) -> Iterator[Any]:
        import av

        # PyAV below 19 fails on tags that aren't UTF-8 unless it is told not to; from 19 on it can't be told.
        told: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
        told["options"] = {**_options(), **dict(piece.options), **options}
        with contextlib.ExitStack() as stack:
            try:
                file = self._readable(piece, stack)
                container: Any = stack.enter_context(av.open(file, **told))
            except Exception as error:
                raise translated(error, self.path) from error
            yield container

    def _readable(self, piece: Piece, stack: contextlib.ExitStack) -> Any:
        """What FFmpeg is given: the name of a whole file on a disk; else a file that is open, and closed in the end."""
        if (piece.start, piece.end) != (0, self.medium.size_bytes):
            return stack.enter_context(Slice(self.medium, piece))
        if isinstance(self.medium, LocalFile):
            return self.medium.name
        return stack.enter_context(self.medium.open())


def read_only(container: Any, streams: Sequence[Any]) -> None:
    """Let FFmpeg pass over the packets of all other streams."""
    for other in container.streams:
        if other not in streams:
            with contextlib.suppress(AttributeError):  # an older PyAV reads their packets and drops them
                other.discard = _DISCARD_ALL


def _is_unclear(container: Any) -> bool:
    """Whether FFmpeg gave up on streams that may be audio."""
    if container.format.name not in ("mpegts", "mpeg"):
        return False
    audio = container.streams.best("audio")
    return audio is None or any(
        not each.codec_context or not each.codec_context.sample_rate for each in container.streams.audio
    )


def _track(container: Any, track: int | None, path: Readable) -> Any:
    audio = next((each for each in container.streams.audio if each.index == track), container.streams.best("audio"))
    if audio is None and container.streams.audio:
        raise undecodable(path, "no decoder accepts its audio stream")
    if audio is None:
        kinds = sorted({str(other.type) for other in container.streams}) or ["nothing"]
        raise MediaError(f"{path} has no audio stream, only {', '.join(kinds)}", code=FailureCode.NO_AUDIO_STREAM)
    if audio.codec_context is None:
        raise undecodable(path, "no decoder for its audio codec")
    return audio


def read_info(container: Any, audio: Any, medium: Medium, piece: Piece) -> MediaInfo:
    """What the header of an open file says.

    Args:
        container: The file.
        audio: Its audio stream.
        medium: Where its bytes come from.
        piece: The piece of it that is open.
    """
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
        declared_s=_declared_s(name, container, audio, medium, piece, duration_s),
        bit_rate_bps=context.bit_rate or container.bit_rate or None,
        size_bytes=medium.size_bytes,
    )


def _declared_s(
    name: str, container: Any, audio: Any, medium: Medium, piece: Piece, duration_s: float | None
) -> float | None:
    """The duration that a header promises for the audio stream; None where it is an estimate or unknown."""
    if name == "wav":
        return None if piece.options else _wav_declared_s(medium, piece)
    if name == "mp3":
        return duration_s if _has_frame_count(medium) else None
    if name.startswith("mov") or name in _COUNTED_FORMATS:
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


def _wav_declared_s(medium: Medium, piece: Piece) -> float | None:
    """The duration by the size in a WAV file's header; FFmpeg reports what the file holds instead."""
    byte_rate = 0
    with medium.open() as file:
        file.seek(piece.start)
        if file.read(4) != b"RIFF":  # RF64 keeps the size elsewhere. Source: EBU Tech 3306
            return None
        for kind, first, size in chunks_of_wav(file, piece.start, piece.end):
            if kind == b"data":
                return size / byte_rate if byte_rate and 0 < size < WAV_UNKNOWN_BYTES else None
            if kind == b"fmt ":
                file.seek(first)
                byte_rate = struct.unpack("<I", file.read(12).ljust(12, b"\0")[8:12])[0]
    return None


def _has_frame_count(medium: Medium) -> bool:
    """Whether an MP3 file's first frame states the number of frames (Xing or Info tag with its first flag set).

    Source: http://gabriel.mp3-tech.org/mp3infotag.html
    """
    with medium.open() as file:
        file.seek(after_id3(file.read(10)))
        first = file.read(4096)
    for tag in (b"Xing", b"Info"):
        place = first.find(tag)
        if 0 <= place <= len(first) - 8:
            return bool(first[place + 7] & 1)
    return False


def is_damage(error: Exception, *, reading: bool) -> bool:
    """Whether an error of FFmpeg's is about a file's content, so that one may go on behind it.

    Args:
        error: Any.
        reading: Whether it came from reading packets; else it came from a decoder, which reads no file. Decoders return
            whatever they like for damaged data: AAC's and AC3's -1, which is EPERM, AC3's also numbers of its own.
    """
    import av

    if not isinstance(error, av.error.FFmpegError) or isinstance(error, (MemoryError, av.error.BugError)):
        return False
    return not (reading and isinstance(error, OSError)) or error.errno == errno.EPERM


def undecodable(path: Readable, why: str) -> MediaError:
    return MediaError(
        f"{named(path)} is no audio that can be decoded ({why}): is it complete and really a media file?",
        code=FailureCode.NOT_DECODABLE,
    )


_TRANSIENT_ERRNOS = frozenset(
    {errno.EAGAIN, errno.EINTR, errno.EBUSY, errno.ETIMEDOUT, errno.ESTALE, errno.EPIPE, errno.ENETUNREACH, errno.EIO}
)


def translated(error: Exception, path: Readable) -> TraxRayError:
    """One of our errors for one of the operating system's or FFmpeg's."""
    import av

    name = named(path)
    if isinstance(error, TraxRayError):
        return error
    if isinstance(error, FileNotFoundError):
        return FileError(f"{name} doesn't exist", code=FailureCode.NOT_FOUND)
    if isinstance(error, av.error.FFmpegError) and error.errno == errno.EPERM:
        # Decoders that return -1 for damaged data. What may not be read was found out without FFmpeg.
        return undecodable(path, "damaged data")
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
