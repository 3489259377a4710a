"""The speakers of a recording that has a channel for each of them."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace

from trax_ray.kinds.assignment import Progress
from trax_ray.kinds.conversion import known_conversion
from trax_ray.kinds.recording import Recording, audio_of

__all__ = ["voices"]


def voices(recording: Recording) -> Generator[Progress, None, tuple[Recording, ...]]:
    """The recording as often as it has channels that are heard by themselves, each of one; or as it is."""
    if not recording.form.split:
        return (recording,)
    key = recording.key("voices")
    known = recording.store.get(key)
    if known is None:
        known = recording.store.put(key, {"channels": (yield from _channels(recording))})[1]
    return tuple(replace(recording, channel=number) for number in known["channels"]) or (recording,)


def _channels(recording: Recording) -> Generator[Progress, None, list[int]]:
    from trax_ray.media.choice import voices_of
    from trax_ray.media.source import Source as MediaFile

    path, _ = yield from audio_of(recording)
    if recording.audio is None:
        with recording.unchanged():
            return list(voices_of(MediaFile.of(path), recording.form.track))
    made = known_conversion(recording.store, recording.content, recording.form)
    assert made is not None
    return list(range(made.channels)) if made.channels > 1 else []
