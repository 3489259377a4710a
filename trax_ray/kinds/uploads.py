"""What is sent to a service: cut in pauses, as Opus, in a private folder, with what is known of it beside it.

What is prepared can be prepared again, and nobody waits until it is on the disk. A power cut may leave anything under
an upload's name, and a request for that would be paid: so it carries a checksum.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Generator, Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from trax_ray.codes import FailureCode
from trax_ray.errors import FileError
from trax_ray.kinds.assignment import Progress
from trax_ray.kinds.codec import from_json, to_json
from trax_ray.kinds.reading import Reading, Stretch
from trax_ray.kinds.recording import Recording, read_all, read_part, result_of
from trax_ray.kinds.transcript import Transcript
from trax_ray.media.speech import SAMPLE_RATE_HZ, Span
from trax_ray.providers.base import Reply, ServiceProvider
from trax_ray.providers.registry import service_of
from trax_ray.store.explaining import explain
from trax_ray.store.files import ensure_folder
from trax_ray.store.writing import write_atomically

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Audio = npt.NDArray[np.float32]

__all__ = ["Prepared", "Uploads"]


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is known of an upload.

    Args:
        duration_s: Length of the part that it is made from, seconds.
        speech_s: Seconds of speech in it.
        sent_from_s: Where in the part it begins.
        sent_s: Its own length.
        warnings: What decoding had to say.
        speech: Where speech is, counted from its beginning, in order.
    """

    duration_s: float
    speech_s: float
    sent_from_s: float
    sent_s: float
    warnings: tuple[str, ...] = ()
    speech: tuple[Span, ...] = ()


@dataclass(frozen=True, slots=True)
class Uploads:
    """The uploads of a recording.

    Args:
        recording: Whose.
    """

    recording: Recording

    @property
    def provider(self) -> ServiceProvider:
        """Who is asked."""
        return service_of(self.recording.model, base_url=self.recording.assignment.spec.base_url)

    @property
    def priced(self) -> bool:
        """Whether what is known of prices holds for the server."""
        spec = self.recording.assignment.spec
        return self.provider.prices_hold(spec.base_url, limited=spec.max_cost_usd is not None)

    def price_usd(self, span: Stretch) -> float | None:
        """What a request will cost at the most, about; None where no price is known."""
        spec = self.recording.assignment.spec
        limited = spec.max_cost_usd is not None
        length_s = span[1] - span[0]
        return self.provider.estimate_usd(self.recording.model, length_s, base_url=spec.base_url, limited=limited)

    # Cutting

    @property
    def limit_s(self) -> float:
        """The longest stretch that one request may hold, seconds."""
        asked_s = float(self.recording.assignment.spec.chunk_size_s)
        return min(asked_s, self.provider.longest_request_s(self.recording.model))

    def cuts(self) -> Generator[Progress, None, tuple[list[Stretch], tuple[str, ...], Reading | None]]:
        """Where the recording is cut into requests, and what the decoder has to say of it. It is read once.

        Where one request holds all of it nothing has to be found out: no speech is looked for, and what was decoded is
        given along.
        """
        recording = self.recording
        key = recording.key("cuts", chunk_size_s=self.limit_s, requests=True)
        known = recording.store.get(key)
        whole = None
        if known is None:
            reading = yield from read_all(recording, self.limit_s)
            whole = reading if reading.audio is not None else None
            cuts = reading.cuts or [(0.0, reading.duration_s)]
            known = recording.store.put(key, {"cuts": cuts, "warnings": reading.warnings})[1]
        return [(start_s, end_s) for start_s, end_s in known["cuts"]], tuple(known["warnings"]), whole

    # Preparing

    def path(self, span: Stretch) -> Path:
        """Where the upload of a part is."""
        name = self.recording.key("upload", start_s=span[0], end_s=span[1])
        return self.recording.layout.work / "uploads" / f"{name}.ogg"

    def size_bytes(self, span: Stretch) -> int:
        """Its size."""
        return self.path(span).stat().st_size

    def prepare(self, span: Stretch, heard: Reading | None) -> Generator[Progress, None, bool]:
        """Leave what one request sends where the process that sends it finds it.

        Args:
            span: Which part of the recording.
            heard: The part as it was decoded; None decodes it.

        Returns:
            False where it holds no speech: then its transcript is there already.
        """
        if self.is_prepared(span):  # by an attempt that came to nothing
            return True
        if heard is None:
            heard = yield from read_part(self.recording, span)
        yield Progress(0.0)
        return self._encode(span, heard) is not None

    def is_prepared(self, span: Stretch) -> bool:
        """Whether it is there."""
        return self.path(span).exists() and self._note(span) is not None

    def prepared(self, span: Stretch) -> Prepared:
        """What is known of it; made again where it is gone.

        Raises:
            FileError: There is no speech any more; permanent.
        """
        note = self._note(span) if self.path(span).exists() else None
        note = note or self.again(span)
        if note is None:
            raise self._changed()
        return note

    def again(self, span: Stretch) -> Prepared | None:
        """Make it anew; None where it holds no speech: then its transcript is there."""
        return self._encode(span, result_of(read_part(self.recording, span)))

    def read(self, span: Stretch) -> bytes:
        """Its bytes; it is made anew where they are gone or damaged.

        Raises:
            FileError: There is no speech any more; permanent.
        """
        data = self._read(span)
        if data is None:
            self.again(span)
            data = self._read(span)
        if data is None:
            raise self._changed()
        return data

    def keep(self, span: Stretch, data: bytes) -> None:
        """Leave what a request sends in the private folder."""
        path = self.path(span)
        ensure_folder(path.parent, lasting=False)
        write_atomically(path, data + _seal(data), lasting=False)

    def forget(self, cuts: Iterable[Stretch]) -> None:
        """Delete what isn't needed any more."""
        for span in cuts:
            with suppress(OSError):
                self.path(span).unlink()

    def is_empty_again(self, span: Stretch) -> bool:
        """A service recognised nothing in it: whether it said so before. From now on it did."""
        key = self.recording.part_key(span)
        noted = self.recording.key("empty", part=key)
        again = self.recording.store.get(noted, relied_on=False) is not None
        self.recording.store.note(noted, {"part": key})
        return again

    def halves(self, span: Stretch, prepared: Prepared) -> list[Stretch]:
        """A request that is too large, cut in the pause that is nearest to its middle."""
        middle_s = prepared.sent_s / 2
        pauses = [(before.end_s + after.start_s) / 2 for before, after in pairwise(prepared.speech)]
        cut_s = min(pauses, key=lambda pause_s: abs(pause_s - middle_s), default=middle_s)
        cut_s = round(span[0] + prepared.sent_from_s + cut_s, 3)
        return [(span[0], cut_s), (cut_s, span[1])]

    def transcript(self, span: Stretch, prepared: Prepared, reply: Reply | None, began: float) -> Transcript:
        """The transcript of a part: what a service answered, or that there is no speech.

        Args:
            span: Which part.
            prepared: What was sent.
            reply: The answer; None where nothing was asked.
            began: When the attempt began, seconds of the monotonic clock.
        """
        told = [*reply.warnings, *(f"made_up_{what}" for what in reply.made_up)] if reply else []
        return Transcript.of(
            reply.segments if reply else (),
            prepared.speech,
            span[0] + prepared.sent_from_s,
            language=(reply.language if reply else None) or self.recording.language,
            model=self.recording.model,
            provider=self.provider.name,
            duration_s=prepared.duration_s,
            speech_s=prepared.speech_s,
            processing_s=round(time.monotonic() - began, 3),
            media_warnings=tuple(sorted({*prepared.warnings, *told})),
            source=self.recording.source,
            cost_usd=reply.signal.cost_usd if reply else None,
        )

    def _encode(self, span: Stretch, heard: Reading) -> Prepared | None:
        from trax_ray.media.encode import opus
        from trax_ray.media.vad import speech_spans, total_s

        recording, audio = self.recording, heard.audio
        assert audio is not None
        speech = speech_spans(audio, sensitivity=recording.assignment.spec.vad)
        duration_s = round(len(audio) / SAMPLE_RATE_HZ, 3)
        if not speech:
            silent = Prepared(duration_s, 0.0, 0.0, 0.0, heard.warnings)
            recording.keep(recording.part_key(span), self.transcript(span, silent, None, time.monotonic()))
            return None
        first_s, last_s = speech[0].start_s, speech[-1].end_s
        sent = audio[int(first_s * SAMPLE_RATE_HZ) : int(last_s * SAMPLE_RATE_HZ)]
        prepared = Prepared(
            duration_s=duration_s,
            speech_s=round(total_s(speech), 3),
            sent_from_s=round(first_s, 3),
            sent_s=round(len(sent) / SAMPLE_RATE_HZ, 3),
            warnings=heard.warnings,
            speech=tuple(Span(round(each.start_s - first_s, 3), round(each.end_s - first_s, 3)) for each in speech),
        )
        self.keep(span, opus(sent))
        return from_json(Prepared, recording.store.note(self._note_key(span), to_json(prepared)))

    def _note_key(self, span: Stretch) -> str:
        return self.recording.key("prepared", start_s=span[0], end_s=span[1])

    def _note(self, span: Stretch) -> Prepared | None:
        note = self.recording.store.get(self._note_key(span), relied_on=False)
        return None if note is None else from_json(Prepared, note)

    def _read(self, span: Stretch) -> bytes | None:
        """Its bytes; None where it isn't there, or damaged."""
        try:
            data = self.path(span).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise explain(error, self.path(span), "read") from error
        sealed = data[:-_SEAL_BYTES]
        return sealed if sealed and data[-_SEAL_BYTES:] == _seal(sealed) else None

    def _changed(self) -> FileError:
        return FileError(f"{self.recording.name} holds no speech any more: was it changed?", code=FailureCode.CHANGED)


def _seal(data: bytes) -> bytes:
    return b"trax%08x" % zlib.crc32(data)


_SEAL_BYTES = len(_seal(b""))
