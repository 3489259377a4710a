"""Hosts of a test's own on this machine: each has its own network, processes, hostname and temporary files.

They are namespaces of Linux, joined by a bridge, which needs root. What they share is the software and one folder. A
host's cable can be pulled, and a host can be killed with all that runs on it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

__all__ = ["Host", "Hosts", "hosts", "why_not"]

NAMESPACES = ("unshare", "--net", "--mount", "--pid", "--uts", "--fork")

INIT = """
set -e
hostname {name}
mount --make-rprivate /
mount -t tmpfs tmpfs {private}
mount -t tmpfs -o size=256m tmpfs /dev/shm
mkdir {private}/tmp
echo up
set +e
while true; do sleep 3600 & wait; done
"""
"""A host's first process: as a shell it also takes away processes whose parents have ended."""


def why_not() -> str:
    """Why there can be no such hosts here; empty where there can."""
    if os.geteuid() != 0:
        return "needs root, for network namespaces"
    missing = [program for program in ("ip", "unshare", "nsenter") if shutil.which(program) is None]
    if missing:
        return f"needs {' and '.join(missing)} (Debian: iproute2, util-linux)"
    tried = subprocess.run(
        [*NAMESPACES, "ip", "link", "add", "type", "veth"],
        capture_output=True,
        text=True,
        check=False,
    )
    return f"no namespaces here: {tried.stderr.strip()[:200]}" if tried.returncode else ""


@dataclass(frozen=True)
class Host:
    """One of them.

    Args:
        name: Its hostname.
        address: Its IP address.
        cable: Its end of the cable that the bridge holds.
        pid: Its first process, as this machine numbers it.
        process: What started that.
        private: The folder that is its own, at the same path on every host.
    """

    name: str
    address: str
    cable: str
    pid: int
    process: subprocess.Popen[str]
    private: Path

    @property
    def enter(self) -> tuple[str, ...]:
        """What to put before a command for it to run on this host."""
        return "nsenter", "--target", str(self.pid), "--mount", "--net", "--pid", "--uts", "--"

    @property
    def environ(self) -> dict[str, str]:
        """What is different in the environment of its processes."""
        temporary = str(self.private / "tmp")
        return {"HOME": str(self.private), "TMPDIR": temporary, "RAY_TMPDIR": temporary}

    def run(self, command: Sequence[str], environ: Mapping[str, str], seconds: float = 300.0) -> str:
        """Run a command there to its end; what it says.

        Raises:
            RuntimeError: It ended with another exit code than 0; with what it said.
        """
        with tempfile.TemporaryFile("w+") as output:  # daemons that it starts would keep a pipe open
            done = subprocess.run(
                [*self.enter, *command],
                env={**environ, **self.environ},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
                timeout=seconds,
            )
            output.seek(0)
            said = output.read()
        if done.returncode:
            raise RuntimeError(f"{command[0]} on {self.name} ended with {done.returncode}: {said}")
        return said

    def cut(self) -> None:
        """Pull its cable: nothing comes and goes, and nobody is told."""
        _do("ip", "link", "set", self.cable, "down")

    def join(self) -> None:
        """Put it in again."""
        _do("ip", "link", "set", self.cable, "up")

    def kill(self) -> None:
        """End it with all of its processes at once, as where the power goes."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self.process.wait(timeout=30)
        if self.process.stdout is not None:
            self.process.stdout.close()


class Hosts:
    """Hosts on one bridge; made by `hosts`."""

    def __init__(self, private: Path) -> None:
        self.mark = secrets.token_hex(3)
        self._private = private
        self._net = f"10.213.{secrets.randbelow(250) + 1}"
        self._bridge = f"tr{self.mark}"
        self.all: list[Host] = []
        _do("ip", "link", "add", self._bridge, "type", "bridge")
        _do("ip", "address", "add", f"{self._net}.254/24", "dev", self._bridge)
        _do("ip", "link", "set", self._bridge, "up")

    def add(self) -> Host:
        """Another host, whose cable is in."""
        number = len(self.all) + 1
        name, cable, inside = f"host{number}", f"tr{self.mark}h{number}", f"tr{self.mark}i{number}"
        process = subprocess.Popen(
            [*NAMESPACES, "--kill-child", "--mount-proc", "bash", "-c", INIT.format(name=name, private=self._private)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # it warns of a signal that can't be blocked anyway
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n", "a host doesn't start"
        (first,) = psutil.Process(process.pid).children()
        host = Host(name, f"{self._net}.{number}", cable, first.pid, process, self._private)
        self.all.append(host)
        _do("ip", "link", "add", cable, "type", "veth", "peer", "name", inside, "netns", str(first.pid))
        _do("ip", "link", "set", cable, "master", self._bridge, "up")
        within = ("nsenter", "--target", str(first.pid), "--net", "--", "ip")
        _do(*within, "link", "set", "lo", "up")
        _do(*within, "address", "add", f"{host.address}/24", "dev", inside)
        _do(*within, "link", "set", inside, "up")
        # Programs ask the system by which address it would reach the world.
        _do(*within, "route", "add", "default", "via", f"{self._net}.254")
        return host

    def close(self) -> None:
        """End all of them."""
        for host in self.all:
            host.kill()
        subprocess.run(["ip", "link", "delete", self._bridge], check=False, capture_output=True)


@contextlib.contextmanager
def hosts() -> Iterator[Hosts]:
    """Hosts that end with the context. Their private folder has a short name: there are limits to those of sockets."""
    private = Path("/tmp") / f"host-{secrets.token_hex(3)}"
    private.mkdir()
    made = Hosts(private)
    try:
        yield made
    finally:
        made.close()
        private.rmdir()


def _do(*command: str) -> None:
    """Run a command of the system; a cable that was made this moment may need another one to be seen."""
    for _ in range(20):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
        time.sleep(0.05)
    raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
