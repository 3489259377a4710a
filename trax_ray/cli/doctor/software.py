"""What runs a batch: Python, packages, yt-dlp."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from importlib import metadata

from trax_ray.cli.doctor.check import Check, Verdict

__all__ = ["check_packages", "check_python", "check_yt_dlp", "requirements", "version_of"]

OLDEST_PYTHON = (3, 10)
OLD_YT_DLP_DAYS = 90


def check_python(version: Sequence[int]) -> Check:
    """Whether this Python is young enough."""
    text = ".".join(map(str, version))
    oldest = ".".join(map(str, OLDEST_PYTHON))
    if tuple(version) < OLDEST_PYTHON:
        return Check(Verdict.MISSING, "Python", text, f"trax_ray needs {oldest} or newer")
    return Check(Verdict.OK, "Python", f"{text} ({oldest} or newer is needed)")


def check_packages(requirements: Sequence[str], installed: Callable[[str], str | None]) -> Iterator[Check]:
    """Whether all that the package depends on is installed, and young enough.

    Args:
        requirements: As in the metadata, such as `ray[default]>=2.59`; empty where trax-ray isn't installed.
        installed: Gives the version of a distribution; None where it isn't installed.
    """
    good = []
    for requirement in requirements:
        name, oldest = _parsed(requirement)
        version = installed(name)
        way_out = f"pip install '{requirement}'"
        if version is None:
            yield Check(Verdict.MISSING, name, "not installed", way_out)
        elif _numbers(version) < _numbers(oldest):
            yield Check(Verdict.MISSING, name, f"{version}, and {oldest} or newer is needed", way_out)
        elif name == "ray":
            yield Check(Verdict.OK, "Ray", f"version {version}")
        else:
            good.append(f"{name} {version}")
    if good:
        yield Check(Verdict.OK, "packages", ", ".join(good))
    if not requirements:
        text = "trax-ray isn't installed, so what it needs is unknown"
        yield Check(Verdict.NOTE, "packages", text, "pip install --editable . in its folder")


def _parsed(requirement: str) -> tuple[str, str]:
    """Name and oldest version of a requirement of ours."""
    found = re.match(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?(?:.*?>=\s*([0-9.]+))?", requirement)
    return (found[1], found[2] or "0") if found else (requirement, "0")


def _numbers(version: str) -> tuple[int, ...]:
    """The release part of a version, for comparing; zeros at its end don't count."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    numbers = [int(part) for part in found[0].split(".")] if found else []
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)


def requirements() -> list[str]:
    try:
        return [line for line in metadata.requires("trax-ray") or () if ";" not in line]
    except metadata.PackageNotFoundError:
        return []


def version_of(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def check_yt_dlp(version: str | None, today: date, runtime: str | None) -> Check:
    """What fetches recordings of the web. Sites change, and it follows them: its version is the day of its release.

    Args:
        version: Its version; None where it isn't installed.
        today: The day.
        runtime: Version of the JavaScript runtime, where that and what it runs are installed.
    """
    if version is None:
        return Check(Verdict.NOTE, "yt-dlp", "not installed; only URLs need it", "pip install --upgrade yt-dlp")
    try:
        released = date(*_numbers(version)[:3])
    except (TypeError, ValueError):
        return Check(Verdict.OK, "yt-dlp", f"version {version}")
    age_days = (today - released).days
    text = f"version {version}, {max(0, age_days)} days old; {_runtime(runtime)}"
    if age_days > OLD_YT_DLP_DAYS:
        return Check(Verdict.NOTE, "yt-dlp", text, "pip install --upgrade yt-dlp, where a site can't be fetched")
    return Check(Verdict.OK, "yt-dlp", text)


def _runtime(version: str | None) -> str:
    if version is None:
        return "without a JavaScript runtime (only YouTube wants one: pip install 'trax-ray[youtube]')"
    return f"JavaScript by deno {version}"
