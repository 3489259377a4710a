"""Options: how transcripts are enhanced."""

from __future__ import annotations

from pathlib import Path

from trax_ray.core.spec import ENHANCE_LEVELS
from trax_ray.enhance.glossary import Glossary
from trax_ray.errors import UsageError
from trax_ray.media.subtitle_reader import decoded
from trax_ray.plan.option import Option, not_empty
from trax_ray.providers.keys import check_base_url
from trax_ray.store.explaining import shown

__all__ = ["ENHANCE"]

GLOSSARY_MOST_BYTES = 256 * 1024
"""The longest glossary: it travels with every batch, and its terms with every request."""


def _base_url(given: str, label: str) -> str:
    try:
        return check_base_url(not_empty(given, label))
    except UsageError as error:
        message = error.message.replace("--base-url", label).replace("OPENAI_API_KEY", "ENHANCE_API_KEY")
        raise UsageError(message) from None


def _glossary(given: str, label: str) -> str:
    """The lines of a glossary: other nodes haven't its file."""
    path = Path(not_empty(given, label))
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{label}: can't read {shown(path)}: {error.strerror}") from None
    if len(data) > GLOSSARY_MOST_BYTES:
        raise UsageError(f"{label}: {shown(path)} is longer than {GLOSSARY_MOST_BYTES // 1024} KB")
    lines = decoded(data)
    Glossary.parse(lines, source=shown(path))  # what is wrong in it is said before any work
    return lines


ENHANCE: tuple[Option, ...] = (
    Option(
        "enhance",
        ("--enhance",),
        str,
        "Enhance transcripts: format (punctuation, casing, sentences; every word stays), which --enhance alone means, "
        "words (doubted words too), or rules (those of the glossary, without a model).",
        "enhance.level",
        value=False,
        read=not_empty,
        metavar="[=LEVEL]",
        bare=ENHANCE_LEVELS[2],
    ),
    Option(
        "enhance_model",
        ("--enhance-model",),
        str,
        "Text model that enhances.  [default: deepseek-flash]",
        "enhance.model",
        optional=True,
        read=not_empty,
    ),
    Option(
        "enhance_base_url",
        ("--enhance-base-url",),
        str,
        "Address of a chat server that speaks OpenAI's protocol; it has any --enhance-model.",
        "enhance.base_url",
        optional=True,
        read=_base_url,
    ),
    Option(
        "glossary",
        ("--glossary",),
        str,
        "File with terms, and rules such as 'kuber netties -> Kubernetes', one a line: terms go to recognisers and to "
        "the text model, rules are applied to transcripts.",
        "enhance.glossary",
        optional=True,
        read=_glossary,
        metavar="FILE",
    ),
    Option(
        "remove_fillers",
        ("--remove-fillers",),
        bool,
        "With --enhance: leave out what says nothing, such as um.",
        "enhance.remove_fillers",
    ),
    Option(
        "off_peak",
        ("--off-peak",),
        bool,
        "With --enhance: ask only at hours at which the provider charges less.",
        "enhance.off_peak",
    ),
    Option(
        "summary",
        ("--summary",),
        bool,
        "With --enhance: write a summary of each recording too, as NAME.summary.md.",
        "enhance.summary",
    ),
)
"""How transcripts are enhanced."""
