"""The report's own tasks."""

from __future__ import annotations

from typing import Any

import pytest
from older_folders import restored

from trax_ray.cluster import remote
from trax_ray.cluster.connect import Connection
from trax_ray.cluster.reporting import Reporting


def test_to_hurry_loads_what_the_last_report_needs_and_writes_none_before_it(
    head: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[bool] = []
    submit = remote.submit_report

    def counted(output_dir: str, *, final: bool) -> Any:
        written.append(final)
        return submit(output_dir, final=final)

    monkeypatch.setattr(remote, "submit_report", counted)
    with restored("half_finished") as folder:
        reporting = Reporting(str(folder.out), period_s=3600.0)
        for _ in range(2):
            reporting.hurry()
            reporting.write_if_due()
        reporting.write_the_last()
        assert (written, reporting.error) == ([True], "")
        assert (folder.out / "report" / "index.html").is_file()
