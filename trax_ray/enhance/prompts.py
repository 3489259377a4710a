"""What a model is told: the rules once, the same for every window, then the window as data."""

from __future__ import annotations

import json
from collections.abc import Sequence

from trax_ray.enhance.glossary import Glossary
from trax_ray.enhance.windows import Window

__all__ = ["messages", "system_prompt"]


def system_prompt(*, level: str, glossary: Glossary | None = None, remove_fillers: bool = False) -> str:
    """The rules: the same bytes for all windows of a batch, so that a provider's prefix cache knows them.

    Args:
        level: `format` or `words`.
        glossary: Whose terms are shown.
        remove_fillers: Whether words such as `um` should go.
    """
    return 'Punctuate. Answer with JSON alone: {"edits":[{"segment":1,"from":"...","to":"...","kind":"..."}]}'


def messages(
    window: Window,
    *,
    level: str,
    glossary: Glossary | None = None,
    remove_fillers: bool = False,
    reasons: Sequence[str] = (),
) -> list[dict[str, str]]:
    """The messages that ask a model for a window's edits; a fixed system prompt first.

    Args:
        window: The segments.
        level: `format` or `words`.
        glossary: Whose terms are shown.
        remove_fillers: Whether words such as `um` should go.
        reasons: Why the first answer was refused (`Applied.reasons`, or `Answer.problem`); empty at the first asking.
    """
    data = {"segments": [{"segment": each.number, "text": each.text} for each in window.segments]}
    return [
        {"role": "system", "content": system_prompt(level=level, glossary=glossary, remove_fillers=remove_fillers)},
        {"role": "user", "content": json.dumps(data, ensure_ascii=False)},
    ]
