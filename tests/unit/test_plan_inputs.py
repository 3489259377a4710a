"""From what a person names to what a batch plans."""

from __future__ import annotations

import os
from pathlib import Path, PurePath

import pytest

from trax_ray.core.ids import file_id_of
from trax_ray.plan.inputs import MEDIA_SUFFIXES, Found, Scan, describe, find_reference, scan


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "in"
    path.mkdir()
    return path


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def relatives(found: Scan) -> list[str]:
    return [str(entry.relative) for entry in found.found]


def test_folders_are_searched_all_the_way_down_in_a_stable_order(folder: Path, out: Path) -> None:
    touch(folder, "b.mp3", "a.wav", "sub/deep/er/z.flac", "sub/a.m4a", "another/x.ogg", "m/x.ogg", "c/x.ogg", "z/x.ogg")
    found = scan([str(folder)], out)
    assert relatives(found) == [
        "a.wav",
        "b.mp3",
        "another/x.ogg",
        "c/x.ogg",
        "m/x.ogg",
        "sub/a.m4a",
        "sub/deep/er/z.flac",
        "z/x.ogg",
    ]
    assert found.found[0] == Found(str(folder / "a.wav"), PurePath("a.wav"))
    assert (found.ignored, found.unreadable, found.present) == (0, {}, 8)


def test_other_files_are_counted_and_hidden_ones_are_not_even_that(folder: Path, out: Path) -> None:
    touch(folder, "talk.mp3", "notes.txt", "noext", "sub/cover.JPG", ".hidden.mp3", ".git/x.mp3", "sub/._talk.mp3")
    found = scan([str(folder)], out)
    assert relatives(found) == ["talk.mp3"]
    assert found.ignored == 3
    assert found.ignored_suffixes == {".txt": 1, "": 1, ".jpg": 1}


def test_a_pattern_takes_media_only_and_manifests_where_it_has_a_suffix(
    folder: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(folder, "a.mp3", "b.WAV", "a.txt", "c.txt", "README", "d.md", "sub/e.ogg", "sub/e.srt", "notes.pdf")
    (folder / "m.csv").write_text("file_name\nsub/e.ogg\n")
    monkeypatch.chdir(folder)
    found = scan(["*"], out)
    assert relatives(found) == ["a.mp3", "b.WAV", "sub/e.ogg"]
    assert found.ignored_suffixes == {".txt": 2, "": 1, ".md": 1, ".csv": 1, ".pdf": 1, ".srt": 1}
    assert next(iter(found.ignored_suffixes)) == ".txt", "most first"
    assert relatives(scan(["*.*"], out)) == ["a.mp3", "b.WAV"]
    assert relatives(scan(["**/*"], out)) == ["a.mp3", "b.WAV", "sub/e.ogg"]
    assert relatives(scan(["*.csv"], out)) == ["sub/e.ogg"]
    assert relatives(scan(["a.txt", "a*"], out)) == ["a.txt", "a.mp3"], "a file that is named itself is taken"


@pytest.mark.parametrize("suffix", sorted(MEDIA_SUFFIXES))
def test_suffixes_in_any_case(folder: Path, out: Path, suffix: str) -> None:
    touch(folder, f"a{suffix}", f"b{suffix.upper()}", f"c{suffix}x.txt", f"d.x{suffix[1:]}x")
    assert relatives(scan([str(folder)], out)) == [f"a{suffix}", f"b{suffix.upper()}"]


def test_the_usual_suffixes_are_there() -> None:
    usual = {".mp3", ".wav", ".m4a", ".flac", ".ogg", ".opus", ".mp4", ".mkv", ".webm", ".mov", ".aac", ".wma"}
    assert usual <= MEDIA_SUFFIXES
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in MEDIA_SUFFIXES)
    assert not MEDIA_SUFFIXES & {".txt", ".srt", ".vtt", ".tsv", ".json", ".parquet", ".html"}


def test_files_that_are_named_are_always_taken(folder: Path, out: Path) -> None:
    touch(folder, "talk", ".hidden.mp3", "notes.txt")
    given = [str(folder / name) for name in ("notes.txt", "talk", ".hidden.mp3")]
    found = scan(given, out)
    assert relatives(found) == ["notes.txt", "talk", ".hidden.mp3"]
    assert found.present == 3
    assert not found.ignored


def test_what_is_missing_is_kept_as_missing(folder: Path, out: Path) -> None:
    touch(folder, "a.mp3")
    (folder / "dangling.mp3").symlink_to(folder / "nowhere.mp3")
    found = scan([str(folder / name) for name in ("gone.mp3", "a.mp3", "dangling.mp3", "no/such/folder")], out)
    assert [(entry.relative.name, entry.missing) for entry in found.found] == [
        ("gone.mp3", True),
        ("a.mp3", False),
        ("dangling.mp3", False),
        ("folder", True),
    ]
    assert found.present == 2


def test_nothing_comes_to_nothing(folder: Path, out: Path) -> None:
    assert scan([], out) == Scan((), 0, {})
    assert scan([str(folder)], out) == Scan((), 0, {})


def test_relative_paths_become_absolute(folder: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(folder, "sub/a.mp3")
    monkeypatch.chdir(folder)
    for given in ("sub/a.mp3", "./sub//a.mp3", "sub/../sub/a.mp3"):
        assert scan([given], out).found == (Found(str(folder / "sub/a.mp3"), PurePath("a.mp3")),)
    assert scan(["sub/"], out).found == (Found(str(folder / "sub/a.mp3"), PurePath("a.mp3")),)
    assert scan(["."], out).found == (Found(str(folder / "sub/a.mp3"), PurePath("sub/a.mp3")),)


def test_each_recording_once_however_often_it_is_named(folder: Path, out: Path) -> None:
    touch(folder, "sub/a.mp3", "b.mp3")
    every = [str(folder), str(folder / "sub"), str(folder / "sub/a.mp3"), str(folder), f"{folder}/./b.mp3"]
    assert relatives(scan(every, out)) == ["b.mp3", "sub/a.mp3"]
    assert relatives(scan([str(folder / "sub"), str(folder)], out)) == ["a.mp3", "b.mp3"], "the first naming counts"


@pytest.mark.parametrize("name", ["out", "sub/out", "sub/deep/out"])
def test_the_output_folder_is_never_searched(folder: Path, name: str) -> None:
    touch(folder, "a.mp3", f"{name}/b.mp3", f"{name}/sub/c.wav", f"{name}/b.txt", "outside/d.mp3")
    found = scan([str(folder)], folder / name)
    assert sorted(relatives(found)) == ["a.mp3", "outside/d.mp3"]
    assert found.ignored == 0


def test_the_output_folder_is_known_under_other_names(folder: Path, tmp_path: Path) -> None:
    touch(folder, "a.mp3", "out/b.mp3")
    (tmp_path / "link").symlink_to(folder / "out")
    assert relatives(scan([str(folder)], tmp_path / "link")) == ["a.mp3"]
    assert relatives(scan([str(folder)], folder / "sub" / ".." / "out")) == ["a.mp3"]


def test_links_to_folders_are_not_followed_and_circles_end(folder: Path, out: Path, tmp_path: Path) -> None:
    touch(folder, "a.mp3")
    touch(tmp_path, "elsewhere/b.mp3")
    (folder / "circle").symlink_to(folder)
    (folder / "elsewhere").symlink_to(tmp_path / "elsewhere")
    (folder / "link.mp3").symlink_to(tmp_path / "elsewhere/b.mp3")
    assert relatives(scan([str(folder)], out)) == ["a.mp3", "link.mp3"]
    assert relatives(scan([str(folder / "elsewhere")], out)) == ["b.mp3"], "a link that is named is followed"


def test_folders_that_can_not_be_listed(folder: Path, out: Path) -> None:
    touch(folder, "a.mp3", "closed/b.mp3")
    closed = folder / "closed"
    closed.chmod(0)
    try:
        if os.access(closed, os.R_OK):
            pytest.skip("this user reads everything")
        found = scan([str(folder)], out)
    finally:
        closed.chmod(0o700)
    assert relatives(found) == ["a.mp3"]
    assert found.unreadable == {str(closed): "Permission denied"}


def test_folders_that_can_not_be_listed_for_another_reason(
    folder: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As above, for root too."""
    touch(folder, "a.mp3", "closed/b.mp3")
    scandir = os.scandir

    def refuse(path: str) -> object:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = scan([str(folder)], out)
    assert relatives(found) == ["a.mp3"]
    assert found.unreadable == {str(folder / "closed"): "Permission denied"}


@pytest.mark.skipif(os.name != "posix" or os.uname().sysname == "Darwin", reason="names are Unicode there")
def test_names_that_are_not_utf8(folder: Path, out: Path) -> None:
    path = folder / "sub\udcff" / "caf\udce9.mp3"
    path.parent.mkdir()
    path.write_bytes(b"12345")
    found = scan([str(folder)], out)
    assert [os.fsencode(entry.path) for entry in found.found] == [os.fsencode(folder) + b"/sub\xff/caf\xe9.mp3"]
    (entry,) = describe(found.found, taken={})
    assert entry.size_bytes == 5
    assert (entry.name, entry.output) == ("sub\udcff/caf\udce9.mp3", "sub\udcff/caf\udce9")


# References


def test_references_lie_where_the_recordings_do(tmp_path: Path) -> None:
    touch(tmp_path, "talk.txt", "sub/talk.mp3.txt", "sub/talk.txt", "folder.txt/x")
    assert find_reference(tmp_path, PurePath("talk.mp3")) == tmp_path / "talk.txt"
    assert find_reference(tmp_path, PurePath("sub/talk.mp3")) == tmp_path / "sub/talk.mp3.txt"
    assert find_reference(tmp_path, PurePath("sub/talk.wav")) == tmp_path / "sub/talk.txt"
    assert find_reference(tmp_path, PurePath("other.mp3")) is None
    assert find_reference(tmp_path, PurePath("folder.mp3")) is None
    assert find_reference(tmp_path / "gone", PurePath("talk.mp3")) is None


# Describing


def test_what_planning_needs_to_know(folder: Path, out: Path, tmp_path: Path) -> None:
    touch(folder, "a/talk.mp3")
    touch(tmp_path, "ref/a/talk.txt")
    found = scan([str(folder)], out).found
    (entry,) = describe(found, taken={}, reference_dir=tmp_path / "ref", priority=7)
    status = (folder / "a/talk.mp3").stat()
    reference = tmp_path / "ref/a/talk.txt"
    assert entry.path == str(folder / "a/talk.mp3")
    assert (entry.name, entry.output, entry.priority) == ("a/talk.mp3", "a/talk", 7)
    assert (entry.size_bytes, entry.mtime_ns, entry.inode) == (1, status.st_mtime_ns, status.st_ino)
    assert (entry.reference, entry.reference_mtime_ns) == (str(reference), reference.stat().st_mtime_ns)
    assert entry.language is None


def test_without_references_and_without_the_file(folder: Path, out: Path) -> None:
    (folder / "dangling.mp3").symlink_to(folder / "nowhere")
    for given in (folder / "gone.mp3", folder / "dangling.mp3"):
        (entry,) = describe(scan([str(given)], out).found, taken={}, reference_dir=folder)
        assert (entry.size_bytes, entry.mtime_ns, entry.inode) == (0, 0, 0)
        assert (entry.reference, entry.reference_mtime_ns) == ("", 0)
        assert entry.output == given.stem


def test_outputs_never_collide_and_names_that_were_given_once_stay(folder: Path, out: Path) -> None:
    touch(folder, "talk.mp3", "talk.wav", "a/talk.mp3")
    found = scan([str(folder)], out).found
    assert [entry.output for entry in describe(found, taken={})] == ["talk.mp3", "talk.wav", "a/talk"]
    taken = {file_id_of(str(folder / "talk.mp3")): "talk"}
    assert [entry.output for entry in describe(found, taken=taken)] == ["talk", "talk.wav", "a/talk"]
