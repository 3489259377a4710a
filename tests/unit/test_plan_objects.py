"""Inputs in object stores, against a real server: what URIs stand for, and what is done again."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.store_proxy import StoreProxy
from tests.support.store_servers import StoreServer
from trax_ray.core.spec import BatchSpec
from trax_ray.core.task import BatchTask, FailureClass, Outcome
from trax_ray.errors import StoreError, UsageError
from trax_ray.kinds.assignment import Assignment
from trax_ray.kinds.run import make_attempt
from trax_ray.plan.inputs import Scan, scan
from trax_ray.plan.look import look_at
from trax_ray.plan.plan import Plan
from trax_ray.plan.planner import Planner, make_plan

SAMPLES = Path(__file__).parents[2] / "samples"
FILES = {
    "in/talks/a.mp3": b"a" * 10,
    "in/talks/b.WAV": b"b" * 11,
    "in/talks/deep/er/c.ogg": b"c" * 12,
    "in/notes.txt": b"n",
    "in/.hidden/d.mp3": b"d",
    "in/.e.mp3": b"e",
    "in/[2026] f.mp3": b"f",
    "inside.mp3": b"i",
}


@pytest.fixture
def server(stores: Callable[[str], StoreServer]) -> StoreServer:
    return stores("moto")


@pytest.fixture
def bucket(server: StoreServer, request: pytest.FixtureRequest) -> str:
    """A bucket with FILES, for one test."""
    name = f"test-{abs(hash(request.node.name)) % 10**9}"
    server.create_bucket(name)
    for key, data in FILES.items():
        server.put(name, key, data)
    return name


@pytest.fixture
def proxy(server: StoreServer, reach: Callable[[StoreServer], StoreProxy]) -> StoreProxy:
    return reach(server)


@pytest.fixture
def find(bucket: str, proxy: StoreProxy, tmp_path: Path) -> Callable[..., Scan]:
    def find_(*inputs: str, **more: object) -> Scan:
        return scan([each.replace("s3://B", f"s3://{bucket}") for each in inputs], tmp_path / "out", **more)  # type: ignore[arg-type]

    return find_


def names(found: Scan) -> list[str]:
    return [str(each.relative) for each in found.found]


@pytest.mark.long
def test_a_folder_is_all_media_below_it_and_costs_a_request_or_two(
    find: Callable[..., Scan], proxy: StoreProxy
) -> None:
    found = find("s3://B/in/")
    assert names(found) == ["[2026] f.mp3", "talks/a.mp3", "talks/b.WAV", "talks/deep/er/c.ogg"]
    assert found.ignored_suffixes == {".txt": 1}
    assert len(proxy.seen) == 1
    proxy.seen.clear()
    assert names(find("s3://B/in")) == names(found)
    assert len(proxy.seen) <= 3  # is it an object? Is its bucket there?


def test_a_bucket_is_a_folder_too(find: Callable[..., Scan]) -> None:
    assert "inside.mp3" in names(find("s3://B"))


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("s3://B/in/talks/*.mp3", ["a.mp3"]),
        ("s3://B/**/*.ogg", ["in/talks/deep/er/c.ogg"]),
        ("s3://B/in/*", ["[2026] f.mp3", "talks/a.mp3", "talks/b.WAV", "talks/deep/er/c.ogg"]),
        ("s3://B/in/t*/[ab].*", ["talks/a.mp3", "talks/b.WAV"]),
        ("s3://B/in/[[]2026] f.mp3", ["[2026] f.mp3"]),
        ("s3://B/in/[2026] f.mp3", ["[2026] f.mp3"]),
        ("s3://B/in/*.flac", []),
    ],
)
def test_patterns_match_as_on_a_disk(find: Callable[..., Scan], pattern: str, expected: list[str]) -> None:
    assert names(find(pattern)) == expected


def test_an_object_that_is_named_is_taken_whatever_it_is_and_a_missing_one_is_a_row(
    find: Callable[..., Scan],
) -> None:
    found = find("s3://B/in/notes.txt", "s3://B/in/nothing.mp3", "s3://B/in/notes.txt")
    assert [(str(each.relative), each.missing) for each in found.found] == [("notes.txt", False), ("nothing.mp3", True)]


def test_lists_and_manifests_name_objects_from_a_disk_and_from_a_store(
    find: Callable[..., Scan], server: StoreServer, bucket: str, proxy: StoreProxy, tmp_path: Path
) -> None:
    local = tmp_path / "list.csv"
    local.write_text(f"file_name,language,note\ns3://{bucket}/in/talks/a.mp3,de,x\ns3://{bucket}/gone.mp3,,\n")
    found = find(str(local))
    assert [(each.missing, each.row and each.row.language) for each in found.found] == [(False, "de"), (True, None)]

    server.put(
        bucket, "in/list.jsonl", b'{"file_name": "talks/a.mp3", "language": "de"}\n{"file_name": "inside.mp3"}\n'
    )
    found = find("s3://B/in/list.jsonl")
    assert names(found) == ["talks/a.mp3", "inside.mp3"]
    assert [each.missing for each in found.found] == [False, True]

    server.put(bucket, "in/list.txt", b"talks/a.mp3\ntalks/b.WAV\n")
    assert names(find(lists=["s3://B/in/list.txt".replace("s3://B", f"s3://{bucket}")])) == [
        "talks/a.mp3",
        "talks/b.WAV",
    ]

    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(pa.table({"file_name": [f"s3://{bucket}/in/talks/a.mp3"], "language": ["fr"]}), sink)
    server.put(bucket, "in/list.parquet", sink.getvalue())
    found = find("s3://B/in/list.parquet")
    assert [each.row and each.row.language for each in found.found] == ["fr"]
    with pytest.raises(UsageError, match="isn't there"):
        find(lists=[f"s3://{bucket}/nothing.csv"])


def test_many_rows_are_looked_up_together(
    find: Callable[..., Scan], bucket: str, proxy: StoreProxy, tmp_path: Path
) -> None:
    rows = "".join(f"s3://{bucket}/in/talks/a.mp3?{number}.mp3\n" for number in range(100))
    (tmp_path / "list.txt").write_text(rows + f"s3://{bucket}/in/talks/a.mp3\n")
    found = find(lists=[str(tmp_path / "list.txt")])
    assert [each.missing for each in found.found].count(False) == 1
    assert proxy.methods()["HEAD"] == 101


def test_a_name_that_cant_be_asked_for_hides_its_folder_alone(
    find: Callable[..., Scan], server: StoreServer, bucket: str
) -> None:
    server.put(bucket, "in/odd/a\tb.mp3", b"x")
    found = find("s3://B/in")
    assert names(found) == ["[2026] f.mp3", "talks/a.mp3", "talks/b.WAV", "talks/deep/er/c.ogg"]
    assert list(found.unreadable) == [f"s3://{bucket}/in/odd"]


def test_a_bucket_that_isnt_there_ends_it_before_anything_starts(find: Callable[..., Scan]) -> None:
    with pytest.raises(StoreError, match="there is no bucket nowhere"):
        find("s3://nowhere/in")


# From the plan to the transcript


def planned(spec: BatchSpec, *inputs: str) -> Plan:
    return make_plan(inputs, spec)


def test_only_what_has_changed_is_planned_as_other_work(
    server: StoreServer, bucket: str, proxy: StoreProxy, tmp_path: Path
) -> None:
    spec = BatchSpec(str(tmp_path / "out"), model="pocketsphinx")
    uri = f"s3://{bucket}/in/talks"
    first = planned(spec, uri)
    assert [task.fingerprint for task in planned(spec, uri).tasks] == [task.fingerprint for task in first.tasks]
    # Named itself it is looked up with another request, whose answer is less exact.
    (alone,) = planned(spec, f"{uri}/a.mp3").tasks
    assert alone.fingerprint == planned(spec, f"{uri}/a.mp3").tasks[0].fingerprint
    server.put(bucket, "in/talks/a.mp3", b"A" * 10)
    again = planned(spec, uri)
    changed = [
        one.id for one, other in zip(first.tasks, again.tasks, strict=True) if one.fingerprint != other.fingerprint
    ]
    assert [task.data["name"] for task in again.tasks if task.id in changed] == ["a.mp3"]


def test_a_look_before_the_start_leaves_stores_alone(bucket: str, proxy: StoreProxy, tmp_path: Path) -> None:
    plan = planned(BatchSpec(str(tmp_path / "out"), model="pocketsphinx"), f"s3://{bucket}/in/talks")
    proxy.seen.clear()
    look = look_at(plan, within_s=10.0, processes=1)
    assert (look.found, look.broken, proxy.seen) == ({}, {}, [])


def attempt(spec: BatchSpec, task: BatchTask) -> Outcome:
    *_, outcome = make_attempt(Assignment(spec, task))
    assert isinstance(outcome, Outcome)
    return outcome


@pytest.mark.long
def test_a_recording_is_transcribed_from_its_store_as_from_a_disk_and_with_few_requests(
    server: StoreServer, bucket: str, proxy: StoreProxy, tmp_path: Path
) -> None:
    server.put(bucket, "speech/first_test.wav", (SAMPLES / "first_test.wav").read_bytes())
    spec = BatchSpec(str(tmp_path / "out"), model="pocketsphinx", preprocess=False)
    (task,) = planned(spec, f"s3://{bucket}/speech").tasks
    assert task.data["file_path"] == f"s3://{bucket}/speech/first_test.wav"
    proxy.seen.clear()
    outcome = attempt(spec, task)
    assert outcome.failure is None
    assert len(proxy.seen) == 2  # a look, and its bytes
    other = BatchSpec(str(tmp_path / "other"), model="pocketsphinx")
    (local,) = planned(other, str(SAMPLES / "first_test.wav")).tasks
    attempt(other, local)
    assert (tmp_path / "out" / "first_test.txt").read_text() == (tmp_path / "other" / "first_test.txt").read_text()
    proxy.seen.clear()
    assert attempt(spec, task).metrics["cached"]
    assert proxy.methods() == {"HEAD": 1}


def test_a_recording_that_isnt_there_is_one_failure_and_a_bucket_that_isnt_parks_the_batch(
    server: StoreServer, bucket: str, proxy: StoreProxy, tmp_path: Path
) -> None:
    spec = BatchSpec(str(tmp_path / "out"), model="pocketsphinx")
    tasks = planned(spec, f"s3://{bucket}/in/talks").tasks
    gone = attempt(spec, BatchTask("x", tasks[0].task_type, {**tasks[0].data, "file_path": f"s3://{bucket}/gone.mp3"}))
    assert gone.failure is not None
    assert (gone.failure.failure_class, gone.failure.code) == (FailureClass.PERMANENT, "not_found")
    away = attempt(spec, BatchTask("x", tasks[0].task_type, {**tasks[0].data, "file_path": "s3://nowhere/a.mp3"}))
    assert away.failure is not None
    assert (away.failure.failure_class, away.failure.code, away.failure.parks) == (
        FailureClass.CONFIG,
        "no_such_bucket",
        "*",
    )


def test_a_call_takes_a_uri(bucket: str, proxy: StoreProxy, tmp_path: Path) -> None:
    from trax_ray.core.task import TaskType

    spec = BatchSpec(str(tmp_path / "out"), model="pocketsphinx")
    call = Planner(spec.output_dir).call(
        spec, TaskType.TRANSCRIBE, {"file_path": f"s3://{bucket}/in/talks/a.mp3"}, 0, ()
    )
    assert call.steps[-1].data["file_path"] == f"s3://{bucket}/in/talks/a.mp3"
    assert call.steps[-1].data["size_bytes"] == 10
