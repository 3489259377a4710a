"""pyarrow without pandas."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from types import ModuleType

__all__ = ["spare_pandas"]


class _NoPandas:
    """Finds no pandas for the thread that made it: others, such as one that starts Ray, import what they like."""

    def __init__(self) -> None:
        self._thread = threading.get_ident()

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> None:
        if name == "pandas" and threading.get_ident() == self._thread:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def spare_pandas() -> None:
    """Load pyarrow, and have it take its one look for pandas now, which it doesn't find.

    At the first array that a process makes of Python's objects, pyarrow loads pandas, to know a Series where it sees
    one: a second of a core, and 70 MB. Pandas can be loaded afterwards, and tables become frames; but a Series is taken
    for any sequence. So this is for processes that are ours alone. Nothing happens where pandas is loaded.
    """
    if "pandas" in sys.modules:
        return
    import pyarrow

    finder = _NoPandas()
    sys.meta_path.insert(0, finder)
    try:
        pyarrow.array([0])
    finally:
        sys.meta_path.remove(finder)
