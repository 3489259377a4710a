"""Groups of tasks that wait for the same: where that lets none of them start, no more of the group is looked at."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Group", "Shut"]


class Group(NamedTuple):
    """What tasks have in common that wait for the same.

    Args:
        provider: Who is asked; empty for nobody.
        prefetch: Media are fetched that go again, as far as the disk allows.
        coreless: No core is needed, and a process of one's own.
    """

    provider: str = ""
    prefetch: bool = False
    coreless: bool = False


class Shut:
    """The groups of which nothing may start for now: whoever finds that out notes it, and the queue passes over them.

    Attributes:
        providers: Those that aren't asked now; the empty one stands for the tasks that ask nobody.
        prefetch: Whether the disk has no room for more media.
        cores: Whether no core is left, and no place in a process that many share.
        starts: Whether as many processes start as may at a time, of those that need no core later.
    """

    def __init__(self) -> None:
        self.providers: set[str] = set()
        self.prefetch = False
        self.cores = False
        self.starts = False

    def __contains__(self, group: Group) -> bool:
        return (
            group.provider in self.providers
            or (self.prefetch and group.prefetch)
            or (self.cores and not group.coreless)
            or (self.starts and group.coreless)
        )
