"""Folders of the user's, where programs keep what isn't part of a batch. A user may have none, as in containers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import platformdirs

from trax_ray.errors import SetupError

__all__ = ["cache_folder", "data_folder", "home", "state_folder"]

_NAME = "trax_ray"


def home() -> Path:
    """The user's home folder.

    Raises:
        SetupError: There is none.
    """
    return Path(_found(Path.home))


def state_folder() -> Path:
    """Where trax_ray's notes on this machine are kept; raises as `home`."""
    return Path(_found(platformdirs.user_state_dir, _NAME))


def cache_folder() -> Path:
    """Where trax_ray keeps what can be had again; raises as `home`."""
    return Path(_found(platformdirs.user_cache_dir, _NAME))


def data_folder() -> Path:
    """Where trax_ray keeps what it has learned; raises as `home`."""
    return Path(_found(platformdirs.user_data_dir, _NAME))


def _found(place: Callable[..., Path | str], *arguments: Any) -> Path | str:
    try:
        return place(*arguments)
    except RuntimeError:  # HOME isn't set, and the system doesn't know the user's number
        raise SetupError(
            "this user has no home folder, and Ray's token and notes on what runs here need one: set HOME to a folder "
            "that the user may write to, such as `export HOME=/tmp/me`"
        ) from None
