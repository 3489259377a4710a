"""Jobs of a Ray cluster, through its dashboard: submit one, find one, follow one."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from trax_ray.errors import SetupError
from trax_ray.heads.machine import token_file
from trax_ray.heads.standing import standing_dashboard

__all__ = ["Ended", "Jobs"]

T = TypeVar("T")

_CLIENTS_LOGGER = "ray.dashboard.modules.job.sdk"
"""It says at INFO that a connection is closed, among the job's own lines."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a job ended.

    Args:
        status: In Ray's words: `succeeded`, `failed` or `stopped`.
        exit_code: Its exit code; None where it ended without one, as a job that was stopped, or lost with its node.
    """

    status: str
    exit_code: int | None


class Jobs:
    """The jobs of one cluster.

    Args:
        address: `http://host:port` of its dashboard; None takes RAY_API_SERVER_ADDRESS, else the head that
            `trax-ray up` has started on this machine.

    Attributes:
        address: The same, as it was found.

    Raises:
        SetupError: There is no such cluster, it can't be reached, or wants another token.
    """

    def __init__(self, address: str | None = None) -> None:
        found = address or os.environ.get("RAY_API_SERVER_ADDRESS") or standing_dashboard()
        if not found:
            raise SetupError(
                "no cluster to submit to: give --dashboard http://HOST:8265, or set RAY_API_SERVER_ADDRESS, or start a "
                "Ray on this machine with `trax-ray up`"
            )
        self.address = (found if "://" in found else f"http://{found}").rstrip("/")
        _send_a_token_where_there_is_one()
        self._client = self._asked(lambda: _client(self.address))
        logging.getLogger(_CLIENTS_LOGGER).setLevel(logging.WARNING)

    def working_on(self, output_dir: str) -> str:
        """The id of the job that was submitted for an output folder and hasn't ended; empty where there is none."""
        for job in self._asked(self._client.list_jobs):
            if not job.status.is_terminal() and (job.metadata or {}).get("output_dir") == output_dir:
                return str(job.submission_id)
        return ""

    def submit(self, entrypoint: str, name: str, metadata: Mapping[str, str]) -> str:
        """Submit a job; its id.

        Args:
            entrypoint: A shell command. The dashboard shows it: it may hold no secrets.
            name: What its id begins with, so that people know it again.
            metadata: What the dashboard shows besides.
        """
        readable = "".join(each if each.isascii() and each.isalnum() else "-" for each in name)[:40]
        job_id = f"trax-ray-{readable}-{secrets.token_hex(4)}"
        return str(
            self._asked(
                lambda: self._client.submit_job(
                    entrypoint=entrypoint, submission_id=job_id, metadata=dict(metadata), entrypoint_num_cpus=0
                )
            )
        )

    def follow(self, job_id: str) -> Ended:
        """Show what a job says until it ends."""

        async def show() -> None:
            async for lines in self._client.tail_job_logs(job_id):
                sys.stdout.write(lines)
                sys.stdout.flush()

        self._asked(lambda: asyncio.run(show()))
        info = self._asked(lambda: self._client.get_job_info(job_id))
        code = info.driver_exit_code
        return Ended(info.status.value.lower(), None if code is None else int(code))

    def _asked(self, question: Callable[[], T]) -> T:
        try:
            return question()
        except (OSError, RuntimeError, ValueError) as error:  # the errors of requests are OSErrors
            reason = " ".join(str(error).split())[:300]
            raise SetupError(
                f"the cluster at {self.address} doesn't take jobs: {reason}: is that its dashboard, and does "
                "RAY_AUTH_TOKEN_PATH name the cluster's token?"
            ) from error


def _client(address: str) -> Any:
    from ray.job_submission import JobSubmissionClient

    return JobSubmissionClient(address)


def _send_a_token_where_there_is_one() -> None:
    """Ray refuses to ask a cluster without tokens where they are on and there is none, and the other way round."""
    if not os.environ.get("RAY_AUTH_TOKEN") and not token_file().is_file() and "ray" not in sys.modules:
        os.environ.pop("RAY_AUTH_MODE", None)
