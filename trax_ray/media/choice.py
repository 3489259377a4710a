"""Which of a file's tracks and channels is listened to.

FFmpeg takes the track that is marked as the default one and mixes its channels. Where the microphone is on the second
track, or one channel is the other one upside down, that is silence. So where there is a choice, parts of the file are
listened to before it is decoded. The answer follows from the file's bytes alone, and from what was asked for: a part of
a recording that is decoded by itself is the same as that part of the whole.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from trax_ray.codes import FailureCode, WarningCode
from trax_ray.errors import MediaError
from trax_ray.media.frames import Pool, listened, planes_of, resampled, resampler, shape_of, zero_of
from trax_ray.media.source import Source, read_only, undecodable
from trax_ray.media.speech import SAMPLE_RATE_HZ
from trax_ray.media.vad import speech_spans, total_s
from trax_ray.media.wanted import ANYTHING, Wanted, number_of_track

__all__ = ["MOST_CHANNELS", "Choice", "are_alike", "best_channel", "best_track", "choice_of", "voices_of"]

logger = logging.getLogger(__name__)

Samples = npt.NDArray[np.int16]
"""Audio as it is kept here: shape (n_samples,), mono, at 16,000 Hz."""

STRETCHES = 24
STRETCH_S = 5.0
"""A long file is listened to in so many places, spread evenly; a file of two minutes whole. Measured: 0.3 s a track."""

GLANCE_S = 1.0
"""How long each of them is glanced at first, where there is one track of two channels: mostly both hold the same."""

_LOUD = 0.01
"""Share of the loudest place's power from which a place says something of the channels; below is noise, or nothing."""

MOST_CHANNELS = 8
"""What has more is a mixing desk's, and mixed."""

MOST_TRACKS = 8
"""More aren't listened to: a second is 32 kB of each, and of each of its channels."""

_PATIENCE = 3.0
"""Tracks that say nothing are waited for while another one passes by so many times the stretch."""

_ALIKE = 0.9
"""Share of two channels' mean power that their mix keeps when they hold the same."""

_CANCELLED = 0.125
"""The same where it is the other way round: a correlation below -0.75. Two voices that have nothing to do with one
another keep a half."""

_CANCELLED_OF_MANY = 0.01
"""The share of the loudest of more than two channels; a mix of six is quieter by itself."""

_RESIDUE = 0.01
"""Share of a channel's power that may be its own where it counts as a copy of another one: what coders leave."""

_CHANNEL_GAIN, _TRACK_GAIN = 1.5, 1.25
"""Another one is taken where it has so many times as much speech, and a second more; or where there is none else."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What is listened to.

    Args:
        track: Index of the stream in its container; None for the one that FFmpeg takes.
        channel: Number of the channel, from 0; None for a mix of all.
        warnings: What to tell.
    """

    track: int | None = None
    channel: int | None = None
    warnings: tuple[WarningCode, ...] = ()


@dataclass(frozen=True, slots=True)
class _Track:
    """What was heard of a track: the mix, and each channel of several."""

    index: int
    mix: Samples
    channels: tuple[Samples, ...]


Ear = Callable[[Samples], float]
"""Seconds of speech in audio."""


@lru_cache(maxsize=64)
def choice_of(source: Source, wanted: Wanted = ANYTHING) -> Choice:
    """The track and channel of a file that hold the speech, or those that were asked for.

    Args:
        source: The file; of several that were joined the first decides.
        wanted: What was asked for.

    Raises:
        MediaError: `no_such_track`: permanent; and as `trax_ray.media.source.probe`.
        FileError, ProcessingError: As `trax_ray.media.source.probe`.
    """
    if wanted.channel is None and (glanced := _glance(source, wanted)) is not None:
        return glanced
    with source.container() as container:
        tracks, warnings = _candidates(container, source, wanted)
        named = int(tracks[0].index) if wanted.track and tracks else None
        if len(tracks) <= 1 and (
            wanted.channel is not None or all(each.codec_context.channels <= 1 for each in tracks)
        ):
            return Choice(named, wanted.channel)
        default = container.streams.best("audio")
        index = named if named is not None else -1 if default is None else int(default.index)
        heard = _listen(container, tracks[:MOST_TRACKS])
    if index < 0 or not heard:
        return Choice(named, wanted.channel, warnings)
    channels = {
        track.index: best_channel(track.mix, track.channels, _speech_s) if wanted.channel is None else wanted.channel
        for track in heard
    }
    if len(heard) > 1:
        speech = {track.index: _speech_s(_chosen(track, channels[track.index])) for track in heard}
        index = best_track(speech, index)
    channel = channels.get(index, wanted.channel)
    one = () if channel is None or wanted.channel is not None else (WarningCode.ONE_CHANNEL,)
    return Choice(index, channel, (*warnings, *one))


@lru_cache(maxsize=64)
def voices_of(source: Source, track: str = "") -> tuple[int, ...]:
    """The channels of a file that are to be listened to apart; none where there is nothing to part.

    Args:
        source: The file; of several that were joined the first decides.
        track: As of `Wanted.track`.

    Returns:
        Their numbers, from 0. None where there is one channel, or more than `MOST_CHANNELS`, or where all hold the
        same.

    Raises:
        As `choice_of`.
    """
    index = choice_of(source, Wanted(track, channel=0)).track
    with source.opened(0, index) as (container, audio):
        count = int(audio.codec_context.channels)
        heard = _listen(container, [audio]) if 1 < count <= MOST_CHANNELS else []
    if not heard or len(heard[0].channels) < 2:
        return ()
    first, *others = heard[0].channels
    return () if all(_same(first, each) for each in others) else tuple(range(count))


def _candidates(container: Any, source: Source, wanted: Wanted) -> tuple[list[Any], tuple[WarningCode, ...]]:
    """The tracks to choose from, and what to tell."""
    every = list(container.streams.audio)
    tracks = [each for each in every if each.codec_context is not None]
    if not wanted.track or not every:  # none is an error of its own, later
        return tracks, (WarningCode.SEVERAL_TRACKS,) if len(tracks) > 1 else ()
    languages = [each.metadata.get("language", "") for each in every]
    number = number_of_track(wanted.track, languages)
    if number is None:
        there = ", ".join(f"{at} {name}".strip() for at, name in enumerate(languages, start=1))
        raise MediaError(
            f"{source.path} has no sound track {wanted.track}: it has {there}", code=FailureCode.NO_SUCH_TRACK
        )
    if every[number].codec_context is None:
        raise undecodable(source.path, f"no decoder for the codec of its sound track {number + 1}")
    return [every[number]], ()


def best_track(speech_s: dict[int, float], default: int) -> int:
    """The track to take: the default one, unless another has clearly more speech. Pure.

    Args:
        speech_s: Seconds of speech in each.
        default: The one that the file or FFmpeg prefers.
    """
    most = max(speech_s, key=lambda index: speech_s[index])
    return most if speech_s[most] > _clearly_more(speech_s.get(default, 0.0), _TRACK_GAIN) else default


def best_channel(mix: Samples, channels: Sequence[Samples], ear: Ear) -> int | None:
    """The channel to take; None for the mix, unless channels cancel each other, or hide speech. Pure.

    Args:
        mix: Of all channels.
        channels: Each of them.
        ear: Tells how much speech there is.
    """
    powers = [_power(each) for each in channels]
    if len(channels) < 2 or len(channels) > MOST_CHANNELS or max(powers) <= 0.0:
        return None
    mean, mixed = sum(powers) / len(powers), _power(mix)
    if len(channels) == 2 and mixed >= _ALIKE * mean:
        return None
    cancelled = mixed < (_CANCELLED * mean if len(channels) == 2 else _CANCELLED_OF_MANY * max(powers))
    least_s = 0.0 if cancelled else _clearly_more(ear(mix), _CHANNEL_GAIN)
    if least_s >= len(mix) / SAMPLE_RATE_HZ:
        return None
    speech = [ear(each) for each in channels]
    most = max(speech)
    return speech.index(most) if most > least_s else None


def _clearly_more(speech_s: float, gain: float) -> float:
    return gain * speech_s + 1.0 if speech_s > 0.0 else 0.0


def _chosen(track: _Track, channel: int | None) -> Samples:
    return track.mix if channel is None or channel >= len(track.channels) else track.channels[channel]


def _power(samples: Samples) -> float:
    return float(np.mean(np.square(samples, dtype=np.float64))) if len(samples) else 0.0


def _same(one: Samples, other: Samples) -> bool:
    """Whether one channel is the other one, louder or softer or upside down."""
    first, second = one.astype(np.float64), other.astype(np.float64)
    power, other_power = first @ first, second @ second
    if not power or not other_power:
        return bool(power == other_power)
    return bool((first @ second) ** 2 >= (1.0 - _RESIDUE) * power * other_power)


def _speech_s(samples: Samples) -> float:
    if not samples.any():
        return 0.0
    return total_s(speech_spans(samples.astype(np.float32) / np.float32(32768.0)))


# Listening


def _glance(source: Source, wanted: Wanted) -> Choice | None:
    """The choice where two channels of the only track hold the same; None where more has to be heard.

    It decodes a fifth of what listening does, and resamples nothing.
    """
    with source.container() as container:
        tracks, warnings = _candidates(container, source, wanted)
        if len(tracks) != 1 or tracks[0].codec_context.channels != 2 or not container.duration:
            return None
        (track,) = tracks
        read_only(container, tracks)
        places = []
        for start_s, length_s in _places(container, GLANCE_S):
            _go(container, tracks, start_s)
            places.append(_powers(container, track, length_s))
    return Choice(int(track.index), None, warnings) if are_alike(places) else None


def are_alike(places: Sequence[tuple[float, float]]) -> bool:
    """Whether two channels hold the same in every place that is loud enough to tell. Pure.

    Args:
        places: Mean power of the two in a place, and that of their mix; zeros where nothing was heard.
    """
    loudest = max((mean for mean, _ in places), default=0.0)
    telling = [(mean, mixed) for mean, mixed in places if mean > _LOUD * loudest]
    return bool(telling) and 2 * len(telling) >= len(places) and all(mixed >= _ALIKE * mean for mean, mixed in telling)


def _powers(container: Any, track: Any, length_s: float) -> tuple[float, float]:
    """Mean power of a track's two channels from here on, and that of their mix."""
    import av

    own = mixed = 0.0
    samples, passed_s = 0, 0.0
    try:
        for packet in container.demux(track):
            for frame in _frames(packet):
                if frame.layout.nb_channels != 2 or frame.format.name in ("s64", "s64p"):
                    return 0.0, 0.0
                left, right = planes_of(frame).astype(np.float64) - zero_of(frame)
                own += (left @ left + right @ right) / 2
                both = left + right
                mixed += both @ both / 4
                samples += frame.samples
                passed_s += frame.samples / frame.sample_rate
            if passed_s >= length_s:
                break
    except (av.error.FFmpegError, IndexError) as error:
        logger.debug("glanced at up to a read error: %s", error)
    return (own / samples, mixed / samples) if samples else (0.0, 0.0)


def _listen(container: Any, tracks: Sequence[Any]) -> list[_Track]:
    """What is heard of each track in the same places; nothing of one that can't be decoded there."""
    read_only(container, tracks)
    gathered: dict[int, list[_Gathered]] = {track.index: [] for track in tracks}
    for start_s, length_s in _places(container):
        _go(container, tracks, start_s)
        for index, heard in _heard(container, tracks, length_s).items():
            gathered[index].append(heard)
    return [
        _joined(index, parts)
        for index, parts in gathered.items()
        if any(part.parts and part.parts[0] for part in parts)
    ]


def _places(container: Any, stretch_s: float = STRETCH_S) -> list[tuple[float, float]]:
    """Where to listen, and how long: seconds from the container's start."""
    whole_s = STRETCHES * stretch_s
    duration_s = (container.duration or 0) / 1_000_000
    if duration_s <= whole_s:
        return [(0.0, STRETCHES * STRETCH_S)]
    step_s = duration_s / STRETCHES
    return [((number + 0.5) * step_s - stretch_s / 2, stretch_s) for number in range(STRETCHES)]


def _go(container: Any, tracks: Sequence[Any], start_s: float) -> None:
    import av

    if start_s > 0:
        try:
            container.seek(int(start_s * 1_000_000) + (container.start_time or 0))
        except av.error.FFmpegError:
            return  # then it is read on from where it is
        for track in tracks:
            track.codec_context.flush_buffers()


class _Gathered:
    """A track's audio in one place: the mix first, then each channel where there are several."""

    def __init__(self) -> None:
        self.parts: list[list[Samples]] = []
        self.passed_s = 0.0
        self._shape: tuple[Any, ...] = ()
        self._pool = Pool()
        self._resamplers: list[Any] = []

    def take(self, frame: Any) -> None:
        """The next frame; what differs from the first one in kind is left out."""
        frame.pts = None
        count = frame.layout.nb_channels
        if not self._shape:
            self._shape = shape_of(frame)
            many = count if 1 < count <= MOST_CHANNELS else 0
            self._resamplers = [resampler() for _ in range(1 + many)]
            self.parts = [[] for _ in self._resamplers]
        if shape_of(frame) != self._shape:
            return
        self._hear(self._pool.add(frame))

    def end(self) -> None:
        """No frame comes any more."""
        self._hear(self._pool.rest())

    def _hear(self, frames: Iterable[Any]) -> None:
        for frame in frames:
            for number, parts in enumerate(self.parts):
                heard = listened(frame, number - 1 if number else None)
                parts += resampled(self._resamplers[number], heard)


def _heard(container: Any, tracks: Sequence[Any], length_s: float) -> dict[int, _Gathered]:
    import av

    heard = {track.index: _Gathered() for track in tracks}
    try:
        for packet in container.demux(*tracks):
            one = heard[packet.stream.index]
            for frame in _frames(packet):
                if one.passed_s < length_s:
                    one.take(frame)
                one.passed_s += frame.samples / frame.sample_rate
            passed = [each.passed_s for each in heard.values()]
            if min(passed) >= length_s or max(passed) >= _PATIENCE * length_s:
                break
    except (av.error.FFmpegError, IndexError) as error:
        logger.debug("listened up to a read error: %s", error)
    for each in heard.values():
        each.end()
    return heard


def _frames(packet: Any) -> list[Any]:
    import av

    try:
        return [frame for frame in packet.decode() if frame.samples and frame.sample_rate]
    except av.error.FFmpegError as error:
        logger.debug("damaged packet: %s", error)
        return []


def _joined(index: int, places: Sequence[_Gathered]) -> _Track:
    count = min(len(place.parts) for place in places)
    mix, *channels = (
        np.concatenate([part for place in places for part in place.parts[number]]) for number in range(count)
    )
    return _Track(index, mix, tuple(channels))
