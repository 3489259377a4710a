"""The command itself: facts are gathered here, in one place, and what they come to is printed."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, timezone
from importlib.util import find_spec
from pathlib import Path

from trax_ray.cli.doctor.check import Check, Verdict
from trax_ray.cli.doctor.cluster import examine_ray
from trax_ray.cli.doctor.machine import check_cores, check_memory, examine_folder, examine_store, memory_mb
from trax_ray.cli.doctor.models import (
    check_cache,
    check_default_model,
    check_embedded,
    check_keys,
    check_plugin,
    check_pocketsphinx,
    check_shutdown,
    default_model,
    embedded_model,
    pocketsphinx_files,
)
from trax_ray.cli.doctor.software import check_packages, check_python, check_yt_dlp, requirements, version_of
from trax_ray.cli.exits import EXIT_SETUP
from trax_ray.errors import SetupError
from trax_ray.heads.machine import ray_folder, too_long_for_ray, usable_cores
from trax_ray.places import home
from trax_ray.providers.choice import ENGLISH_DEFAULT
from trax_ray.providers.registry import plugins, provider_of, providers
from trax_ray.providers.weights import (
    WHISPER_REPOSITORIES,
    cached_weights,
)
from trax_ray.store.layout import Layout
from trax_ray.store.uris import Place

__all__ = ["examine", "exit_code", "run"]


def run(output_dir: str, address: str | None) -> int:
    """Print all checks and what they come to.

    Args:
        output_dir: Where a batch would write.
        address: `HOST:PORT` of a Ray cluster; None looks where a batch would look.

    Returns:
        The exit code.
    """
    checks = []
    for check in examine(Layout.of(output_dir).output_dir, address, os.environ, datetime.now(timezone.utc).date()):
        print(check.line, flush=True)
        checks.append(check)
    missing = [check.topic for check in checks if check.verdict is Verdict.MISSING]
    print(f"No batch can run yet; missing: {', '.join(missing)}" if missing else "A batch can run.")
    return exit_code(checks)


def exit_code(checks: Sequence[Check]) -> int:
    """0 where a batch can run, 3 where something necessary is missing."""
    return EXIT_SETUP if any(check.verdict is Verdict.MISSING for check in checks) else 0


def examine(output_dir: Place, address: str | None, environ: Mapping[str, str], today: date) -> Iterator[Check]:
    """Gather the facts and check them, one after another.

    Args:
        output_dir: The folder that a batch would write to.
        address: As it was given; None where it wasn't.
        environ: The environment's variables.
        today: For announced shutdowns.
    """
    yield check_python(sys.version_info[:3])
    yield from check_packages(requirements(), version_of)
    yield from check_keys(environ)
    chosen, problem = default_model()
    embedded, damage = embedded_model()
    weights = [name for name in WHISPER_REPOSITORIES if cached_weights(name) is not None]
    others = bool(weights) or (bool(chosen) and not problem)
    yield check_embedded(embedded, damage, others=others or pocketsphinx_files())
    yield check_pocketsphinx(find_spec("pocketsphinx") is not None, pocketsphinx_files())
    yield check_cache(weights)
    yield check_default_model(chosen, problem)
    yield from (check_shutdown(each, today) for provider in providers() for each in provider.shutdowns)
    yield from map(check_plugin, plugins())
    yield check_yt_dlp(version_of("yt-dlp"), today, version_of("deno") if version_of("yt-dlp-ejs") else None)
    yield check_memory(memory_mb())
    at_hand = [*weights, *([ENGLISH_DEFAULT] if embedded else []), *(["pocketsphinx"] if pocketsphinx_files() else [])]
    requests = {model: provider_of(model).resources(model) for model in at_hand}
    yield check_cores(usable_cores(), os.getloadavg()[0], requests)
    if isinstance(output_dir, Path):
        yield examine_folder("output folder", output_dir)
    else:
        yield examine_store("output folder", output_dir)
    yield examine_folder("Ray's files", ray_folder())
    if problem := too_long_for_ray(ray_folder()):
        yield Check(Verdict.MISSING, "Ray's files", problem)
    try:
        folder = home()
    except SetupError as error:
        yield Check(Verdict.MISSING, "home folder", error.message)
        return
    yield examine_folder("home folder", folder)
    yield from examine_ray(address, environ)
