"""Who writes the report: a task of its own, and at a stop the coordinator."""

from __future__ import annotations

from typing import Any

import pytest
from older_folders import restored

from trax_ray.cluster import remote
from trax_ray.cluster.connect import Connection
from trax_ray.cluster.reporting import MOST_HERE, Reporting


@pytest.fixture
def submitted(head: Connection, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each report that was given to a task was the last one."""
    given: list[bool] = []
    submit = remote.submit_report

    def counted(output_dir: str, *, final: bool) -> Any:
        given.append(final)
        return submit(output_dir, final=final)

    monkeypatch.setattr(remote, "submit_report", counted)
    return given


@pytest.mark.parametrize(("hurries", "tasks", "given"), [(False, 1, 1), (True, MOST_HERE, 0), (True, MOST_HERE + 1, 1)])
def test_at_a_stop_the_last_report_is_written_without_another_process(
    submitted: list[bool], hurries: bool, tasks: int, given: int
) -> None:
    with restored("half_finished") as folder:
        reporting = Reporting(str(folder.out), period_s=3600.0)
        for _ in range(2):
            if hurries:
                reporting.hurry()
            reporting.write_if_due()
        assert submitted == []
        reporting.write_the_last(tasks)
        assert (submitted, reporting.error) == ([True] * given, "")
        assert (folder.out / "report" / "index.html").is_file()


@pytest.mark.parametrize("hurries", [False, True])
def test_a_report_that_can_not_be_written_is_told_and_ends_nothing(submitted: list[bool], hurries: bool) -> None:
    with restored("half_finished") as folder:
        reporting = Reporting(str(folder.out), period_s=3600.0)
        if hurries:
            reporting.hurry()
        place = folder.out / "report"
        assert not place.exists()
        place.write_text("in the way")
        reporting.write_the_last(1)
        assert str(place) in reporting.error


def test_what_can_not_be_loaded_in_a_hurry_is_told_at_the_end(
    head: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load() -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(remote, "load_report", load)
    reporting = Reporting("/nowhere", period_s=3600.0)
    reporting.hurry()
    reporting.write_the_last(1)
    assert "No space left on device" in reporting.error
