"""`trax-ray submit`: a `trax-ray batch` command as a job of a Ray cluster.

The command line of a job stands in the dashboard and in the jobs API, and its working folder is a throw-away copy on
one of the nodes. So what it names has to mean the same on every node, and keys never travel with it.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from trax_ray.cli.exits import EXIT_SETUP, EXIT_STOPPED
from trax_ray.errors import UsageError
from trax_ray.plan.inputs import STDIN
from trax_ray.plan.options import OPTIONS, Option, option
from trax_ray.store.uris import ObjectPath, is_object_uri

__all__ = ["Submission", "compose", "run"]

_PATHS = ("", "output_dir", "reference", "cookies", "glossary", "download_archive")
"""Options that name files; the one without a name is INPUT and `--input-list`."""


@dataclass(frozen=True, slots=True)
class Submission:
    """What becomes a job.

    Args:
        arguments: Of the job, `trax-ray batch` first.
        output_dir: Where the batch's transcripts go; a job that works there already is the same one.
        name: Of the batch.
    """

    arguments: tuple[str, ...]
    output_dir: str
    name: str

    @property
    def entrypoint(self) -> str:
        """The shell command that the cluster runs."""
        return shlex.join(self.arguments)

    @property
    def metadata(self) -> dict[str, str]:
        """What the dashboard shows of the job."""
        return {"job_name": f"trax-ray {self.name}", "batch": self.name, "output_dir": self.output_dir}


def compose(given: Mapping[str, Any]) -> Submission:
    """The job of a batch's options.

    Args:
        given: Values by the options' keys, as the command line has them.

    Raises:
        UsageError: Something in it would mean another thing on the cluster; or a bad value.
    """
    arguments: list[str] = []
    inputs: list[str] = []
    for each in OPTIONS:
        value = given.get(each.key)
        if not each.flags or value is None or value in (each.default, []):
            continue
        if each.name in _PATHS and each.kind in (str, list):
            for path in [value] if isinstance(value, str) else value:
                _means_the_same_everywhere(path, each)
        elif each.name:
            each.checked(value)
        if each.flags[0].startswith("-"):
            arguments += _as_flags(each, value)
        else:
            inputs = list(value)
    if not inputs and not given.get("lists"):
        raise UsageError("nothing to submit: give an INPUT, or a list of them (--input-list)")
    out = given.get("output_dir")
    if out in (None, option("output_dir").default):
        raise UsageError(
            "output_dir (--output-dir): a job's working folder is thrown away with it: give an absolute path that "
            "every node sees"
        )
    return Submission(
        arguments=("trax-ray", "batch", *arguments, "--", *inputs),
        output_dir=str(out).rstrip("/"),
        name=PurePath(str(out)).name or "batch",
    )


def _means_the_same_everywhere(path: str, each: Option) -> None:
    if path == STDIN:
        raise UsageError(f"{each.label}: a job has no standard input: give the list as a file that every node sees")
    if is_object_uri(path):
        ObjectPath.of(path)  # a job's command line is no place for what shouldn't be in a URI
    if "://" not in path and not PurePath(path).is_absolute():
        raise UsageError(
            f"{each.label}: {path!r:.200} is relative to this folder, which a job doesn't see: give an absolute path "
            "that every node sees, or a URL"
        )


def _as_flags(each: Option, value: Any) -> list[str]:
    flag = each.flags[0]
    if each.kind is bool:
        return [flag] if value else []
    return [f"{flag}={one}" for one in (value if isinstance(value, list | tuple) else [value])]


def run(given: Mapping[str, Any], *, dashboard: str | None, follow: bool) -> int:
    """Submit a batch, or find the job that works on it already.

    Args:
        given: As of `compose`.
        dashboard: `http://host:port` of the cluster's dashboard; None takes RAY_API_SERVER_ADDRESS, else the head on
            this machine.
        follow: Show the job's output until it ends.

    Returns:
        The exit code: the batch's own where it is followed to its end.

    Raises:
        UsageError: As `compose`.
        SetupError: The cluster can't be reached, or doesn't take the job.
    """
    submission = compose(given)
    from trax_ray.cluster.jobs import Jobs

    jobs = Jobs(dashboard)
    job_id = jobs.working_on(submission.output_dir)
    if job_id:
        print(f"the job {job_id} works on {submission.output_dir} already")
    else:
        job_id = jobs.submit(submission.entrypoint, submission.name, submission.metadata)
        print(f"submitted as job {job_id} to {jobs.address}")
    if not follow:
        at = f"--address {jobs.address}"
        print(f"  its output:  ray job logs --follow {at} {job_id}\n  to stop it:  ray job stop {at} {job_id}")
        print("  the same `trax-ray submit` again continues, and with --follow shows its output")
        return 0
    try:
        ended = jobs.follow(job_id)
    except KeyboardInterrupt:
        print(f"the job {job_id} goes on; `ray job stop --address {jobs.address} {job_id}` stops it")
        return EXIT_STOPPED
    print(f"job {job_id}: {ended.status}", file=sys.stderr)
    return EXIT_SETUP if ended.exit_code is None else ended.exit_code
