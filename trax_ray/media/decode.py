"""Decode any recording to 16 kHz mono, in blocks, however long it is.

Positions are counted in samples at 16,000 Hz from the first decoded sample of the file. Decoding starts late in
one of three ways, so that chunks [0, a) + [a, b) + ... are together exactly as long as the whole decode:

    seek   the container stores exact positions: jump near the start, decode, drop samples by their timestamps
    skip   packets carry exact positions, but jumps land anywhere (MP3, ADTS, Ogg): read on without decoding
    count  neither: decode from the beginning and drop
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Generator, Iterator
from fractions import Fraction
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from trax_ray.codes import FailureCode, WarningCode
from trax_ray.errors import MediaError, TraxRayError
from trax_ray.media.source import MediaInfo, open_audio, probe, read_info, translated, undecodable
from trax_ray.media.speech import SAMPLE_RATE_HZ

__all__ = ["SAMPLE_RATE_HZ", "AudioStream", "MediaInfo", "probe", "read", "stream"]

logger = logging.getLogger(__name__)

Audio = npt.NDArray[np.float32]

BLOCK_S = 10.0
"""Seconds per block: 640 kB of float32."""

_SEEK_FORMATS = frozenset({"wav", "w64", "aiff", "au", "caf", "flac", "mov,mp4,m4a,3gp,3g2,mj2"})
_SEEK_CODECS = ("pcm_", "flac", "alac", "aac")
_SKIP_FORMATS = frozenset({"mp3", "aac", "ogg"})

_GAPLESS_FORMATS = frozenset({"wav", "w64", "aiff", "au", "caf", "flac", "mp3", "aac", "ogg"})
"""A gap in one of these is damage; in others, such as screen recordings, it may be meant."""

_PREROLL_S = 2.0
"""Decoded and dropped before a late start: fills the MP3 bit reservoir, AAC's and Opus's overlap and the resampler."""

_GAP_S = 0.1
"""A jump of the timestamps by more than this is lost audio and becomes silence, so that later times stay right."""

_EXACT_GAP_S = 0.02
"""The same in the formats whose timestamps count samples."""

_LOWEST_RATE_HZ, _HIGHEST_RATE_HZ = 1_000, 768_000

_READ_ERRORS = 10
"""After so many read errors in a row the rest of the file counts as lost."""


def stream(
    path: str | os.PathLike[str], *, start_s: float = 0.0, end_s: float | None = None, block_s: float = BLOCK_S
) -> AudioStream:
    """Decode a file, or a stretch of it, block by block; memory doesn't grow with the file's length.

    Args:
        path: A local file.
        start_s: Where to begin, seconds from the first sample, >= 0; rounded to the nearest sample.
        end_s: Where to stop, likewise; None for the end of the file.
        block_s: Length of a block in seconds, > 0; the last one is shorter.

    Returns:
        An iterator of blocks, each float32, shape (n_samples,), mono, [-1, 1], at 16,000 Hz. The blocks of
        [0, a) and [a, b) are together as long as those of [0, b). Its `warnings` are complete once it is exhausted.

    Raises:
        FileError: `not_found`, `permission_denied` or `not_a_file` (permanent), `unreadable` (transient).
        MediaError: `not_decodable`, `no_audio_stream` or, at the end of a whole file, `no_samples` (permanent).
        ProcessingError: `decoder_bug` (transient): the decoder itself failed.
        ResourceError: No memory or file handles left.
    """
    return AudioStream(path, start_s=start_s, end_s=end_s, block_s=block_s)


def read(path: str | os.PathLike[str], *, start_s: float = 0.0, end_s: float | None = None) -> Audio:
    """All of `stream` in one array; for stretches that fit in memory (10 minutes are 38 MB).

    Returns:
        float32, shape (n_samples,), mono, [-1, 1], at 16,000 Hz.
    """
    with stream(path, start_s=start_s, end_s=end_s) as blocks:
        return blocks.rest()


class AudioStream(Iterator[Audio]):
    """Blocks of decoded audio; see `stream`. Also a context manager that closes the file.

    Attributes:
        info: What the header says.
        duration_s: Seconds delivered so far.
        damaged_frames: Packets that the decoder refused, and gaps where such were lost. Where timestamps show a gap
            over 0.02 to 0.1 s, silence stands in its place; elsewhere (MP3) what follows moves forward.
        missing_s: Seconds that the header promised and the file doesn't hold; 0.0 until the end was reached.
    """

    def __init__(self, path: str | os.PathLike[str], *, start_s: float, end_s: float | None, block_s: float) -> None:
        if start_s < 0 or block_s <= 0 or (end_s is not None and end_s < start_s):
            raise ValueError(f"expected 0 <= start_s <= end_s and block_s > 0, got {start_s}, {end_s}, {block_s}")
        self._path = path
        self._container, self._audio, size_bytes = open_audio(path)
        try:
            self.info = read_info(self._container, self._audio, path, size_bytes)
        except BaseException:
            self._container.close()
            raise
        self.damaged_frames = 0
        self.missing_s = 0.0
        self._start = round(start_s * SAMPLE_RATE_HZ)
        self._end = None if end_s is None else round(end_s * SAMPLE_RATE_HZ)
        self._delivered = 0
        self._blocks = self._run(max(1, round(block_s * SAMPLE_RATE_HZ)))

    @property
    def duration_s(self) -> float:
        """Seconds delivered so far."""
        return self._delivered / SAMPLE_RATE_HZ

    @property
    def warnings(self) -> tuple[WarningCode, ...]:
        """Codes of what was wrong and survived: `damaged_frames`, `truncated`. Complete after the last block."""
        found = [(WarningCode.DAMAGED_FRAMES, self.damaged_frames > 0), (WarningCode.TRUNCATED, self.missing_s > 0)]
        return tuple(code for code, true in found if true)

    def __iter__(self) -> AudioStream:
        return self

    def __next__(self) -> Audio:
        return next(self._blocks)

    def __enter__(self) -> AudioStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def rest(self) -> Audio:
        """All blocks that are still to come in one array; no samples where there are none."""
        parts = list(self)
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.float32)

    def close(self) -> None:
        """Close the file; safe to repeat."""
        self._blocks.close()
        self._container.close()

    def _run(self, block: int) -> Generator[Audio, None, None]:
        """Cut what `_samples` gives to [start, end) and to blocks."""
        parts: list[npt.NDArray[np.int16]] = []
        held = 0
        try:
            for position, samples in self._samples():
                first = max(0, self._start - position)
                last = len(samples) if self._end is None else max(first, self._end - position)
                wanted = samples[first:last]
                while len(wanted):
                    part, wanted = wanted[: block - held], wanted[block - held :]
                    parts.append(part)
                    held += len(part)
                    if held == block:
                        yield self._block(parts)
                        parts, held = [], 0
                if self._end is not None and position + len(samples) >= self._end:
                    break
            if held:
                yield self._block(parts)
        except TraxRayError:
            raise
        except Exception as error:
            raise translated(error, self._path) from error
        finally:
            self._container.close()

    def _block(self, parts: list[npt.NDArray[np.int16]]) -> Audio:
        samples: Audio = np.concatenate(parts).astype(np.float32) / np.float32(32768.0)
        self._delivered += len(samples)
        return samples

    def _samples(self) -> Iterator[tuple[int, npt.NDArray[np.int16]]]:
        """Decoded samples at 16 kHz, each array with the position of its first sample in the file."""
        decoder = _Decoder(self._container, self._audio, self.info)
        frames = decoder.frames(self._start)
        position = first = 0
        resampler: Any = None
        shape: tuple[Any, ...] = ()
        for index, frame in frames:
            if frame.sample_rate < _LOWEST_RATE_HZ or frame.sample_rate > _HIGHEST_RATE_HZ:
                raise undecodable(self._path, f"a sample rate of {frame.sample_rate} Hz")
            frame = _mixable(frame)
            if shape != _shape(frame):
                for samples in _resampled(resampler, None):
                    yield position, samples
                    position += len(samples)
                resampler, shape = _resampler(), _shape(frame)
                if not position:
                    frame, index = _aligned(frame, index)
                    if frame is None:
                        resampler, shape = None, ()
                        continue
                    position = first = index * SAMPLE_RATE_HZ // frame.sample_rate
            frame.pts = None
            for samples in _resampled(resampler, frame):
                yield position, samples
                position += len(samples)
            self.damaged_frames = decoder.damaged
        for samples in _resampled(resampler, None):
            yield position, samples
            position += len(samples)
        self.damaged_frames = decoder.damaged
        self._judge(decoder, position, empty=position == first)

    def _judge(self, decoder: _Decoder, position: int, *, empty: bool) -> None:
        """At the end of the file: was there anything, and was it all?"""
        whole = not self._start
        if whole and decoder.damaged > decoder.whole:
            raise undecodable(self._path, f"{decoder.damaged} of {decoder.damaged + decoder.whole} frames are damaged")
        if whole and empty:
            if self.info.sample_rate_hz == 0:
                raise undecodable(self._path, "no decodable frame")
            raise MediaError(
                f"{os.fspath(self._path)} has an audio stream without a single sample", code=FailureCode.NO_SAMPLES
            )
        declared_s = self.info.declared_s
        if declared_s is not None and (not empty or whole):
            missing_s = declared_s - position / SAMPLE_RATE_HZ
            exact = self.info.codec.startswith("pcm_") or self.info.codec == "flac"
            if missing_s > (0.05 if exact else max(0.5, declared_s / 100)):
                self.missing_s = missing_s


class _Decoder:
    """Frames of one audio stream, each with the index of its first sample at the stream's own rate."""

    def __init__(self, container: Any, audio: Any, info: MediaInfo) -> None:
        self._container = container
        self._audio = audio
        self._info = info
        self.damaged = 0
        self.whole = 0

    def frames(self, start: int) -> Iterator[tuple[int, Any]]:
        """Decode from shortly before a position to the end.

        Args:
            start: The position in samples at 16 kHz.

        Yields:
            (index, frame): the index counts samples of the frame's own rate from the stream's first sample; the
            first frame comes from the beginning or from at least `_PREROLL_S` before `start`, except that a start
            beyond the end of the file yields what is there, or nothing.
        """
        origin: int | None = None
        near_s = start / SAMPLE_RATE_HZ - _PREROLL_S
        mode = self._mode() if near_s > 2 * _PREROLL_S else "count"
        if mode != "count":
            origin = self._origin()
            if origin is None or not self._go_near(mode, origin, near_s):
                self._rewind()
                mode, origin = "count", None
        yield from self._placed(origin, late=mode != "count")

    def _mode(self) -> str:
        name, codec = self._info.container, self._info.codec
        if name in _SEEK_FORMATS and codec.startswith(_SEEK_CODECS):
            return "seek"
        return "skip" if name in _SKIP_FORMATS else "count"

    def _origin(self) -> int | None:
        """The timestamp of the first decoded frame; None when there is none or it isn't exact."""
        for packet in self._packets():
            for frame in self._decoded(packet, count=False):
                exact = frame.pts is not None and (self._audio.time_base * frame.sample_rate).numerator == 1
                return int(frame.pts) if exact else None
        return None

    def _rewind(self) -> None:
        self._container.seek(int(self._audio.start_time or 0), stream=self._audio, backward=True, any_frame=False)
        self._audio.codec_context.flush_buffers()
        self.damaged = self.whole = 0
        self._pending: Any = None

    _pending: Any = None

    def _go_near(self, mode: str, origin: int, near_s: float) -> bool:
        """Stand at a packet that begins before `near_s`; False when positions can't be trusted."""
        target = origin + int(Fraction(near_s) / self._audio.time_base)
        if mode == "seek":
            self._container.seek(target, stream=self._audio, backward=True, any_frame=False)
            self._audio.codec_context.flush_buffers()
            self._pending = next(self._packets(), None)
            pending = self._pending
            return pending is not None and (pending.pts is None or pending.pts <= target)
        self._rewind()
        expected: int | None = None
        slack = int(Fraction(_GAP_S) / self._audio.time_base)
        for packet in self._packets():
            if packet.pts is None or not packet.duration:
                return False
            if expected is not None and abs(packet.pts - expected) > slack:
                return False
            expected = packet.pts + packet.duration
            if expected > target:
                self._pending = packet
                return True
        return False

    def _placed(self, origin: int | None, *, late: bool) -> Iterator[tuple[int, Any]]:
        """Decode on from here; lost stretches become silence."""
        gap_s = _EXACT_GAP_S if self._info.container in _GAPLESS_FORMATS else _GAP_S
        index = 0
        shift = 0  # samples by which timestamps and the count have been seen to differ, and which are ignored
        placed = False
        for packet in self._packets():
            for frame in self._decoded(packet, count=placed or not late):
                rate = frame.sample_rate
                stamp = None
                if frame.pts is not None:
                    if origin is None:
                        origin = frame.pts
                    stamp = (frame.pts - origin) * self._audio.time_base * rate
                if late and not placed:
                    if stamp is None or stamp.denominator != 1 or stamp < 0:
                        continue
                    index = int(stamp)
                elif stamp is not None:
                    lost = int(stamp) - shift - index
                    if lost > gap_s * rate and self._plausible(index + lost, rate):
                        self.damaged += self._info.container in _GAPLESS_FORMATS
                        yield from _silence(frame, index, lost)
                        index += lost
                    elif abs(lost) > gap_s * rate:
                        shift += lost
                placed = True
                yield index, frame
                index += frame.samples

    def _plausible(self, index: int, rate: int) -> bool:
        """Whether a jump of the timestamps stays within the file's duration."""
        duration_s = self._info.duration_s
        return duration_s is not None and index / rate <= duration_s + 1.0

    def _packets(self) -> Iterator[Any]:
        """Packets of the audio stream to the end of the file, over a few read errors."""
        import av

        if self._pending is not None:
            pending, self._pending = self._pending, None
            yield pending
        failed = 0
        while failed < _READ_ERRORS:
            try:
                for packet in self._container.demux(self._audio):
                    failed = 0
                    yield packet
                return
            except (av.error.InvalidDataError, av.error.EOFError) as error:
                logger.debug("read error: %s", error)
                failed += 1
                self.damaged += 1

    def _decoded(self, packet: Any, *, count: bool) -> list[Any]:
        """The frames of one packet; none when it is damaged."""
        import av

        try:
            frames = [frame for frame in self._audio.codec_context.decode(packet) if frame.samples]
        except (av.error.InvalidDataError, av.error.EOFError, av.error.PatchWelcomeError) as error:
            logger.debug("damaged packet: %s", error)
            self.damaged += count and bool(packet.size)
            return []
        self.whole += len(frames)
        return frames


def _shape(frame: Any) -> tuple[Any, ...]:
    return frame.sample_rate, frame.format.name, frame.layout.name, frame.layout.nb_channels


def _resampler() -> Any:
    from av.audio.resampler import AudioResampler

    return AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE_HZ)


def _resampled(resampler: Any, frame: Any) -> Iterator[npt.NDArray[np.int16]]:
    if resampler is None:
        return
    for part in resampler.resample(frame):
        yield part.to_ndarray().reshape(-1)


def _mixable(frame: Any) -> Any:
    """The frame itself, or its mean over channels where FFmpeg knows no layout for their number, such as 9."""
    if not frame.layout.name.endswith(" channels"):
        return frame
    planes = frame.to_ndarray()
    if not frame.format.is_planar:
        planes = planes.reshape(-1, frame.layout.nb_channels).T
    mean = planes.mean(axis=0, dtype=np.float64).astype(planes.dtype)
    return _like(frame, mean[None], layout="mono", format_name=frame.format.packed.name)


def _aligned(frame: Any, index: int) -> tuple[Any, int]:
    """Drop samples at the front until the index falls on a sample of the 16 kHz grid; (None, index) if none is left."""
    step = frame.sample_rate // math.gcd(frame.sample_rate, SAMPLE_RATE_HZ)
    drop = -index % step
    if drop == 0:
        return frame, index
    if drop >= frame.samples:
        return None, index
    planes = frame.to_ndarray()
    channels = 1 if frame.format.is_planar else frame.layout.nb_channels
    return _like(frame, planes[:, drop * channels :]), index + drop


def _like(frame: Any, planes: npt.NDArray[Any], *, layout: str = "", format_name: str = "") -> Any:
    """A frame of these samples with another frame's rate and, unless given, its format and layout."""
    import av

    made = av.AudioFrame.from_ndarray(
        np.ascontiguousarray(planes), format=format_name or frame.format.name, layout=layout or frame.layout.name
    )
    made.sample_rate = frame.sample_rate
    return made


def _silence(frame: Any, index: int, samples: int) -> Iterator[tuple[int, Any]]:
    """Silent frames of at most a second, `samples` long in all, in the format of `frame`."""
    planes = frame.to_ndarray()
    zero = 128 if frame.format.name in ("u8", "u8p") else 0
    width = 1 if frame.format.is_planar else frame.layout.nb_channels
    while samples:
        part = min(samples, frame.sample_rate)
        yield index, _like(frame, np.full((planes.shape[0], part * width), zero, dtype=planes.dtype))
        index += part
        samples -= part
