"""Which Ray a batch finds, and who else may use it."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from trax_ray.cli.doctor.check import Check, Verdict
from trax_ray.gcs import Found, Peer, ask, problem_of
from trax_ray.heads.machine import DASHBOARD_PORT
from trax_ray.heads.notes import orphans
from trax_ray.heads.standing import answers, live_head, noted_heads
from trax_ray.places import home
from trax_ray.store.explaining import shown

__all__ = [
    "check_address",
    "check_local_head",
    "check_orphans",
    "check_port",
    "check_token",
    "examine_ray",
    "examine_token",
    "join_problem",
]

CONNECT_TIMEOUT_S = 2.0


def examine_ray(address: str | None, environ: Mapping[str, str]) -> Iterator[Check]:
    name = "--address" if address else "RAY_ADDRESS"
    address = address or environ.get("RAY_ADDRESS")
    if address:
        yield check_address(name, address, join_problem(address))
    else:
        noted = live_head() or next(iter(noted_heads()), "")
        yield check_local_head(noted, problem_of(ask(noted)) if noted else "")
        yield check_port(DASHBOARD_PORT, taken=answers(f"127.0.0.1:{DASHBOARD_PORT}", CONNECT_TIMEOUT_S))
    yield examine_token(environ)
    yield check_orphans(len(orphans()))


def check_address(name: str, address: str, problem: str) -> Check:
    """Whether a batch can join the cluster that was named.

    Args:
        name: Where it was named.
        address: The name.
        problem: Why it can't be joined; empty where it can.
    """
    if not problem:
        return Check(Verdict.OK, "Ray cluster", f"{name} is {address}, and it answers")
    text = f"{name} is {address}, and {problem}"
    return Check(Verdict.MISSING, "Ray cluster", text, "start the cluster, correct the address, or leave it out")


def check_local_head(address: str, problem: str) -> Check:
    """What a batch does that names no cluster.

    Args:
        address: Of the head that `trax-ray up` or `ray start` started last on this machine; empty where there is none.
        problem: Why a batch can't join it; empty where it can.
    """
    if address and not problem:
        text = f"a batch joins the head at {address}, which `trax-ray up` or `ray start` started"
        return Check(Verdict.OK, "Ray cluster", text)
    if address:
        text = f"a head was noted at {address}, and {problem}; a batch starts one of its own"
        return Check(Verdict.NOTE, "Ray cluster", text, "`trax-ray down` (or `ray stop`) clears up what is left of it")
    return Check(Verdict.OK, "Ray cluster", "none is named or running; a batch starts one on this machine")


def check_port(port: int, *, taken: bool) -> Check:
    """Whether the dashboard has its usual port."""
    if taken:
        return Check(Verdict.NOTE, "dashboard", f"port {port} is taken; it takes the next free one")
    return Check(Verdict.OK, "dashboard", f"port {port} is free")


def check_token(mode: str, given: bool, path: Path, permissions: int | None) -> Check:
    """Whether Ray's token is on, and nobody else's to read.

    Args:
        mode: RAY_AUTH_MODE, or `token` where it isn't set.
        given: Whether RAY_AUTH_TOKEN is set.
        path: The token's file.
        permissions: The file's mode bits; None where there is no file.
    """
    if mode != "token":
        text = f"RAY_AUTH_MODE is {mode}: whoever reaches Ray's ports can run code here"
        return Check(Verdict.NOTE, "Ray token", text, "leave RAY_AUTH_MODE unset")
    if given:
        return Check(Verdict.OK, "Ray token", "RAY_AUTH_TOKEN is set")
    if permissions is None:
        return Check(Verdict.OK, "Ray token", f"none yet; a batch makes {shown(path)}")
    if permissions & 0o077:
        text = f"others may read {shown(path)} (mode {permissions:04o})"
        return Check(Verdict.NOTE, "Ray token", text, f"chmod 600 {shown(path)}")
    return Check(Verdict.OK, "Ray token", f"{shown(path)} is its owner's alone (mode {permissions:04o})")


def check_orphans(count: int) -> Check:
    """Whether a killed batch left processes of Ray behind."""
    if count:
        text = f"{count} processes of a killed batch"
        return Check(Verdict.NOTE, "left behind", text, "`trax-ray down` ends them, and so does the next batch")
    return Check(Verdict.OK, "left behind", "no processes of a killed batch")


def examine_token(environ: Mapping[str, str]) -> Check:
    path = Path(environ.get("RAY_AUTH_TOKEN_PATH") or home() / ".ray" / "auth_token")
    try:
        permissions = stat.S_IMODE(path.stat().st_mode)
    except OSError:
        permissions = None
    return check_token(environ.get("RAY_AUTH_MODE", "token"), bool(environ.get("RAY_AUTH_TOKEN")), path, permissions)


def join_problem(address: str) -> str:
    """Why a batch can't join what is at `host:port`, `ray://host:port`, `auto` or `local`; empty where it can."""
    scheme, _, place = address.rpartition("://")
    if ":" not in place:
        ours = place == "local" or (place == "auto" and live_head() is not None)
        return "" if ours else problem_of(Found(Peer.NOBODY))
    if scheme:  # Ray's client has a port of its own, and another protocol
        return "" if answers(place, CONNECT_TIMEOUT_S) else problem_of(Found(Peer.NOBODY))
    return problem_of(ask(place, CONNECT_TIMEOUT_S))
