"""Decode any recording to 16 kHz mono, in blocks, however long it is.

Positions are counted in samples at 16,000 Hz from the zero of the container's times: audio that begins late begins with
silence. Decoding starts late in one of three ways, so that chunks [0, a) + [a, b) + ... are together exactly as long as
the whole decode:

    seek   the container stores exact positions: jump near the start, decode, drop samples by their timestamps
    skip   packets carry exact positions, but jumps land anywhere (MP3, ADTS, Ogg): read on without decoding
    count  neither: decode from the beginning and drop
"""

from __future__ import annotations

import logging
import os
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from fractions import Fraction
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from trax_ray.codes import FailureCode, WarningCode
from trax_ray.errors import MediaError, TraxRayError
from trax_ray.media.choice import choice_of
from trax_ray.media.frames import aligned, listened, resampled, resampler, shape_of, silence
from trax_ray.media.pieces import ends_early
from trax_ray.media.source import MediaInfo, Source, is_damage, probe, read_info, translated, undecodable
from trax_ray.media.speech import SAMPLE_RATE_HZ
from trax_ray.media.timeline import MAX_GAP_S, Timeline, lead_s

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

_FROM_ZERO = ("mov,", "matroska,")
"""Containers whose times begin at 0; in others they begin with the first stream."""

_UNMARKED_FORMATS = frozenset(
    {"ogg", "mp3", "aac", "ac3", "eac3", "dts", "amr", "mpegts", "matroska,webm", "w64", "caf"}
)
"""No header, or not always one, says how long these are, or FFmpeg doesn't tell."""

_PREROLL_S = 2.0
"""Decoded and dropped before a late start: fills the MP3 bit reservoir, AAC's and Opus's overlap and the resampler."""

_GAP_S = 0.1
"""A jump of the timestamps by more than this is lost audio, so that later times stay right."""

_EXACT_GAP_S = 0.02
"""The same in the formats whose timestamps count samples."""

_LOWEST_RATE_HZ, _HIGHEST_RATE_HZ = 1_000, 768_000

_LONGEST_PACKET_S = 10.0
"""A damaged packet is believed to hold no more."""

_READ_ERRORS = 10
"""After so many read errors in a row the rest of the file counts as lost."""


def stream(
    path: str | os.PathLike[str], *, start_s: float = 0.0, end_s: float | None = None, block_s: float = BLOCK_S
) -> AudioStream:
    """Decode a file, or a stretch of it, block by block; memory doesn't grow with the file's length.

    Args:
        path: A local file.
        start_s: Where to begin, seconds from the container's zero, >= 0; rounded to the nearest sample.
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
        info: What the header says; of the first file where several were joined.
        choice: Which track and channel is decoded.
        duration_s: Seconds delivered so far.
        damaged_frames: Packets that the decoder refused, and gaps where such were lost. Where timestamps show a gap
            over 0.02 to 0.1 s, silence stands in its place; elsewhere (MP3) what follows moves forward.
        missing_s: Seconds that the header promised and the file doesn't hold; 0.0 until the end was reached.
        cut_off: Whether the file ends in the middle; False until the end was reached.
        jumped: Whether timestamps jump so far that no silence was put there.
    """

    def __init__(self, path: str | os.PathLike[str], *, start_s: float, end_s: float | None, block_s: float) -> None:
        if start_s < 0 or block_s <= 0 or (end_s is not None and end_s < start_s):
            raise ValueError(f"expected 0 <= start_s <= end_s and block_s > 0, got {start_s}, {end_s}, {block_s}")
        self._path = path
        self._source = Source.of(path)
        try:
            self.choice = choice_of(self._source)
            with ExitStack() as stack:
                self._first = stack.enter_context(self._source.opened(0, self.choice.track))
                self.info = read_info(*self._first, path, self._source.pieces[0])
                self._opened = stack.pop_all()
        except Exception as error:
            raise translated(error, path) from error
        self.damaged_frames = 0
        self.missing_s = 0.0
        self.cut_off = False
        self.jumped = False
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
        """Codes of what was wrong and survived, and of what was chosen. Complete after the last block."""
        found = [
            (WarningCode.DAMAGED_FRAMES, self.damaged_frames > 0),
            (WarningCode.TRUNCATED, self.missing_s > 0 or self.cut_off),
            (WarningCode.TIMESTAMPS_JUMP, self.jumped),
        ]
        return (*self.choice.warnings, *(code for code, true in found if true))

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
        self._opened.close()

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
            self._opened.close()

    def _block(self, parts: list[npt.NDArray[np.int16]]) -> Audio:
        samples: Audio = np.concatenate(parts).astype(np.float32) / np.float32(32768.0)
        self._delivered += len(samples)
        return samples

    def _samples(self) -> Iterator[tuple[int, npt.NDArray[np.int16]]]:
        """Decoded samples at 16 kHz of all pieces, each array with the position of its first sample in the file."""
        pieces = self._source.pieces
        start = self._start if len(pieces) == 1 else 0
        end = damaged = whole = 0
        empty = True
        for number in range(len(pieces)):
            base = end
            with ExitStack() as stack:
                try:
                    container, audio = stack.enter_context(self._source.opened(number)) if number else self._first
                except MediaError:
                    damaged += 1
                    self.damaged_frames = damaged
                    continue
                info = read_info(container, audio, self._path, pieces[number]) if number else self.info
                decoder = _Decoder(container, audio, info, self.choice.channel, follows=number > 0)
                for position, samples in self._resampled(decoder, start):
                    empty = False
                    yield base + position, samples
                    end = base + position + len(samples)
                    self.damaged_frames = damaged + decoder.damaged
                    self.jumped |= decoder.jumped
            damaged, whole = damaged + decoder.damaged, whole + decoder.whole
            self.damaged_frames = damaged
            self.jumped |= decoder.jumped
            if end > base or not start:
                self.missing_s += _missing_s(info, decoder, (end - base) / SAMPLE_RATE_HZ)
        self._judge(damaged, whole, empty=empty)

    def _resampled(self, decoder: _Decoder, start: int) -> Iterator[tuple[int, npt.NDArray[np.int16]]]:
        """Decoded samples at 16 kHz of one piece, each array with the position of its first sample in it."""
        position = 0
        to_mono: Any = None
        shape: tuple[Any, ...] = ()
        for index, frame in decoder.frames(start):
            if frame.sample_rate < _LOWEST_RATE_HZ or frame.sample_rate > _HIGHEST_RATE_HZ:
                raise undecodable(self._path, f"a sample rate of {frame.sample_rate} Hz")
            if shape != shape_of(frame):
                for samples in resampled(to_mono, None):
                    yield position, samples
                    position += len(samples)
                to_mono, shape = resampler(), shape_of(frame)
                if not position:
                    frame, index = aligned(frame, index)
                    if frame is None:
                        to_mono, shape = None, ()
                        continue
                    position = index * SAMPLE_RATE_HZ // frame.sample_rate
            frame.pts = None
            for samples in resampled(to_mono, frame):
                yield position, samples
                position += len(samples)
        for samples in resampled(to_mono, None):
            yield position, samples
            position += len(samples)

    def _judge(self, damaged: int, whole: int, *, empty: bool) -> None:
        """At the end of the file: was there anything, and was it all?"""
        if not self._start and damaged > whole:
            raise undecodable(self._path, f"{damaged} of {damaged + whole} frames are damaged")
        if not self._start and empty:
            if self.info.sample_rate_hz == 0:
                raise undecodable(self._path, "no decodable frame")
            raise MediaError(
                f"{os.fspath(self._path)} has an audio stream without a single sample", code=FailureCode.NO_SAMPLES
            )
        if self.info.declared_s is None and self.info.container in _UNMARKED_FORMATS:
            self.cut_off = ends_early(self._source.name, self.info.container)


def _missing_s(info: MediaInfo, decoder: _Decoder, length_s: float) -> float:
    """Seconds that a header promises and that aren't there; 0.0 where it promises none."""
    if info.declared_s is None:
        return 0.0
    # In Matroska a length is counted from the container's zero, elsewhere from the first sample.
    before_s = decoder.zero_s if info.container.startswith("matroska") else -decoder.lead_s
    missing_s = info.declared_s - before_s - decoder.left_out_s - length_s
    exact = info.codec.startswith("pcm_") or info.codec == "flac"
    return missing_s if missing_s > (0.05 if exact else max(0.5, info.declared_s / 100)) else 0.0


class _Decoder:
    """Frames of one audio stream, each with the index of its first sample at its own rate.

    Args:
        container: An open file.
        audio: Its audio stream.
        info: What its header says.
        channel: The channel to listen to; None for all.
        follows: Whether it is joined to another file: then it begins where that one ends.

    Attributes:
        damaged: Packets that the decoder refused, and gaps where such were lost.
        whole: Frames that were decoded.
        lead_s: Seconds by which the audio begins late.
        zero_s: What the container's times count from, where that isn't 0, seconds.
        jumped: Whether timestamps jump so far that no silence was put there.
        left_out_s: Sum of such jumps forward, seconds.
    """

    def __init__(self, container: Any, audio: Any, info: MediaInfo, channel: int | None, *, follows: bool) -> None:
        self._container = container
        self._audio = audio
        self._info = info
        self._channel = channel
        self._follows = follows
        self._pending: Any = None
        self.damaged = 0
        self.whole = 0
        self.lead_s = 0.0
        self.zero_s = 0.0
        self.jumped = False
        self.left_out_s = 0.0
        self._refused_s = 0.0

    def frames(self, start: int) -> Iterator[tuple[int, Any]]:
        """Decode from shortly before a position to the end.

        Args:
            start: The position in samples at 16 kHz.

        Yields:
            (index, frame): the index counts samples of the frame's own rate from the container's zero; the first frame
            comes from there or from at least `_PREROLL_S` before `start`, except that a start beyond the end of the
            file yields what is there, or nothing.
        """
        origin: int | None = None
        near_s = start / SAMPLE_RATE_HZ - _PREROLL_S
        mode = self._mode() if near_s > 2 * _PREROLL_S else "count"
        if mode != "count":
            origin = self._origin()
            if origin is None or not self._go_near(mode, origin, near_s - self.lead_s):
                self._rewind()
                mode, origin = "count", None
        yield from self._placed(origin)

    def _mode(self) -> str:
        name, codec = self._info.container, self._info.codec
        if name in _SEEK_FORMATS and codec.startswith(_SEEK_CODECS):
            return "seek" if not name.startswith("mov") or self._is_gapless() else "count"
        return "skip" if name in _SKIP_FORMATS else "count"

    def _is_gapless(self) -> bool:
        """Whether as many samples as the index of an MP4 file lists are as long as it says."""
        audio, context = self._audio, self._audio.codec_context
        if not audio.duration or not context.sample_rate:
            return False
        listed_s = audio.frames * max(1, context.frame_size) / context.sample_rate
        return bool(abs(listed_s - float(audio.duration * audio.time_base)) < _GAP_S)

    def _origin(self) -> int | None:
        """The timestamp of the first decoded frame; None when there is none or it isn't exact."""
        for packet in self._packets():
            for frame in self._decoded(packet, count=False):
                exact = frame.pts is not None and (self._audio.time_base * frame.sample_rate).numerator == 1
                if not exact:
                    return None
                self._find_zero(float(frame.pts * self._audio.time_base))
                return int(frame.pts)
        return None

    def _find_zero(self, first_s: float) -> None:
        """Take up what the first frame's time says of the container's zero."""
        if self._follows:
            self.zero_s = first_s
            return
        start_us = self._container.start_time
        name = self._info.container
        late_s = lead_s(
            first_s, None if start_us is None else start_us / 1_000_000, from_zero=name.startswith(_FROM_ZERO)
        )
        self.jumped |= late_s > MAX_GAP_S
        self.lead_s = late_s if _GAP_S < late_s <= MAX_GAP_S else 0.0
        self.zero_s = first_s - self.lead_s

    def _rewind(self) -> None:
        self._container.seek(int(self._audio.start_time or 0), stream=self._audio, backward=True, any_frame=False)
        self._audio.codec_context.flush_buffers()
        self.damaged = self.whole = 0
        self._pending = None

    def _go_near(self, mode: str, origin: int, near_s: float) -> bool:
        """Stand at a packet that begins before `near_s` after `origin`; False when positions can't be trusted."""
        if near_s <= 2 * _PREROLL_S:
            return False
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

    def _placed(self, origin: int | None) -> Iterator[tuple[int, Any]]:
        """Decode on from here; lost stretches become silence.

        Args:
            origin: The first frame's timestamp where decoding starts late; None where it starts with that frame.
        """
        timeline: Timeline | None = None
        stamped = origin is not None
        index = 0
        for packet in self._packets():
            for frame in self._decoded(packet, count=timeline is not None or origin is None):
                rate = frame.sample_rate
                stamp_s = None if frame.pts is None else float(frame.pts * self._audio.time_base)
                if timeline is None and origin is not None:
                    stamp = None if frame.pts is None else (frame.pts - origin) * self._audio.time_base * rate
                    if stamp is None or stamp.denominator != 1 or stamp < 0:
                        continue
                    index = int(stamp) + round(self.lead_s * rate)
                    timeline = self._timeline(index / rate)
                if stamp_s is not None and not stamped:
                    stamped = True
                    if timeline is None:
                        self._find_zero(stamp_s)
                    else:
                        self.zero_s = stamp_s - timeline.at_s
                frame = listened(frame, self._channel)
                if timeline is None:
                    timeline = self._timeline(round(self.lead_s * rate) / rate)
                    gap = round(self.lead_s * rate)
                else:
                    gap = round(self._gap_s(timeline, stamp_s) * rate)
                yield from silence(frame, index, gap)
                yield index + gap, frame
                index += gap + frame.samples
                timeline.heard(frame.samples / rate)

    def _timeline(self, at_s: float) -> Timeline:
        gap_s = _EXACT_GAP_S if self._info.container in _GAPLESS_FORMATS else _GAP_S
        duration_s = self._info.duration_s
        last_s = None if duration_s is None else self.lead_s + duration_s + 1.0
        self._refused_s = 0.0
        return Timeline(gap_s, at_s=at_s, last_s=last_s)

    def _gap_s(self, timeline: Timeline, stamp_s: float | None) -> float:
        """The silence before a frame with this timestamp, seconds; what was found is taken up."""
        refused_s, self._refused_s = self._refused_s, 0.0
        if stamp_s is None:
            return 0.0
        gap_s = timeline.gap_s(stamp_s - self.zero_s, refused_s)
        self.damaged += gap_s > 0 and self._info.container in _GAPLESS_FORMATS
        self.jumped |= timeline.jumped
        self.left_out_s = timeline.left_out_s
        return gap_s

    def _packets(self) -> Iterator[Any]:
        """Packets of the audio stream to the end of the file, over a few read errors."""
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
            except Exception as error:
                if not is_damage(error, reading=True):
                    raise
                logger.debug("read error: %s", error)
                self.damaged += not failed
                failed += 1

    def _decoded(self, packet: Any, *, count: bool) -> list[Any]:
        """The frames of one packet; none when it is damaged."""
        try:
            frames = [frame for frame in self._audio.codec_context.decode(packet) if frame.samples]
        except Exception as error:
            if not is_damage(error, reading=False):
                raise
            logger.debug("damaged packet: %s", error)
            self.damaged += count and bool(packet.size)
            self._refused_s += min(_LONGEST_PACKET_S, float((packet.duration or 0) * self._audio.time_base))
            return []
        self.whole += len(frames)
        return frames
