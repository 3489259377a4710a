"""The guard: what this process may do, seen by Python itself.

An audit hook sees each connection after names are resolved, on every hop: redirects, playlists, segments, feeds,
images. It can't be taken away again, and so the process that has it is one of its own. What Python doesn't see it
refuses to start: other programs (which would connect by themselves), and libraries that bring their own network code.
"""

from __future__ import annotations

import os
import socket
import subprocess  # noqa: F401 - before what it is made of can't be imported any more
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trax_ray.web.addresses import wrong_with

__all__ = ["Guard", "Refused", "close_ways_out"]

_STARTS = frozenset(
    ("subprocess.Popen", "os.exec", "os.posix_spawn", "os.spawn", "os.system", "os.fork", "os.forkpty", "pty.spawn")
)
_SENDS = frozenset(("socket.connect", "socket.sendto", "socket.sendmsg"))
_CHANGES = frozenset(
    (
        "os.remove",
        "os.rename",
        "os.mkdir",
        "os.rmdir",
        "os.link",
        "os.symlink",
        "os.truncate",
        "os.chmod",
        "os.chown",
        "shutil.rmtree",
        "shutil.move",
    )
)
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def close_ways_out() -> None:
    """Let nothing be imported any more by which others could get past the guard.

    What brings network code of its own can't be seen, and `multiprocessing` starts programs by the C code below
    `subprocess`, which tells nobody.
    """
    for name in ("curl_cffi", "pycurl", "_posixsubprocess"):
        sys.modules[name] = None  # type: ignore[assignment] # it says that the module can't be imported


class Refused(OSError):
    """What this process may not do."""


@dataclass
class Guard:
    """What one process may do.

    Args:
        folder: The one folder in which it may write.
        allow_private_network: Whether any address may be reached, and not only public ones.
        programs: Absolute paths of the programs that it may start.
    """

    folder: Path
    allow_private_network: bool = False
    programs: frozenset[str] = frozenset()
    refused: list[str] = field(default_factory=list)
    """The addresses that were refused, with why. Libraries turn the error into one of their own, which looks like any
    lost connection."""

    def install(self) -> None:
        """Watch over this process until it ends."""
        close_ways_out()
        sys.dont_write_bytecode = True
        self.folder = Path(os.path.realpath(self.folder))
        sys.addaudithook(self._audit)

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in _SENDS:
            # Without an address the socket is connected already, and that was looked at.
            if arguments[1] is not None:
                self._reach(arguments[0], arguments[1])
        elif event == "socket.bind":
            raise Refused("nothing may be served here")
        elif event in _STARTS:
            self._start(event, arguments)
        elif event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & _WRITES and path != str(self.folder):  # a file without a name
                self._write(path)
        elif event in _CHANGES:
            for path in arguments[:2]:
                self._write(path)

    def _reach(self, own: Any, address: Any) -> None:
        if own.family not in (socket.AF_INET, socket.AF_INET6):
            raise Refused("only the internet may be reached")
        if self.allow_private_network:
            return
        host = str(address[0])
        wrong = wrong_with(host)
        if wrong:
            self.refused.append(f"{host} ({wrong})")
            raise Refused(f"the address {host} may not be reached: {wrong}")

    def _start(self, event: str, arguments: tuple[Any, ...]) -> None:
        # `subprocess` forks through C code that tells of nothing else.
        program = os.fsdecode(arguments[0]) if event == "subprocess.Popen" and arguments[0] else ""
        if program not in self.programs:
            raise Refused(f"no other program may be started: {program or event}")

    def _write(self, path: Any) -> None:
        if not isinstance(path, str | bytes | os.PathLike):
            return  # a file that is open already, or a number that isn't a path
        given = os.fsdecode(path)
        if given == os.devnull:
            return
        # The folder's own links count: the name itself isn't followed, for that is what is replaced.
        parent = os.path.realpath(os.path.dirname(os.path.abspath(given)))  # noqa: PTH100, PTH120 - the hook runs
        # for each file that is opened, and pathlib opens none
        if parent != str(self.folder) and not parent.startswith(f"{self.folder}{os.sep}"):
            raise Refused(f"nothing may be written outside of {self.folder}: {given}")
