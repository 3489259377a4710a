"""The keys that this process was handed, by the name of their environment variable.

They come as arguments of a method call, and stay in this process's memory. The environment isn't used for it: children
inherit it, and Ray's daemons would too.
"""

from __future__ import annotations

from collections.abc import Mapping

from trax_ray.providers.keys import Secret

__all__ = ["hand_over", "key_of"]

_keys: dict[str, Secret] = {}


def hand_over(keys: Mapping[str, str]) -> None:
    """Take the keys that this process may use from now on, in place of those that it had."""
    _keys.clear()
    _keys.update({variable: Secret(value) for variable, value in keys.items()})


def key_of(variable: str | None) -> Secret | None:
    """A key; None where this process was given none."""
    return _keys.get(variable) if variable else None
