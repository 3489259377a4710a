"""Do the gates of enhancement hold, and do they let through what helps? Three measurements, no chat service.

    PYTHONPATH=. .venv/bin/python benchmarks/enhancing.py [--speech DIR] [--model tiny.en] [--edits 3000] [--seeds 5]

1. What sounds alike, by the pronouncing dictionary of CMU (in pocketsphinx's wheel): words with the same pronunciation,
   with one sound of difference, and random pairs.
2. Harmful edits over the texts of tests/data/enhance and the references of the speech: what each level refuses.
3. Transcripts of recorded speech, clear and in noise, made now: word error rate before, after an enhancer that knows
   what was said, and after one that guesses words at random. Each of their edits asked for alone, so that only what the
   gates see of one edit counts; and all in one answer, as a batch does it. The speech is that of DIR/english
   (TRAX_RAY_SPEECH_DIR where no DIR is given), each recording with a `.txt` beside it.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from tests.support.harmful_edits import FAMILIES, harmful_edits
from tests.support.oracles import answered, enhanced, guesses, knows
from trax_ray.core.task import ResourceRequest
from trax_ray.enhance.edits import Applied, Edit, apply
from trax_ray.enhance.sounds import sound_alike
from trax_ray.enhance.tokens import tokens
from trax_ray.enhance.windows import Doubt, Window, WindowSegment, plan_windows
from trax_ray.kinds.accuracy import count_errors
from trax_ray.media.decode import read
from trax_ray.media.speech import Segment
from trax_ray.media.vad import speech_spans

ROOT = Path(__file__).resolve().parent.parent
TEXTS = {"en": "english", "de": "german", "fr": "french", "es": "spanish"}
NOISE_DB = (None, 8.0, 3.0, 0.0, -3.0)
"""How far the noise is below the speech; None for no noise."""
PAIRS = 3000


def sounds() -> None:
    """How many pairs of words sound alike."""
    from pocketsphinx import get_model_path

    words: list[tuple[str, tuple[str, ...]]] = []
    spoken: dict[tuple[str, ...], list[str]] = defaultdict(list)
    with Path(get_model_path("en-us/cmudict-en-us.dict")).open(encoding="utf-8") as file:
        for line in file:
            word, *phones = line.split()
            if word.isalpha():
                words.append((word, tuple(phones)))
                spoken[tuple(phones)].append(word)
    rng = random.Random(1)
    same = [pair for group in spoken.values() for pair in itertools.combinations(group, 2)]
    holed: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for word, phones in words:
        for at in range(len(phones) if len(phones) >= 4 else 0):
            holed[(*phones[:at], "?", *phones[at + 1 :])].append(word)
    nearly = [(rng.choice(group), rng.choice(group)) for group in holed.values() if len(set(group)) > 1]
    nearly = [pair for pair in nearly if pair[0] != pair[1]]
    others = [(rng.choice(words)[0], rng.choice(words)[0]) for _ in range(PAIRS)]
    for name, pairs in (("the same pronunciation", same), ("one sound of difference", nearly), ("random", others)):
        taken = rng.sample(pairs, min(PAIRS, len(pairs)))
        alike = sum(sound_alike(*pair, "en") for pair in taken)
        print(f"  {name:26} {alike / len(taken):7.1%} of {len(taken)} pairs sound alike")


def harm(folder: Path, count: int) -> None:
    """How many harmful edits are refused."""
    for level, every in (("format", 0), ("words", 7), ("words", 1)):
        refused: Counter[str] = Counter()
        total: Counter[str] = Counter()
        for language, texts in corpora(folder):
            segments = tuple(
                WindowSegment(number, text, 0.0, 1.0, _some(text, every, number), language)
                for number, text in enumerate(texts, 1)
            )
            window = Window(0, segments)
            for each in harmful_edits(texts, language, 99, count // 6):
                total[each.family] += 1
                applied = apply(window, [Edit(each.index + 1, each.before, each.after)], level=level)
                refused[each.family] += [line.text for line in applied.segments] == texts
        doubted = f"1 of {every} words doubted" if every else "nothing doubted"
        rates = ", ".join(f"{family} {refused[family] / total[family]:.1%}" for family in FAMILIES)
        share = sum(refused.values()) / sum(total.values())
        print(f"  {level}, {doubted}: {share:.2%} of {sum(total.values())} ({rates})")


def corpora(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Texts with their language."""
    for language, name in TEXTS.items():
        yield language, (ROOT / "tests" / "data" / "enhance" / f"{name}.txt").read_text("utf-8").splitlines()
    spoken = [path.read_text("utf-8").strip() for path in sorted(folder.rglob("*.txt")) if "english" in path.parts]
    if any(spoken):
        yield "en", [text for text in spoken if text]


def _some(text: str, every: int, shift: int) -> tuple[Doubt, ...]:
    found = [Doubt(token.start, token.end) for token in tokens(text)]
    return tuple(doubt for at, doubt in enumerate(found) if every and (at + shift) % every == 0)


def oracles(folder: Path, model: str, seeds: int) -> None:
    """Word error rates with enhancers that need no model."""
    from trax_ray.providers import faster_whisper_engine
    from trax_ray.providers.base import EngineOptions

    engine = faster_whisper_engine.load(model, ResourceRequest())
    rows: list[tuple[Window, str]] = []
    for path in sorted((folder / "english").rglob("*")):
        reference = path.with_suffix(".txt")
        if path.suffix == ".txt" or not reference.is_file():
            continue
        audio = read(path)
        speech = speech_spans(audio)
        for noise_db in NOISE_DB:
            options = EngineOptions(language="en", word_timestamps=True)
            segments: list[Segment] = list(engine.transcribe(with_noise(audio, noise_db), speech, options))
            if segments:
                [window] = plan_windows(segments, target_words=1_000_000, language="en")
                rows.append((window, reference.read_text("utf-8")))
    vocabulary = sorted({token.key for _, said in rows for token in tokens(said, "en")})
    words = sum(errors(enhanced(window, []), said)[1] for window, said in rows)
    before = sum(errors(enhanced(window, []), said)[0] for window, said in rows)
    right: Counter[bool] = Counter()
    for window, said in rows:
        doubtful = [edit for edit, doubted in knows(window, said) if doubted]
        right.update(bool(apply(window, [edit], level="words").accepted) for edit in doubtful)
    print(f"  {len(rows)} transcripts, {words} words said, word error rate {before / words:.2%}")
    print(f"  who knows what was said: {right[True]} of {right.total()} edits in doubted spans made")
    ways: tuple[tuple[str, Enhancing], ...] = (("each edit alone", enhanced), ("all in one answer", answered))
    for name, way in ways:
        known = sum(errors(way(window, [edit for edit, _ in knows(window, said)]), said)[0] for window, said in rows)
        asked = made = guessed = 0
        for seed, (window, said) in itertools.product(range(seeds), rows):
            applied = way(window, proposed := list(guesses(window, vocabulary, seed)))
            asked += len(proposed)
            made += len(applied.accepted)
            guessed += errors(applied, said)[0]
        print(
            f"  {name}: who knows {known / words:.2%}; who guesses ({seeds} seeds) {guessed / seeds / words:.3%},"
            f" {made} of {asked} guesses made"
        )


Enhancing = Callable[[Window, Sequence[Edit]], Applied]


def errors(applied: Applied, said: str) -> tuple[int, int]:
    """Word errors of an enhanced transcript, and words that were said."""
    counted = count_errors(said, " ".join(each.text for each in applied.segments))
    assert counted is not None
    return counted.errors, counted.words


def with_noise(audio: np.ndarray, noise_db: float | None) -> np.ndarray:
    """A recording with noise that gets weaker towards high tones, the same one every time."""
    if noise_db is None:
        return audio
    noise = np.cumsum(np.random.default_rng(7).standard_normal(len(audio)))
    noise -= np.convolve(noise, np.ones(400) / 400, "same")
    mixed = audio + noise / noise.std() * audio.std() * 10 ** (-noise_db / 20)
    return (mixed / max(1.0, float(np.abs(mixed).max()))).astype(np.float32)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--speech",
        type=Path,
        default=os.environ.get("TRAX_RAY_SPEECH_DIR"),
        required="TRAX_RAY_SPEECH_DIR" not in os.environ,
    )
    parser.add_argument("--model", default="tiny.en")
    parser.add_argument("--edits", type=int, default=3000)
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args()
    print("What sounds alike:")
    sounds()
    print("Harmful edits that are refused:")
    harm(given.speech, given.edits)
    print(f"Enhancers without a model, over transcripts of {given.model}:")
    oracles(given.speech, given.model, given.seeds)


if __name__ == "__main__":
    main()
