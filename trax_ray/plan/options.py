"""The options of a batch: one table, from which the command line's flags and the keywords in Python are made.

A row says what an option is called in both, what it means, what it takes and where its value goes in the `BatchSpec`,
whose default is the option's. A new one is a field of the spec, a row in one of the `option_` modules, a keyword of
`create_batch_processor` (a test compares them) and a line of the README.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trax_ray.core.spec import BatchSpec
from trax_ray.errors import UsageError
from trax_ray.plan.option import PARTS, Option
from trax_ray.plan.option_enhance import ENHANCE
from trax_ray.plan.option_inputs import INPUTS
from trax_ray.plan.option_media import MEDIA
from trax_ray.plan.option_run import RUN
from trax_ray.plan.option_speech import DEFAULT_OUTPUT_DIR, SPEECH
from trax_ray.plan.option_web import WEB

__all__ = ["DEFAULT_OUTPUT_DIR", "OPTIONS", "ROOMS", "Option", "make_spec", "option"]

ROOMS: Mapping[str, tuple[Option, ...]] = {
    "What is transcribed": INPUTS,
    "How it becomes a transcript, and where that goes": SPEECH,
    "How a transcript is enhanced": ENHANCE,
    "What is heard of a recording": MEDIA,
    "What is fetched from the web": WEB,
    "How the batch runs": RUN,
}
"""The options in the order of `--help`, by what they are about."""

OPTIONS: tuple[Option, ...] = tuple(each for room in ROOMS.values() for each in room)

_BY_NAME = {each.name: each for each in OPTIONS if each.name}


def option(name: str) -> Option:
    """The option with this keyword.

    Raises:
        KeyError: There is none.
    """
    return _BY_NAME[name]


def make_spec(given: Mapping[str, Any]) -> BatchSpec:
    """The spec of what somebody asks for; its model is empty where none is named.

    Args:
        given: Values by the options' keywords, in the form in which people give them. What isn't there, or is None,
            has its default.

    Raises:
        UsageError: A value makes no sense, or two contradict each other; names the options.
        SetupError: Something is asked for that this version doesn't have.
    """
    values: dict[str, Any] = {}
    parts: dict[str, dict[str, Any]] = {name: {} for name in PARTS}
    for each in _BY_NAME.values():
        value = each.default if given.get(each.name) is None else given[each.name]
        if value is None:
            continue
        value = each.checked(value)
        part, _, name = each.field.rpartition(".")
        if name:
            (parts[part] if part else values)[name] = value
    if values["keep_audio"] and not (values["preprocess"] or values["loudness"] or values["task"] == "preprocess"):
        keeps, converts = option("keep_audio").label, option("preprocess").label
        raise UsageError(f"{keeps} keeps what {converts} converts: give both of them, or neither")
    if not given.get("watch"):
        for name in ("settle", "poll"):
            if given.get(name) is not None:
                raise UsageError(f"{option(name).label} goes with {option('watch').label}: give both, or neither")
    return BatchSpec(**values, **{name: kind(**parts[name]) for name, kind in PARTS.items()})
