"""Lists, manifests and patterns: what a file or a person names, and what shall hold for each recording."""

from __future__ import annotations

import datetime
import decimal
import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trax_ray.errors import SetupError, UsageError
from trax_ray.plan.inputs import Found, Scan, describe, scan
from trax_ray.plan.manifest import Row, is_manifest, read_list, read_manifest
from trax_ray.plan.tasks import MAX_PRIORITY

quick = settings(max_examples=100, deadline=None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "in"
    path.mkdir()
    return path


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def relatives(found: Scan) -> list[str]:
    return [str(entry.relative) for entry in found.found]


def rows_of(tmp_path: Path, name: str, content: str | bytes) -> list[Row]:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogateescape"))
    return read_manifest(str(path))


def refusal(tmp_path: Path, name: str, content: str | bytes) -> str:
    with pytest.raises(UsageError) as caught:
        rows_of(tmp_path, name, content)
    assert name in caught.value.message
    return caught.value.message.replace(str(tmp_path) + "/", "")


def parquet(path: Path, columns: dict[str, Any]) -> str:
    pq.write_table(pa.table(columns), path)
    return str(path)


# Lists


def names_in(data: bytes) -> list[bytes]:
    return [os.fsencode(row.file_name) for row in read_list(data, "list.txt")]


def test_a_line_is_a_path() -> None:
    data = b'# no comment.wav\n\n \t\n a b .wav\n"quoted".wav\n-dash.wav\ncaf\xe9.wav\n~/x*.wav\nlast.wav'
    assert names_in(data) == [
        b"# no comment.wav",
        b" a b .wav",
        b'"quoted".wav',
        b"-dash.wav",
        b"caf\xe9.wav",
        b"~/x*.wav",
        b"last.wav",
    ]
    assert [row.where for row in read_list(b"\na\n\nb\n", "list.txt")] == ["list.txt, line 2", "list.txt, line 4"]
    assert all(not row.settings for row in read_list(data, "list.txt"))
    assert names_in(b"") == names_in(b"\n\n") == []


def test_nul_parts_the_paths_where_there_is_one() -> None:
    assert names_in(b"a\nb.wav\0 \0c\r\0") == [b"a\nb.wav", b" ", b"c\r"]
    assert [row.where for row in read_list(b"a\0\0b", "standard input")] == [
        "standard input, entry 1",
        "standard input, entry 3",
    ]


def test_line_ends_and_marks_of_other_systems() -> None:
    assert names_in(b"\xef\xbb\xbfa.wav\r\nb.wav\r\n\r\n") == [b"a.wav", b"b.wav"]
    assert names_in(b"a.wav\r\nb.wav") == [b"a.wav", b"b.wav"]
    assert names_in(b"a.wav\r\nb.wav\n") == [b"a.wav\r", b"b.wav"], "a name may end so"
    for mark in ("utf-16-le", "utf-16-be"):
        with pytest.raises(UsageError, match=r"list\.txt is UTF-16: save it as UTF-8"):
            read_list("\ufeffa.wav\n".encode(mark), "list.txt")


@quick
@given(st.lists(st.binary(min_size=1, max_size=8).filter(lambda name: b"\0" not in name), min_size=1, max_size=5))
def test_every_name_survives_between_nuls(names: list[bytes]) -> None:
    data = b"".join(name + b"\0" for name in names)
    if not data.startswith((b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf")):
        assert names_in(data) == names


# Manifests


def test_what_is_a_manifest() -> None:
    assert all(map(is_manifest, ("a.csv", "/x/A.CSV", "a.jsonl", "a.ndjson", "a.parquet")))
    assert not any(map(is_manifest, ("a.txt", "csv", "a.csv.gz", "a.json", "a.wav", "-", "")))


EXPECTED = Row(
    "a b.wav",
    "",
    language="de",
    priority=3,
    model="tiny",
    prompt="Ada, Grace",
    reference="ref/a.txt",
    extra={"speaker": "Ada", "take": "7"},
)


def test_csv(tmp_path: Path) -> None:
    text = "file_name,language,priority,model,prompt,reference,speaker,take\n"
    text += 'a b.wav,de,3,tiny,"Ada, Grace",ref/a.txt,Ada,7\n'
    (row,) = rows_of(tmp_path, "m.csv", text)
    assert row == Row(**{**_fields(EXPECTED), "where": f"{tmp_path}/m.csv, line 2"})


def _fields(row: Row) -> dict[str, Any]:
    return {name: getattr(row, name) for name in Row.__dataclass_fields__}


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_csv_as_programs_write_it(tmp_path: Path, delimiter: str, end: str, mark: str) -> None:
    lines = [
        ["speaker", '" File_Name "', "LANGUAGE"],
        ["", "a;b,c.wav", " de "],
        [],
        ["Bo", '"new\nline ""q"".wav"', ""],
    ]
    lines[1][1] = '"a;b,c.wav"'
    rows = rows_of(tmp_path, "m.csv", mark + end.join(delimiter.join(line) for line in lines) + end)
    assert [(row.file_name, row.language, row.extra) for row in rows] == [
        ("a;b,c.wav", "de", {}),
        ('new\nline "q".wav', None, {"speaker": "Bo"}),
    ]
    assert [row.where.rpartition(" ")[2] for row in rows] == ["2", "4"]


def test_csv_names_keep_their_spaces_and_bytes(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, "m.csv", b"file_name,note\n caf\xe9 .wav,\xff\n#x.wav\n")
    assert [os.fsencode(row.file_name) for row in rows] == [b" caf\xe9 .wav", b"#x.wav"]
    assert rows[0].extra == {"note": "\udcff"}
    assert rows[1].extra == {}, "a short row lacks its last values"


def test_jsonl(tmp_path: Path) -> None:
    first = {"file_name": "a b.wav", "language": "de", "priority": 3, "model": "tiny", "prompt": "Ada, Grace"}
    first |= {"reference": "ref/a.txt", "speaker": "Ada", "take": "7"}
    lines = [json.dumps(first), "", '{"speaker": null, "file_name": "b\\udce9\u2028.wav", "priority": null}\r']
    one, two = rows_of(tmp_path, "m.jsonl", "\n".join(lines))
    assert one == Row(**{**_fields(EXPECTED), "where": f"{tmp_path}/m.jsonl, line 1"})
    assert (two.file_name, two.where, two.settings) == ("b\udce9\u2028.wav", f"{tmp_path}/m.jsonl, line 3", {})
    assert len(rows_of(tmp_path, "m.NDJSON", "\n".join(lines))) == 2
    (raw,) = rows_of(tmp_path, "raw.jsonl", b'{"file_name": "caf\xe9.wav"}')
    assert os.fsencode(raw.file_name) == b"caf\xe9.wav"


def test_what_passes_through_keeps_its_value(tmp_path: Path) -> None:
    line = (
        '{"file_name": "a", "n": 1, "x": 0.5, "yes": true, "nan": NaN, "inf": Infinity, "empty": "", "tags": ["ä", {}]}'
    )
    (row,) = rows_of(tmp_path, "m.jsonl", line)
    assert row.extra == {"n": 1, "x": 0.5, "yes": True, "inf": "inf", "empty": "", "tags": '["ä", {}]'}
    assert json.loads(json.dumps(row.extra, allow_nan=False)) == row.extra


def test_parquet(tmp_path: Path) -> None:
    columns = {
        "file_name": ["a b.wav", "b.wav"],
        "language": ["de", None],
        "priority": [3.0, float("nan")],
        "model": ["tiny", ""],
        "prompt": ["Ada, Grace", None],
        "reference": ["ref/a.txt", None],
        "speaker": pa.array(["Ada", None]).dictionary_encode(),
        "take": ["7", None],
    }
    one, two = read_manifest(parquet(tmp_path / "m.parquet", columns))
    assert one == Row(**{**_fields(EXPECTED), "where": f"{tmp_path}/m.parquet, row 1"})
    assert (two.file_name, two.settings) == ("b.wav", {})


def test_parquet_types(tmp_path: Path) -> None:
    columns = {
        "file_name": [b"caf\xe9.wav"],
        "day": [datetime.date(2026, 1, 2)],
        "at": [datetime.datetime(2026, 1, 2, 3, tzinfo=datetime.timezone.utc)],
        "price": [decimal.Decimal("1.50")],
        "tags": [["a", "b"]],
        "audio": [{"bytes": b"RIFF", "path": "x"}],
        "raw": [b"RIFF"],
    }
    (row,) = read_manifest(parquet(tmp_path / "m.parquet", columns))
    assert os.fsencode(row.file_name) == b"caf\xe9.wav"
    assert row.extra == {
        "day": "2026-01-02",
        "at": "2026-01-02T03:00:00+00:00",
        "price": "1.50",
        "tags": '["a", "b"]',
    }, "recordings inside a table don't pass through"


def test_parquet_under_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    path = Path(parquet(tmp_path / "m.parquet", {"file_name": ["a.wav"]}))
    odd = path.rename(tmp_path / "m\udcff.parquet")
    (row,) = read_manifest(str(odd))
    assert row.where == rf"{tmp_path}/m\xff.parquet, row 1"


def test_empty_manifests_have_no_rows(tmp_path: Path) -> None:
    assert rows_of(tmp_path, "m.csv", "") == rows_of(tmp_path, "m.csv", "file_name,language\n\n") == []
    assert rows_of(tmp_path, "m.jsonl", "") == rows_of(tmp_path, "m.jsonl", "\n \n") == []
    assert read_manifest(parquet(tmp_path / "m.parquet", {"file_name": pa.array([], pa.string())})) == []


def test_urls(tmp_path: Path) -> None:
    one, two = rows_of(tmp_path, "m.csv", "url,file_name\nhttps://e.org/a,\nhttps://e.org/b,b.wav\n")
    assert (one.url, one.file_name, one.extra) == ("https://e.org/a", "", {})
    assert (two.url, two.file_name, two.extra) == ("", "b.wav", {"url": "https://e.org/b"})


def test_columns_without_a_name(tmp_path: Path) -> None:
    (row,) = rows_of(tmp_path, "m.csv", ",file_name, \n0,a.wav,x\n")
    assert row.extra == {"column_1": "0", "column_3": "x"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.csv", "name,lang\na.wav,de\n", "m.csv: a manifest needs a column file_name or url; there are: name, lang"),
        ("m.csv", "file_name,File_Name\na,b\n", "m.csv: the column file_name is there twice"),
        (
            "m.csv",
            "file_name,x\na.wav,1\nb,c.wav,2\n",
            "m.csv, line 3: 3 values for 2 columns: put values that hold ','",
        ),
        ("m.csv", 'file_name\n"a.wav\n', "m.csv, line 2: no valid CSV: "),
        ("m.csv", "file_name,x\n,1\n", "m.csv, line 2: no file_name: name the recording or take the row out"),
        ("m.csv", "file_name,priority\na,1\nb,high\n", "m.csv, line 3: expected a priority from 0 (first) to"),
        ("m.csv", b"\xff\xfef\0i\0l\0e\0_\0n\0a\0m\0e\0", "m.csv is UTF-16: save it as UTF-8"),
        ("m.csv", b"file_name,prompt\na,caf\xe9\n", "m.csv, line 2: prompt isn't UTF-8: save the manifest as UTF-8"),
        ("m.jsonl", '{"file_name": "a"}\n{"file_name": \n', "m.jsonl, line 2: no valid JSON: "),
        ("m.jsonl", '["a.wav"]', "m.jsonl, line 1: expected an object such as"),
        ("m.jsonl", '{"path": "a"}', "m.jsonl, line 1: a manifest needs a column file_name or url; there are: path"),
        ("m.jsonl", "[" * 100_000, "m.jsonl, line 1: no valid JSON: "),
        ("m.jsonl", '{"file_name": 3}', "m.jsonl, line 1: expected a path as file_name, got 3"),
        ("m.csv", "file_name,language\na,xx\n", "m.csv, line 2: language: expected the code of a language such as de"),
        ("m.jsonl", '{"file_name": "a", "language": ["de"]}', "m.jsonl, line 1: expected text as language, got ['de']"),
        (
            "m.jsonl",
            '{"file_name": "a\\u0000b"}',
            "m.jsonl, line 1: no file can be called 'a\\x00b': correct file_name",
        ),
        ("m.jsonl", '{"file_name": "\\ud800"}', "m.jsonl, line 1: no file can be called '\\ud800'"),
        ("m.parquet", b"no Parquet at all", "m.parquet is no Parquet file that can be read: "),
        ("m.parquet", b"", "m.parquet is no Parquet file that can be read: "),
    ],
)
def test_what_is_refused(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    assert refusal(tmp_path, name, content).startswith(message)


@pytest.mark.parametrize("value", ["-1", "1.5", "true", '"high"', "[1]", "1e400", str(MAX_PRIORITY + 1)])
def test_priorities_that_make_no_sense(tmp_path: Path, value: str) -> None:
    assert "expected a priority" in refusal(tmp_path, "m.jsonl", f'{{"file_name": "a", "priority": {value}}}')


@pytest.mark.parametrize(("value", "priority"), [("0", 0), ('" 7 "', 7), ("3.0", 3), ('""', None), ("NaN", None)])
def test_priorities(tmp_path: Path, value: str, priority: int | None) -> None:
    (row,) = rows_of(tmp_path, "m.jsonl", f'{{"file_name": "a", "priority": {value}}}')
    assert row.priority == priority
    assert ("priority" in row.settings) == (priority is not None), "0 is a priority"


def test_damaged_parquet(tmp_path: Path) -> None:
    path = Path(parquet(tmp_path / "m.parquet", {"file_name": ["a.wav"] * 1000, "x": list(range(1000))}))
    data = bytearray(path.read_bytes())
    data[4:200] = b"\xff" * 196
    path.write_bytes(data)
    with pytest.raises(UsageError, match=r"m\.parquet"):
        read_manifest(str(path))


def test_text_in_parquet_that_is_none(tmp_path: Path) -> None:
    wrong = pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xff"]).buffers())
    with pytest.raises(UsageError, match="store names as binary values"):
        read_manifest(parquet(tmp_path / "m.parquet", {"file_name": wrong}))


@pytest.mark.parametrize("name", ["gone.csv", "gone.jsonl", "gone.parquet"])
def test_manifests_that_are_not_there(tmp_path: Path, out: Path, name: str) -> None:
    with pytest.raises(UsageError, match=f"can't read .*{name}: No such file"):
        scan([str(tmp_path / name)], out)


# From a manifest to recordings


def test_rows_lie_below_their_manifest(folder: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(folder, "a/t.mp3", "b/t.mp3", "ref/a.txt")
    touch(folder.parent, "beside.mp3")
    manifest = folder / "m.csv"
    manifest.write_text(
        "file_name,priority,language,model,prompt,reference,speaker\n"
        f"a/t.mp3,3,de,tiny,Ada,ref/a.txt,Bo\nb/t.mp3\n../beside.mp3,0\n{folder}/gone.mp3,,,,,,x\n"
    )
    monkeypatch.chdir("/")
    found = scan([str(manifest)], out)
    assert relatives(found) == ["a/t.mp3", "b/t.mp3", "beside.mp3", "gone.mp3"]
    assert [entry.missing for entry in found.found] == [False, False, False, True]
    entries = describe(found.found, taken={}, priority=7)
    assert [entry.priority for entry in entries] == [3, 7, 0, 7]
    first = entries[0]
    assert (first.language, first.model, first.prompt, first.extra) == ("de", "tiny", "Ada", {"speaker": "Bo"})
    assert first.reference == str(folder / "ref/a.txt")
    assert first.reference_mtime_ns == (folder / "ref/a.txt").stat().st_mtime_ns
    assert (entries[1].language, entries[1].reference, entries[1].extra) == (None, "", {})
    assert [entry.output for entry in entries] == ["a/t", "b/t", "beside", "gone"]


def test_a_rows_reference_comes_before_the_folders(folder: Path, out: Path) -> None:
    touch(folder, "t.mp3", "u.mp3", "refs/t.txt", "refs/u.txt", "own.txt")
    (folder / "m.csv").write_text("file_name,reference\nt.mp3,own.txt\nu.mp3,\n")
    entries = describe(scan([str(folder / "m.csv")], out).found, taken={}, reference_dir=folder / "refs")
    assert [entry.reference for entry in entries] == [str(folder / "own.txt"), str(folder / "refs/u.txt")]


@pytest.mark.parametrize(
    ("reference", "message"),
    [("gone.txt", "there is no reference transcript"), ("sub", "there is no reference"), ("out/t.txt", "can't be ref")],
)
def test_references_that_can_not_be(folder: Path, reference: str, message: str) -> None:
    touch(folder, "t.mp3", "sub/x", "out/t.txt")
    (folder / "m.csv").write_text(f"file_name,reference\nt.mp3,{reference}\n")
    with pytest.raises(UsageError, match=rf"m\.csv, line 2: .*{message}"):
        scan([str(folder / "m.csv")], folder / "out")


def test_a_recording_that_is_named_more_than_once(folder: Path, out: Path) -> None:
    touch(folder, "sub/t.mp3")
    (folder / "m.csv").write_text("file_name,language\nsub/t.mp3,de\n./sub/../sub/t.mp3,de\nsub/t.mp3,\n")
    (folder / "n.jsonl").write_text(json.dumps({"file_name": str(folder / "sub/t.mp3"), "language": "de"}))
    for named in ([folder / "sub", folder / "m.csv"], [folder / "m.csv", folder / "sub", folder / "n.jsonl"]):
        (entry,) = scan(map(str, named), out).found
        assert entry.row is not None
        assert entry.row.language == "de", "a row holds wherever it comes"
    (folder / "n.jsonl").write_text(json.dumps({"file_name": "sub/t.mp3", "language": "fr"}))
    with pytest.raises(UsageError, match=r"n\.jsonl, line 1: .*t\.mp3 has other values in .*m\.csv, line 2"):
        scan([str(folder / "m.csv"), str(folder / "n.jsonl")], out)


def test_a_row_names_one_recording(folder: Path, out: Path) -> None:
    touch(folder, "sub/t.mp3", "sub/u.mp3")
    (folder / "m.csv").write_text("file_name,language\nsub,de\n")
    with pytest.raises(UsageError, match=r"m\.csv, line 2: .*sub is a folder"):
        scan([str(folder / "m.csv")], out)
    (folder / "m.csv").write_text("file_name,language\nsub,\n")
    assert relatives(scan([str(folder / "m.csv")], out)) == ["sub/t.mp3", "sub/u.mp3"]


def test_a_folder_and_a_broken_link_called_like_a_manifest(folder: Path, out: Path) -> None:
    touch(folder, "d.csv/t.mp3", "e.csv")
    assert relatives(scan([str(folder / "d.csv")], out)) == ["t.mp3"]
    (folder / "l.csv").symlink_to(folder / "nowhere")
    with pytest.raises(UsageError, match=r"can't read .*l\.csv"):
        scan([str(folder / "l.csv")], out)
    found = scan([str(folder)], out)
    assert (relatives(found), found.ignored) == (["d.csv/t.mp3"], 2), "found in a folder it is just another file"


def test_urls_of_the_web_are_recordings(folder: Path, out: Path) -> None:
    (folder / "m.csv").write_text("url,language,shelf\nhttps://e.org/b?c=[1],de,A7\nhttps://e.org/x.mp3,,\n")
    (folder / "list").write_text("https://e.org/x.mp3\nhttp://e.org/d%20e.ogg\n")
    found = scan(["https://e.org/x.mp3", str(folder / "m.csv")], out, lists=[str(folder / "list")])
    assert [each.path for each in found.found] == [
        "https://e.org/x.mp3",
        "https://e.org/b?c=[1]",
        "http://e.org/d%20e.ogg",
    ], "each once, whoever names it"
    assert relatives(found) == ["x.mp3", "e-org-b-c-1.url", "d e.ogg"]
    assert (found.present, found.ignored) == (3, 0)
    row = found.found[1].row
    assert row is not None
    assert (row.language, row.extra) == ("de", {"shelf": "A7"})
    plain, page, _ = describe(found.found, taken={})
    assert (plain.url, plain.file, plain.name, plain.output) == ("https://e.org/x.mp3", "", "x.mp3", "x")
    assert (page.url, page.name, page.output) == ("https://e.org/b?c=[1]", "e-org-b-c-1", "e-org-b-c-1")
    assert page.language == "de"


def test_what_stands_behind_a_long_url_is_a_name_of_bearable_length(out: Path) -> None:
    found = scan([f"https://e.org/watch?v={'a' * 500}&list=../../etc"], out)
    assert relatives(found) == ["e-org-watch-v-" + "a" * 66 + ".url"]


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ("ftp://host/a.wav", SetupError, "only http and https URLs are fetched: download ftp://host/a.wav"),
        ("file:///etc/passwd", SetupError, "only http and https URLs are fetched"),
        ("https://me:sesame@e.org/a", UsageError, "name and password"),
        ("https://", UsageError, "names no host"),
    ],
)
def test_what_is_no_url_of_the_web(folder: Path, out: Path, given: str, error: type[Exception], message: str) -> None:
    (folder / "list").write_text(f"{given}\n")
    (folder / "m.csv").write_text(f"url\n{given}\n")
    for named, lists, where in (
        ([given], [], ""),
        ([str(folder / "m.csv")], [], "m.csv, line 2: "),
        ([], [str(folder / "list")], "list, line 1: "),
    ):
        with pytest.raises(error, match=f"{where}.*{message}") as caught:
            scan(named, out, lists=lists)
        assert "sesame" not in str(caught.value)


def test_what_is_there_is_a_file(folder: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(folder, "http:/x.wav", "c:x.wav")
    monkeypatch.chdir(folder)
    assert relatives(scan(["http://x.wav", "c:x.wav"], out)) == ["x.wav", "c:x.wav"], "what is there is a file"
    (folder / "list").write_text("http://x.wav\n")
    assert relatives(scan([], out, lists=["list"])) == ["http:/x.wav"]


# From a list to recordings


def test_lists(folder: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(folder, "a/t.mp3", "b/t.mp3", "b/notes.txt", "c*.wav", "cd.wav", "data.csv")
    (folder / "list.txt").write_text(f"a/t.mp3\nb\nc*.wav\n{folder}/a/t.mp3\ngone.mp3\ndata.csv\n")
    monkeypatch.chdir("/")
    found = scan([], out, lists=[str(folder / "list.txt")])
    assert relatives(found) == ["a/t.mp3", "b/t.mp3", "c*.wav", "gone.mp3", "data.csv"], "no patterns, no manifests"
    assert found.ignored == 1
    assert [entry.missing for entry in found.found] == [False, False, False, True, False]


def test_a_manifest_may_be_given_as_a_list(folder: Path, out: Path) -> None:
    touch(folder, "t.mp3")
    (folder / "m.CSV").write_text("file_name,language\nt.mp3,de\n")
    (entry,) = scan([], out, lists=[str(folder / "m.CSV")]).found
    assert entry.row is not None
    assert entry.row.language == "de"


def test_standard_input_is_read_once(folder: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(folder, "-", "new\nline.mp3", "-x.mp3")
    monkeypatch.chdir(folder)
    read = iter([b"new\nline.mp3\0-x.mp3\0-\0"])
    found = scan(["-"], out, lists=["-"], read_stdin=lambda: next(read))
    assert relatives(found) == ["new\nline.mp3", "-x.mp3", "-"]
    assert found.present == 3


def test_a_list_from_a_pipe_belongs_to_the_working_folder(
    folder: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(folder, "a/t.mp3")
    monkeypatch.chdir(folder)
    reader, writer = os.pipe()
    try:
        os.write(writer, b"a/t.mp3\n")
        os.close(writer)
        (entry,) = scan([], out, lists=[f"/dev/fd/{reader}"]).found
        assert (entry.path, entry.missing) == (str(folder / "a/t.mp3"), False)
    finally:
        os.close(reader)


def test_lists_that_can_not_be(folder: Path, out: Path) -> None:
    touch(out, "x.wav")
    for path in (folder / "gone.txt", folder):
        with pytest.raises(UsageError, match=f"can't read {path}"):
            scan([], out, lists=[str(path)])
    (folder / "list.txt").write_text(f"{out}\n")
    with pytest.raises(UsageError, match="is the output folder"):
        scan([], out, lists=[str(folder / "list.txt")])
    with pytest.raises(UsageError, match="is the output folder"):
        scan([str(out)], out)
    with pytest.raises(UsageError, match="an input is empty"):
        scan([""], out)


# Patterns


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.mp3", ["a.mp3", "b.mp3"]),
        ("?.mp3", ["a.mp3", "b.mp3"]),
        ("[ab].mp3", ["a.mp3", "b.mp3"]),
        ("[!b].mp3", ["a.mp3"]),
        ("**/*.mp3", ["a.mp3", "b.mp3", "x/c.mp3", "x/y/d.mp3", "z/c.mp3"]),
        ("./x/../**/c.mp3", ["x/c.mp3", "z/c.mp3"]),
        ("*/c.mp3", ["x/c.mp3", "z/c.mp3"]),
        ("*/*.mp3", ["x/c.mp3", "z/c.mp3"]),
        ("*/o.mp3", None),
        ("x/**/d.mp3", ["y/d.mp3"]),
        ("x/**/**/*.mp3", ["c.mp3", "y/d.mp3"]),
        ("x/**", ["c.mp3", "y/d.mp3"]),
        ("[xz]", ["x/c.mp3", "x/y/d.mp3", "z/c.mp3"]),
        (".*.mp3", [".hidden.mp3"]),
        ("*/.h/*", ["x/.h/e.mp3"]),
        ("a.mp3/*", None),
        ("x/q*", None),
        ("gone/*.mp3", None),
        ("*.MP3", None),
    ],
)
def test_patterns(folder: Path, monkeypatch: pytest.MonkeyPatch, pattern: str, expected: list[str] | None) -> None:
    touch(folder, "a.mp3", "b.mp3", ".hidden.mp3", "x/c.mp3", "x/y/d.mp3", "x/.h/e.mp3", "z/c.mp3", "OUT/o.mp3")
    (folder / "x" / "circle").symlink_to(folder)
    monkeypatch.chdir(folder)
    for named in (pattern, f"{folder}/{pattern}"):
        found = scan([named], folder / "OUT")
        assert not found.unreadable
        if expected is None:
            assert [(entry.path, entry.missing) for entry in found.found] == [(os.path.abspath(named), True)]
        else:
            assert sorted(relatives(found)) == expected
            assert found.present == len(expected)


def test_a_name_that_looks_like_a_pattern_is_a_name(folder: Path, out: Path) -> None:
    touch(folder, "talk [1].mp3", "talk 1.mp3", "*.mp3")
    assert relatives(scan([str(folder / "talk [1].mp3")], out)) == ["talk [1].mp3"]
    assert relatives(scan([str(folder / "*.mp3")], out)) == ["*.mp3"]


def test_patterns_may_match_manifests_and_odd_names(folder: Path, out: Path) -> None:
    touch(folder, "t.mp3", "new\nline \udce9.mp3")
    (folder / "m.csv").write_text("file_name,language\nt.mp3,de\n")
    found = scan([str(folder / "*.cs?"), str(folder / "new*")], out)
    assert relatives(found) == ["t.mp3", "new\nline \udce9.mp3"]
    assert found.found[0].row is not None


def test_folders_that_a_pattern_can_not_look_into(folder: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(folder, "a/t.mp3", "closed/t.mp3")
    listdir = os.listdir

    def refuse(path: str) -> list[str]:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", path)
        return listdir(path)

    monkeypatch.setattr(os, "listdir", refuse)
    found = scan([str(folder / "*" / "*.mp3")], out)
    assert relatives(found) == ["a/t.mp3"]
    assert found.unreadable == {str(folder / "closed"): "Permission denied"}


# One path, one recording


def test_links_are_inputs_of_their_own(folder: Path, out: Path) -> None:
    touch(folder, "t.mp3")
    os.link(folder / "t.mp3", folder / "hard.mp3")
    (folder / "soft.mp3").symlink_to("t.mp3")
    (folder / "loop.mp3").symlink_to("loop.mp3")
    found = scan([str(folder)], out)
    assert relatives(found) == ["hard.mp3", "loop.mp3", "soft.mp3", "t.mp3"]
    assert len({entry.output for entry in describe(found.found, taken={})}) == 4


def test_names_that_are_too_long_are_missing(folder: Path, out: Path) -> None:
    (entry,) = scan([str(folder / ("x" * 300))], out).found
    assert entry == Found(str(folder / ("x" * 300)), entry.relative, missing=True)
