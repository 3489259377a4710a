"""What becomes of a batch's options as a job of a cluster: nothing in it may mean another thing there."""

from __future__ import annotations

import re
import shlex
from typing import Any

import pytest
from typer.testing import CliRunner

from trax_ray.cli import submit as command
from trax_ray.cli.app import app
from trax_ray.cli.submit import Submission
from trax_ray.errors import UsageError
from trax_ray.plan.option_speech import RAY_JOB
from trax_ray.plan.options import OPTIONS, make_spec


@pytest.fixture
def submitted(monkeypatch: pytest.MonkeyPatch) -> list[Submission]:
    """What would be submitted, by the command line; nothing is."""
    composed: list[Submission] = []

    def run(given: Any, **_: Any) -> int:
        composed.append(command.compose(given))
        return 0

    monkeypatch.setattr(command, "run", run)
    return composed


def test_the_job_is_the_same_command(submitted: list[Submission]) -> None:
    given = [
        *("/data/talks", "s3://bucket/in/*.mp3", "https://e.org/feed", "-a", "/data/list", "--model", "tiny.en"),
        *(
            "-f",
            "txt",
            "-f",
            "srt",
            "--initial-prompt",
            "it's -- 'quoted'; rm $HOME",
            "--preprocess",
            "-o",
            "/out/x y/",
        ),
        *("--workers", "3", "--follow", "--dashboard", "http://head:8265"),
    ]
    done = CliRunner().invoke(app, ["submit", *given])
    assert done.exit_code == 0, done.output
    (made,) = submitted
    assert (made.name, made.output_dir) == ("x y", "/out/x y")
    assert made.metadata == {"job_name": "trax-ray x y", "batch": "x y", "output_dir": "/out/x y"}
    words = shlex.split(made.entrypoint)
    assert words[:2] == ["trax-ray", "batch"]
    assert words[words.index("--") + 1 :] == ["/data/talks", "s3://bucket/in/*.mp3", "https://e.org/feed"]
    assert sorted(words[2 : words.index("--")]) == sorted(
        [
            "--input-list=/data/list",
            "--model=tiny.en",
            "--output-format=txt",
            "--output-format=srt",
            "--initial-prompt=it's -- 'quoted'; rm $HOME",
            "--preprocess",
            "--output-dir=/out/x y/",
            "--workers=3",
        ]
    )


def test_a_job_writes_to_a_store(submitted: list[Submission]) -> None:
    done = CliRunner().invoke(app, ["submit", "s3://bucket/in", "-o", "s3://bucket/out/2026/"])
    assert done.exit_code == 0, done.output
    (made,) = submitted
    assert (made.name, made.output_dir) == ("2026", "s3://bucket/out/2026")
    assert shlex.split(made.entrypoint)[2:] == ["--output-dir=s3://bucket/out/2026/", "--", "s3://bucket/in"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["s3://AKIA:hunter2@bucket/in", "-o", "/out"], "has no credentials in it"),
        (["/in", "-o", "s3://AKIA:hunter2@bucket/out"], "has no credentials in it"),
        (["talk.mp3", "-o", "/out"], "INPUT: 'talk.mp3' is relative to this folder"),
        (["-a", "list", "-o", "/out"], "--input-list: 'list' is relative"),
        (["-", "-o", "/out"], "INPUT: a job has no standard input"),
        (["/talk.mp3"], r"output_dir \(--output-dir\): a job's working folder is thrown away"),
        (["/talk.mp3", "-o", "out"], r"output_dir \(--output-dir\): 'out' is relative"),
        (["/talk.mp3", "-o", "/out", "--reference", "ref"], r"reference \(--reference\): 'ref' is relative"),
        (["/talk.mp3", "-o", "/out", "--cookies", "jar"], r"cookies \(--cookies\): 'jar' is relative"),
        (["/talk.mp3", "-o", "/out", "--language", "xx"], "xx"),
        (["-o", "/out"], "nothing to submit"),
    ],
)
def test_what_would_mean_another_thing_there_is_refused(
    submitted: list[Submission], given: list[str], message: str
) -> None:
    done = CliRunner().invoke(app, ["submit", *given])
    assert done.exit_code == 2, done.output
    assert re.search(message, done.stderr), done.stderr
    assert not submitted


@pytest.mark.parametrize("flag", ["--address", "--lean", "--dry-run"])
def test_what_a_job_has_no_use_for_is_no_option(flag: str) -> None:
    done = CliRunner().invoke(app, ["submit", "/a.mp3", "-o", "/out", flag, "x:1"])
    assert done.exit_code == 2
    assert "No such option" in done.stderr


def test_every_option_that_names_a_file_is_looked_at() -> None:
    looks = {
        each.name for each in OPTIONS if re.search(r"\b([Ff]ile|[Ff]older)\b", each.help) and each.kind is not bool
    }
    assert looks - {"model", "settle"} <= set(command._PATHS), (
        "or it would be relative to a folder that a job doesn't see"
    )


def test_in_a_job_outputs_must_be_absolute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RAY_JOB, "{}")
    for given in ({}, {"output_dir": "out"}):
        with pytest.raises(UsageError, match="lies in the job's working folder, which Ray throws away"):
            make_spec(given)
    assert make_spec({"output_dir": "/out"}).output_dir == "/out"
