"""Names of outputs: whisper's where they can be, never two alike, the same tomorrow."""

from __future__ import annotations

import os
import random
import unicodedata
from collections.abc import Mapping
from pathlib import Path, PurePath, PurePosixPath

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from trax_ray.core.spec import OUTPUT_FORMATS
from trax_ray.store import files, writing
from trax_ray.store.layout import Layout, fold, plan_names

NFC, NFD = "caf\u00e9", "cafe\u0301"


def plan(*paths: str, taken: Mapping[str, str] | None = None) -> dict[str, str]:
    """Names of inputs whose ids are their paths."""
    return plan_names([(path, PurePosixPath(path)) for path in paths], taken)


def test_places() -> None:
    layout = Layout(Path("out"))
    root = Path.cwd() / "out"
    assert layout.output_dir == root
    assert layout.journal == root / ".trax" / "journal"
    assert layout.artifacts == root / ".trax" / "artifacts"
    assert layout.hashes == root / ".trax" / "hashes"
    assert layout.inbox == root / ".trax" / "inbox"
    assert layout.status == root / ".trax" / "status.json"
    assert layout.lock == root / ".trax" / "lock"
    assert layout.model_pin == root / ".trax" / "model.json"
    assert layout.report == root / "report"
    assert layout.table("files") == root / "report" / "files.parquet"
    assert layout.run_json == root / "report" / "run.json"
    assert layout.index_html == root / "report" / "index.html"
    assert layout.errors_log == root / "report" / "errors.log"
    assert layout.transcript("talks/a.b", "srt") == root / "talks" / "a.b.srt"
    assert layout.enhanced("talks/a") == root / "talks" / "a.enhanced.txt"


def test_whispers_names_in_a_mirrored_tree() -> None:
    assert plan("talk.mp3", "a/t.mp3", "b/t.wav", "a/b/c.tar.gz", ".mp3", "plain") == {
        "talk.mp3": "talk",
        "a/t.mp3": "a/t",
        "b/t.wav": "b/t",
        "a/b/c.tar.gz": "a/b/c.tar",
        ".mp3": ".mp3",
        "plain": "plain",
    }


def test_full_names_on_collision() -> None:
    assert plan("t.mp3", "t.wav", "u.mp3") == {"t.mp3": "t.mp3", "t.wav": "t.wav", "u.mp3": "u"}
    assert plan("A/t.mp3", "a/T.wav") == {"A/t.mp3": "A/t.mp3", "a/T.wav": "a/T.wav"}
    assert plan(f"{NFC}.mp3", f"{NFD}.wav") == {f"{NFC}.mp3": f"{NFC}.mp3", f"{NFD}.wav": f"{NFD}.wav"}


def test_a_full_name_that_is_anothers_short_one() -> None:
    assert plan("t.mp3", "t.wav", "t.mp3.wav") == {"t.mp3": "t.mp3", "t.wav": "t.wav", "t.mp3.wav": "t.mp3.wav"}
    assert plan("t.mp3", "t.mp3.wav") == {"t.mp3": "t", "t.mp3.wav": "t.mp3"}


@pytest.mark.parametrize("pair", [("t.mp3", "T.MP3"), (f"{NFC}.mp3", f"{NFD}.mp3"), ("straße.mp3", "STRASSE.mp3")])
def test_a_hash_where_full_names_collide_too(pair: tuple[str, str]) -> None:
    names = plan(*pair)
    for path, name in names.items():
        assert name.startswith(f"{path}-")
        assert len(name) == len(path) + 9
    assert len({fold(name) for name in names.values()}) == 2


def test_enhanced_transcripts_have_names_of_their_own() -> None:
    assert plan("talk.mp3", "talk.enhanced.mp3") == {
        "talk.mp3": "talk.mp3",
        "talk.enhanced.mp3": "talk.enhanced.mp3",
    }


def test_a_name_once_given_stays() -> None:
    first = plan("t.mp3")
    second = plan("t.mp3", "t.wav", "T.mp3", taken=first)
    assert second == {"t.mp3": "t", "t.wav": "t.wav", "T.mp3": "T.mp3"}
    third = plan("t.wav", "t.flac", taken=second)
    assert third == {"t.wav": "t.wav", "t.flac": "t.flac"}, "also names of inputs that aren't there any more"


def test_a_name_given_to_another_is_not_given_again() -> None:
    assert plan("t.mp3", taken={"elsewhere": "T"}) == {"t.mp3": "t.mp3"}
    assert plan("t.mp3", taken={"elsewhere": "t.enhanced"}) == {"t.mp3": "t.mp3"}


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("report/t.mp3", "report_/t"),
        ("Report/t.mp3", "Report_/t"),
        (".trax/t.mp3", ".trax_/t"),
        (".TRAX/journal/1.mp3", ".TRAX_/journal/1"),
        ("a/report/t.mp3", "a/report/t"),
        ("a/.trax/t.mp3", "a/.trax/t"),
        ("report.mp3", "report"),
        ("../../etc/t.mp3", "etc/t"),
        ("/etc/t.mp3", "etc/t"),
        ("a/../report/t.mp3", "a/report/t"),
        ("../report/t.mp3", "report_/t"),
        (".", "input"),
        ("..", "input"),
        ("talk.srt/t.mp3", "talk.srt_/t"),
        ("a/x.JSON/t.mp3", "a/x.JSON_/t"),
        ("a\x00b/\ud800.mp3", "a_b/_"),
    ],
)
def test_where_outputs_must_not_land(path: str, name: str) -> None:
    assert plan(path) == {path: name}


def test_a_folder_that_is_renamed_into_another() -> None:
    names = plan("report/t.mp3", "report_/t.mp3", "report_/u.mp3")
    assert names["report_/u.mp3"] == "report_/u"
    assert len(set(names.values())) == 3


def test_long_names_are_cut_at_characters() -> None:
    room = 255 - len(".enhanced.json")
    path = "é" * 125 + ".mp3"
    assert len(path.encode()) == 254
    name = plan(path)[path]
    assert name[:116] == "é" * 116
    assert name[116] == "-"
    assert len(name.encode()) == 116 * 2 + 9 == room
    exact = "x" * room + ".mp3"
    assert plan(exact) == {exact: "x" * room}


def test_long_names_with_the_same_beginning_differ() -> None:
    pair = ["x" * 246 + tail for tail in ("1.mp3", "2.mp3")]
    first, second = plan(*pair).values()
    assert first != second
    assert plan(pair[0]) == {pair[0]: first}, "the other one doesn't matter"


def test_long_folders_are_cut() -> None:
    path = "é" * 125 + ".json/t.mp3"
    folder, name = plan(path)[path].split("/")
    assert name == "t"
    assert len(folder.encode()) <= 255
    report_like = "é" * 127 + ".srt/t.mp3"
    assert len(plan(report_like)[report_like].split("/")[0].encode()) <= 255


def test_names_that_are_not_utf8() -> None:
    paths = [os.fsdecode(raw) for raw in (b"t\xe9l.mp3", b"t\xe8l.mp3", b"\xff" * 251 + b".mp3")]
    names = plan(*paths)
    assert [names[path] for path in paths[:2]] == [os.fsdecode(b"t\xe9l"), os.fsdecode(b"t\xe8l")]
    assert len(os.fsencode(names[paths[2]])) <= 241


def test_escaped_bytes_that_are_a_character() -> None:
    names = plan("\udcc3\udca9.mp3", "é.mp3")  # the same bytes on disk
    assert len({os.fsencode(name) for name in names.values()}) == 2


def test_marks_in_any_order_are_one_name() -> None:
    # The same letter with the same marks: canonically equal, though case folding alone tells them apart.
    assert fold("\u03b1\u0345\u0301") == fold("\u1fb4") == fold("\u0391\u0301\u0345")


def test_ids_are_unique() -> None:
    with pytest.raises(ValueError, match="unique ids"):
        plan("t.mp3", "t.mp3")
    names = plan_names([("1", PurePath("t.mp3")), ("2", PurePath("t.mp3"))])  # of two input folders
    assert len(set(names.values())) == 2


def test_many_files_fast() -> None:
    paths = [f"{n % 100}/{n // 10}.{n % 10}" for n in range(20_000)] + ["same.mp3"]
    names = plan(*paths)
    assert len({fold(name) for name in names.values()}) == len(paths)


def test_names_can_be_written(tmp_path: Path) -> None:
    paths = ["é" * 125 + ".mp3", os.fsdecode(b"\xff" * 251 + b".mp3"), "x/" + "y" * 255, "talk.mp3", "talk.srt/a.mp3"]
    layout = Layout(tmp_path)
    for name in plan(*paths).values():
        for each in OUTPUT_FORMATS:
            for path in (layout.transcript(name, each), layout.enhanced(name, each)):
                files.ensure_folder(path.parent)
                writing.write_atomically(path, b"")


# Few letters, so that they meet; of every kind that has its own way to collide.
letters = st.sampled_from(
    ["t", "T", "é", "e\u0301", "E", "\u0301", "ß", "ss", "\u017f", "\u0345", "\u0390", "\udcff", "."]
)
endings = st.sampled_from(["", ".mp3", ".MP3", ".wav", ".mp3.wav", ".enhanced.mp3", ".srt", ".json", "x" * 240])
parts = st.builds(lambda name, ending: "".join(name) + ending, st.lists(letters, min_size=1, max_size=2), endings)
folders = st.sampled_from(["report", "Report", ".trax", "report_", "t.srt", "T.srt_", "a", "x" * 255, "é" * 127])
paths = st.builds(lambda above, name: "/".join([*above, name]), st.lists(folders, max_size=2), parts)


def folded(text: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


@settings(max_examples=300, deadline=None)
@given(st.lists(paths, unique=True, max_size=12), st.randoms(use_true_random=False))
@example(["t.mp3", "T.mp3", "t.wav", "t.mp3.wav", "t.mp3.mp3.wav"], random.Random(1))
def test_never_two_alike_whatever_the_order(inputs: list[str], order: random.Random) -> None:
    names = plan(*inputs)
    assert list(names) == inputs
    shuffled = order.sample(inputs, len(inputs))
    assert plan(*shuffled) == names

    outputs = [
        f"{name}{ending}.{each}" for name in names.values() for each in OUTPUT_FORMATS for ending in ("", ".enhanced")
    ]
    assert len({folded(output) for output in outputs}) == len(outputs)
    above = {folded(str(folder)) for output in outputs for folder in PurePosixPath(output).parents}
    assert not above & {folded(output) for output in outputs}, "a file where a folder has to be"
    assert not above & {"report", ".trax"}
    for output in outputs:
        assert all(len(os.fsencode(part)) <= 255 for part in output.split("/"))

    known = order.randint(0, len(inputs))
    earlier = plan(*shuffled[:known])
    later = plan(*shuffled, taken=earlier)
    assert {path: later[path] for path in earlier} == earlier
    assert len({folded(name) for name in later.values()}) == len(later)
