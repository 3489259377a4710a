"""Standard streams whose loss ends nothing: what is shown is a courtesy, and the work goes on.

Whoever reads may go away: `| head -1`, a terminal that is closed, a connection that is lost. The loss of standard
output is said once, on standard error; the loss of that can't be said anywhere. Names that the terminal's encoding
doesn't know are written with escapes.
"""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from collections.abc import Callable
from typing import Any, TextIO

__all__ = ["make_courteous"]


class _Courtesy(io.RawIOBase):
    """A descriptor that takes everything, whether somebody reads it or not.

    Args:
        fd: The descriptor; it stays open.
        lost: Called with the error of the first write that fails.
    """

    def __init__(self, fd: int, lost: Callable[[OSError], None]) -> None:
        super().__init__()
        self._fd = fd
        self._lost = lost
        self._gone = False

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def isatty(self) -> bool:
        return not self._gone and os.isatty(self._fd)

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        while not self._gone:
            try:
                return os.write(self._fd, data)
            except OSError as error:
                if error.errno in (errno.EAGAIN, errno.EWOULDBLOCK):  # somebody else made it so
                    select.select([], [self._fd], [])
                    continue
                self._gone = True
                self._lost(error)
        return size


def make_courteous() -> None:
    """Put such streams in the place of this process's."""
    _see_that_they_are_open()
    sys.stderr = _courteous(sys.stderr, 2, lambda error: None)
    sys.stdout = _courteous(sys.stdout, 1, _say_that_output_is_lost)


def _say_that_output_is_lost(error: OSError) -> None:
    print(f"trax-ray: nobody reads standard output any more ({error.strerror})", file=sys.stderr)


def _see_that_they_are_open() -> None:
    """Else the next file that is opened, a journal maybe, would be what somebody prints to."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free


def _courteous(stream: TextIO | None, fd: int, lost: Callable[[OSError], None]) -> TextIO:
    raw = _Courtesy(fd, lost)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=getattr(stream, "encoding", None) or "utf-8",
        errors="backslashreplace",
        line_buffering=fd == 2 or raw.isatty(),
    )
