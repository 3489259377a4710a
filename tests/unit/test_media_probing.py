"""Looking at the headers of many files: real ones, broken ones, and ones that a decoder dies over."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from trax_ray.media import probing
from trax_ray.media.probing import Wanted, probe_all


def wanted(*paths: Path) -> list[Wanted]:
    return [Wanted(str(path), path.stat().st_size) for path in paths]


def test_lengths_come_from_headers_and_copies_have_the_same_mark(samples: Path, tmp_path: Path) -> None:
    talk = samples / "talks" / "meeting.mp3"
    copy, other, broken, nothing = (tmp_path / name for name in ("copy.mp3", "other.mp3", "broken.wav", "nothing.wav"))
    content = talk.read_bytes()
    copy.write_bytes(content)
    other.write_bytes(content[:-1000] + bytes(1000))
    broken.write_text("no audio")
    nothing.touch()
    river = samples / "stories" / "the_river.ogg"
    told: list[int] = []
    found = probe_all(wanted(talk, copy, other, broken, nothing, river), within_s=60, processes=2, tell=told.append)
    assert found[str(talk)].audio_s == pytest.approx(13.29, abs=0.05)
    assert found[str(talk)].mark == found[str(copy)].mark != found[str(other)].mark
    assert found[str(river)].audio_s == pytest.approx(124.4, abs=0.1)
    assert found[str(river)].mark == "", "nothing else has its size"
    assert found[str(broken)].code == found[str(nothing)].code == "not_decodable"
    assert max(told) == 6


def test_names_that_are_not_text_are_looked_at(samples: Path, tmp_path: Path) -> None:
    name = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\n.wav")
    with open(os.fsencode(name), "wb") as file:
        file.write((samples / "first_test.wav").read_bytes())
    found = probe_all([Wanted(name, os.stat(name).st_size)], within_s=60, processes=1)
    assert found[name].audio_s == pytest.approx(7.5, abs=0.1)


def test_a_file_that_ends_or_stops_its_decoder_costs_nobody_else_anything(
    samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process is real, and so is its end; what brings it about stands in for a decoder's mistake."""
    monkeypatch.setattr(
        probing,
        "_START",
        probing._START.replace(
            "c.main()",
            "look = c._look_at; import os, time; "
            "c._look_at = lambda path, marks: os.abort() if 'fatal' in path else time.sleep(60) if 'slow' in path "
            "else look(path, marks); c.main()",
        ),
    )
    paths = [tmp_path / name for name in ("fatal.wav", "slow.wav", "good.wav")]
    for path in paths:
        path.write_bytes((samples / "first_test.wav").read_bytes())
    found = probe_all(wanted(*paths), within_s=60, processes=1, file_s=1.5)
    assert [found[str(path)].code for path in paths] == ["not_decodable", "not_decodable", ""]


def test_it_ends_in_time_and_says_nothing_of_what_it_did_not_see(samples: Path) -> None:
    assert probe_all(wanted(samples / "first_test.wav"), within_s=0.0, processes=1) == {}


def test_keys_do_not_reach_the_process(samples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    monkeypatch.setattr(
        probing, "_START", "import os, sys; sys.stdin.readline(); print('\"' + str(os.environ) + '\"', flush=True)"
    )
    child = probing._Child()
    said = child.ask("x", False, 30)
    child.end()
    assert said is not None
    assert "secret" not in str(said)
    assert sys.executable
