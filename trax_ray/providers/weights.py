"""Where Whisper's weights are: in a folder, in Hugging Face's cache, or on its hub. Nothing heavy is imported here."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from trax_ray.errors import SetupError

__all__ = [
    "NO_WEIGHTS",
    "PROBE_S",
    "WHISPER_REPOSITORIES",
    "cached_weights",
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
    "set OPENAI_API_KEY and take --model whisper-1, name a folder that holds a model (--model ./folder), "
    "or take --model pocketsphinx (offline, English, rough)"
)
"""The three ways out where there are no weights."""


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


def weights_at_hand(model: str) -> bool:
    """Whether a model, by name or folder, can be loaded without the internet. Takes milliseconds."""
    if model in WHISPER_REPOSITORIES:
        return cached_weights(model) is not None
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
        f"the weights of {model} aren't in Hugging Face's cache and can't be downloaded: {NO_WEIGHTS}",
        code="no_weights",
    )
