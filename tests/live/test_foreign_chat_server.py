"""Enhancement through a chat server of other people: CopilotKit's aimock, with and without its own chaos."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from servers import asked_of, free_port, program, running

sys.path.append(str(Path(__file__).resolve().parents[1] / "unit"))
from enhancing import SAID, Driver, task_of, timed, transcribed

from tests.support.chat import answer, edit
from trax_ray.core.spec import BatchSpec, Enhancement

EDITS = answer(*(edit(n, line, f"{line[0].upper()}{line[1:]}.") for n, line in enumerate(SAID.splitlines(), 1)))


@contextmanager
def aimock(folder: Path, said: str, *flags: str) -> Iterator[str]:
    """The server, which answers every window with the same; its address."""
    fixtures, port = folder / "fixtures.json", free_port()
    fixtures.write_text(
        json.dumps({"fixtures": [{"match": {"userMessage": "harbour"}, "response": {"content": said}}]})
    )
    command = [program("aimock", "node_modules", ".bin", "llmock"), "-f", str(fixtures), "-p", str(port), "--strict"]
    with running([*command, *flags], port, folder / "aimock.log") as url:
        yield url


def batch(out: Path, url: str) -> BatchSpec:
    return BatchSpec(str(out), model="tiny.en", enhance=Enhancement("format", model="any", base_url=f"{url}/v1"))


@pytest.mark.parametrize("said", [EDITS, f"Sure! Here they are:\n```json\n{EDITS}\n```"], ids=["bare", "fenced"])
def test_a_transcript_reads_well(tmp_path: Path, said: str) -> None:
    with aimock(tmp_path, said) as url:
        out = tmp_path / "out"
        done = Driver(batch(out, url), transcribed(out, timed())).through(task_of())
        journal = asked_of(f"{url}/__aimock/journal")
    assert done.failure is None, done.failure
    lines = (out / "talk.enhanced.txt").read_text().splitlines()
    assert lines == [f"{line[0].upper()}{line[1:]}." for line in SAID.splitlines()]
    assert done.metrics["output_tokens"] > 0
    (request,) = [each for each in journal if "completions" in json.dumps(each)]
    sent = json.dumps(request)
    assert "json_object" in sent
    assert "thinking" not in sent, "which is DeepSeek's own"


def test_what_changes_what_was_said_is_refused(tmp_path: Path) -> None:
    with aimock(tmp_path, answer(edit(3, "nine metres", "ten metres", "word"))) as url:
        out = tmp_path / "out"
        done = Driver(batch(out, url), transcribed(out, timed())).through(task_of())
    assert done.failure is None, done.failure
    assert (out / "talk.enhanced.txt").read_text().splitlines() == SAID.splitlines()
    assert done.metrics["windows_asked_again"] == 1


@pytest.mark.parametrize(
    ("flag", "codes"),
    [("--chaos-drop", {"server_error"}), ("--chaos-malformed", {"bad_answer"})],
    ids=["drop", "garbage"],
)
def test_its_chaos_is_classified(tmp_path: Path, flag: str, codes: set[str]) -> None:
    with aimock(tmp_path, EDITS, flag, "1") as url:
        out = tmp_path / "out"
        done = Driver(batch(out, url), transcribed(out, timed())).through(task_of())
    assert done.failure is not None
    assert done.failure.code in codes
    assert done.failure.failure_class.value == "transient"
    assert not (out / "talk.enhanced.txt").exists()
