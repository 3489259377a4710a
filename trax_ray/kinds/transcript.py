"""A transcript: how it is kept, how several become one, what is said of it, and the files made from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from trax_ray.core.policy.quality import CAPTIONS, assess, uncovered
from trax_ray.core.writing import joined, units
from trax_ray.kinds.codec import from_json, to_json
from trax_ray.media.speech import Segment, Span, Word

__all__ = ["Figures", "Source", "Transcript", "kept"]


@dataclass(frozen=True, slots=True)
class Source:
    """The input that a transcript was made for; copies of its recording are given the same one.

    Args:
        file_id: Its id.
        name: What people see.
    """

    file_id: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was recognised in a recording, or in a part of one; the payload of its artifact.

    Args:
        text: All of it.
        language: ISO 639-1 code, detected or given; None where nobody knows.
        model: What recognised it.
        provider: Whose model.
        duration_s: Length of the audio, seconds.
        speech_s: Seconds of speech that were found in it.
        processing_s: Seconds that it took.
        media_warnings: What decoding had to say, and what a service left out.
        segments: In order of time, counted from the recording's beginning.
        source: The input that it was made for.
        uncovered: Stretches of speech without words; None in transcripts that were made before this was looked for.
        chunks: How many parts it was made from; None for one that was made whole, or is a part.
        cost_usd: What its provider charged; None where nothing is known.
        captions: Whose captions it is, as of `FoundCaptions.origin`; empty where a speech model made it.
    """

    text: str
    language: str | None
    model: str
    provider: str
    duration_s: float
    speech_s: float
    processing_s: float
    media_warnings: tuple[str, ...]
    segments: tuple[Segment, ...]
    source: Source
    uncovered: tuple[Span, ...] | None = None
    chunks: int | None = None
    cost_usd: float | None = None
    captions: str = ""

    @classmethod
    def of(
        cls, segments: Sequence[Segment], speech: Sequence[Span], offset_s: float = 0.0, **fields: Any
    ) -> Transcript:
        """A transcript of segments, as engines and services give them.

        Args:
            segments: In order of time, counted from `offset_s`.
            speech: Where speech was found, counted likewise.
            offset_s: Seconds of the recording before that.
            fields: The fields that don't follow from these.
        """
        segments = tuple(kept(segment, offset_s) for segment in segments)
        spans = [(span.start_s + offset_s, span.end_s + offset_s) for span in speech]
        bare = uncovered(spans, [(each.start_s, each.end_s, each.text) for each in segments])
        return cls(
            text=joined(each.text for each in segments),
            segments=segments,
            uncovered=tuple(Span(round(start, 3), round(end, 3)) for start, end in bare),
            **fields,
        )

    @classmethod
    def join(
        cls,
        parts: Sequence[Transcript],
        *,
        language: str | None,
        duration_s: float,
        warnings: Sequence[str],
        source: Source,
    ) -> Transcript:
        """One transcript from those of a recording's parts.

        Args:
            parts: At least one, in order.
            language: The one that was asked for; counts where no part knows its own.
            duration_s: Of the recording, seconds.
            warnings: Of reading the recording as a whole.
            source: The input that it is made for.
        """
        segments = tuple(segment for part in parts for segment in part.segments)
        languages = [part.language for part in parts if part.language]
        return cls(
            text=joined(segment.text for segment in segments),
            language=max(languages, key=languages.count) if languages else language,
            model=parts[0].model,
            provider=parts[0].provider,
            duration_s=duration_s,
            speech_s=round(sum(part.speech_s for part in parts), 3),
            processing_s=round(sum(part.processing_s for part in parts), 3),
            media_warnings=tuple(sorted({*warnings, *(name for part in parts for name in part.media_warnings)})),
            segments=segments,
            source=source,
            uncovered=tuple(span for part in parts for span in part.uncovered or ()),
            chunks=len(parts),
        )

    @classmethod
    def of_speakers(cls, spoken: Mapping[str, Transcript]) -> Transcript:
        """One transcript from those of a recording's speakers, who have a channel each: merged by time.

        Args:
            spoken: The transcript of each speaker's channel, by what the speaker is called; at least one.
        """
        each = list(spoken.values())
        told = {one.language for one in each}
        segments = [
            replace(segment, speaker=name, language=segment.language or (one.language if len(told) > 1 else None))
            for name, one in spoken.items()
            for segment in one.segments
        ]
        segments.sort(key=lambda segment: segment.start_s)  # speakers who begin together stay in their order
        joint = cls.join(
            each,
            language=each[0].language,
            duration_s=max(one.duration_s for one in each),
            warnings=(),
            source=each[0].source,
        )
        languages = {one.language: 0.0 for one in each if one.language}
        for one in each:
            if one.language:
                languages[one.language] += one.speech_s
        return replace(
            joint,
            text=joined(segment.text for segment in segments),
            language=max(languages, key=lambda name: languages[name]) if languages else None,
            segments=tuple(segments),
            uncovered=tuple(sorted(joint.uncovered or (), key=lambda span: span.start_s)),
            chunks=sum(one.chunks or 1 for one in each),
        )

    @classmethod
    def read(cls, payload: Mapping[str, Any]) -> Transcript:
        """The transcript of an artifact's payload.

        Raises:
            KeyError: It is none.
        """
        return from_json(cls, payload)

    def payload(self) -> dict[str, Any]:
        """What its artifact holds."""
        return to_json(self)

    def figures(self) -> Figures:
        """What is said of it in the outcome of the task that made it; captions aren't judged."""
        if self.captions:
            return Figures(
                duration_s=self.duration_s,
                speech_s=self.speech_s,
                processing_s=self.processing_s,
                language=self.language,
                model=self.model,
                segments=len(self.segments),
                uncovered_s=0.0,
                estimated_accuracy=None,
                low_confidence_segments=0,
                words=len(units(self.text)),
                no_speech=False,
                warnings=self.media_warnings,
                source=CAPTIONS,
            )
        uncovered_s = round(sum(span.end_s - span.start_s for span in self.uncovered or ()), 3)
        confidences = [(each.end_s - each.start_s, each.confidence) for each in self.segments]
        judged = assess(
            self.text,
            confidences,
            speech_s=self.speech_s,
            media_warnings=self.media_warnings,
            uncovered_s=uncovered_s,
        )
        return Figures(
            duration_s=self.duration_s,
            speech_s=self.speech_s,
            processing_s=self.processing_s,
            language=self.language,
            model=self.model,
            segments=len(self.segments),
            uncovered_s=uncovered_s,
            chunks=self.chunks,
            **judged,
        )

    def about(self) -> dict[str, Any]:
        """What its JSON file says besides text and segments."""
        payload = self.payload()
        names = ("language", "model", "provider", "duration_s", "speech_s", "media_warnings", "uncovered")
        about = {name: payload[name] for name in names if name in payload}
        return about | ({"source": CAPTIONS, "captions_from": self.captions} if self.captions else {})


@dataclass(frozen=True, slots=True)
class Figures:
    """What an outcome says of a transcript, and the report shows: one field here, one column there.

    Args:
        duration_s: Length of the audio, seconds.
        speech_s: Seconds of speech in it.
        processing_s: Seconds that it took.
        language: ISO 639-1 code; None where nobody knows.
        model: What recognised it.
        segments: How many there are.
        uncovered_s: Seconds of speech without words.
        estimated_accuracy: Percent, by the model's own confidence; None where it has none.
        low_confidence_segments: Segments that are worth a second look.
        words: How many there are.
        no_speech: Whether there was none.
        warnings: Codes of warnings, sorted.
        chunks: How many parts it was made from; None where it was made whole.
        cached: Whether it was there already; None for parts that were made.
        outputs: Files that were written, paths below the output folder; None for parts, which write none.
        kept_outputs: Files of others that have the names of outputs, and were kept.
        duplicate_of: Name of the input of which this one is a copy; None where it is none.
        wer_errors: Word errors against the reference; None here and below without one.
        wer_words: Words of the reference.
        measured_accuracy: Percent.
        measured_accuracy_normalized: Percent, where what sounds the same counts as the same: `50` and `fifty`.
        accuracy_unit: What the errors are counted in: `words`, or `characters` of a script without spaces.
        cost_usd: What this attempt's requests were charged; None where nothing is known.
        content: SHA-256 of the recording, hexadecimal; empty for parts.
        source: `captions` where it is what a publisher wrote; empty where a speech model made it.
    """

    duration_s: float
    speech_s: float
    processing_s: float
    language: str | None
    model: str
    segments: int
    uncovered_s: float
    estimated_accuracy: float | None
    low_confidence_segments: int
    words: int
    no_speech: bool
    warnings: tuple[str, ...]
    chunks: int | None = None
    cached: bool | None = None
    outputs: tuple[str, ...] | None = None
    kept_outputs: tuple[str, ...] = ()
    duplicate_of: str | None = None
    wer_errors: int | None = None
    wer_words: int | None = None
    measured_accuracy: float | None = None
    measured_accuracy_normalized: float | None = None
    accuracy_unit: str | None = None
    cost_usd: float | None = None
    content: str = ""
    source: str = ""


def kept(segment: Segment, offset_s: float) -> Segment:
    """A segment as it is kept: times counted from `offset_s` earlier, to the millisecond; other figures to 6 digits."""

    def rounded(value: float | None) -> float | None:
        return None if value is None else round(float(value), 6)

    return replace(
        segment,
        start_s=round(segment.start_s + offset_s, 3),
        end_s=round(segment.end_s + offset_s, 3),
        confidence=rounded(segment.confidence),
        avg_logprob=rounded(segment.avg_logprob),
        no_speech_prob=rounded(segment.no_speech_prob),
        compression_ratio=rounded(segment.compression_ratio),
        words=tuple(
            Word(round(word.start_s + offset_s, 3), round(word.end_s + offset_s, 3), word.text, word.probability)
            for word in segment.words
        ),
    )
