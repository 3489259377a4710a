"""A whole batch whose output folder is in an object store, against a real server, without Ray."""

from __future__ import annotations

import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import soundfile
from typer.testing import CliRunner

from tests.support.in_process import run_batch, run_tasks
from tests.support.media_server import Answer, MediaServer
from tests.support.store_proxy import Faults, StoreProxy
from tests.support.store_servers import StoreServer
from trax_ray import create_batch_processor
from trax_ray.cli.app import app
from trax_ray.control import BatchControl, Outcome, Phase
from trax_ray.core.progress import BatchProgress
from trax_ray.core.spec import BatchSpec
from trax_ray.core.standing import fold
from trax_ray.core.task import BatchTask
from trax_ray.errors import NetworkError, StoreError, UsageError
from trax_ray.media.decode import read
from trax_ray.report.fold import History, read_history
from trax_ray.report.frames import read_table
from trax_ray.report.result import BatchResult, result_of
from trax_ray.report.search import search
from trax_ray.report.write import write_history, write_report
from trax_ray.store import creating, inbox
from trax_ray.store.layout import Layout
from trax_ray.store.lease import Lease
from trax_ray.store.objects import forget_clients
from trax_ray.store.outputs import write_files
from trax_ray.store.reach import out_of_reach, sign
from trax_ray.store.stored_outputs import StoredOutputs
from trax_ray.store.writing import write_atomically
from trax_ray.testing.factories import make_spec, make_task
from trax_ray.testing.history import check

SAMPLE = Path(__file__).parents[2] / "samples" / "talks" / "weather.ogg"
BUCKET = "outputs"

RUN_REQUESTS = 40
"""What a run costs besides its recordings: the lease, the epoch, what came before, groups that no recording causes."""

RECORDING_REQUESTS = 30
"""What one recording costs: looks for what is there, its artifact, five transcripts and their note, two groups."""


@pytest.fixture(scope="module", params=["moto", "seaweedfs"])
def server(request: pytest.FixtureRequest, stores: Callable[[str], StoreServer]) -> StoreServer:
    running = stores(request.param)
    running.create_bucket(BUCKET)
    return running


@pytest.fixture
def out(request: pytest.FixtureRequest, proxy: StoreProxy) -> str:
    """An output folder that no other test has."""
    return f"s3://{BUCKET}/{abs(hash(request.node.name)) % 10**12}"


@pytest.fixture
def spec(out: str) -> BatchSpec:
    return BatchSpec(out, model="pocketsphinx")


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is said in three seconds: to hear more of it takes time and shows nothing."""
    path = tmp_path_factory.mktemp("recordings") / "weather.ogg"
    soundfile.write(path, read(SAMPLE, end_s=3.0), 16_000)
    return path


def key_of(out: str, name: str) -> str:
    return f"{out.split('/', 3)[3]}/{name}"


def text_of(server: StoreServer, out: str, name: str) -> str:
    return server.get(BUCKET, key_of(out, name)).decode()


def transcribed(spec: BatchSpec, recording: Path) -> None:
    """Run a batch to its end, with its report."""
    run_batch([recording], spec)
    write_report(spec.output_dir, final=True)


def command_line(*arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output


def test_all_lies_in_the_store_and_the_same_batch_again_has_nothing_to_do(
    clip: Path, server: StoreServer, spec: BatchSpec, out: str, proxy: StoreProxy, tmp_path: Path
) -> None:
    ended = run_batch([clip], spec)
    assert list(ended.states.values()) == ["succeeded"]
    assert len(proxy.seen) <= RUN_REQUESTS + RECORDING_REQUESTS
    text = text_of(server, out, "weather.txt")
    assert "weather" in text.lower()
    for suffix in ("srt", "vtt", "tsv", "json"):
        assert text_of(server, out, f"weather.{suffix}")
    again = run_batch([clip], spec)
    assert again.attempts == []
    assert check(out).problems == ()
    assert text_of(server, out, "weather.txt") == text


@pytest.mark.long
def test_requests_grow_with_the_tasks_and_no_faster(out: str, proxy: StoreProxy) -> None:
    spec, count = make_spec(out), 40
    tasks = [make_task(f"t{number}", script=["commit"]) for number in range(count)]
    run_tasks(tasks, spec)
    # An artifact and an output, and two groups in the journal, with a look at the epoch after each.
    assert len(proxy.seen) <= RUN_REQUESTS + 6 * count
    for wanted in (2 * count + 20, 20):  # groups, which another process reads for the first time
        proxy.seen.clear()
        assert len(read_history(out).attempts) == count
        assert len(proxy.seen) <= wanted
    proxy.seen.clear()
    assert run_tasks(tasks, spec).attempts == []
    assert len(proxy.seen) <= RUN_REQUESTS


@pytest.mark.long
def test_a_whole_bucket_may_be_the_folder(server: StoreServer, proxy: StoreProxy) -> None:
    server.create_bucket("mine-alone")
    run_tasks([make_task("t", script=["commit"])], make_spec("s3://mine-alone"))
    assert server.get("mine-alone", "t.txt")
    assert "mine-alone: complete" in command_line("status", "s3://mine-alone/")
    assert check("s3://mine-alone").problems == ()
    command_line("report", "s3://mine-alone")
    command_line("clean", "s3://mine-alone", "--everything")
    assert "t.txt" in server.keys("mine-alone")


@pytest.mark.long
def test_a_transcript_that_was_deleted_is_written_again_and_nothing_is_heard_twice(
    clip: Path, server: StoreServer, spec: BatchSpec, out: str
) -> None:
    run_batch([clip], spec)
    text = text_of(server, out, "weather.txt")
    creating.delete_object(Layout.of(f"{out}/weather.txt").output_dir)  # type: ignore[arg-type]
    again = run_batch([clip], spec)
    (record,) = again.state.records.values()
    assert record.metrics["cached"]
    assert text_of(server, out, "weather.txt") == text


@pytest.mark.long
def test_what_somebody_else_wrote_or_changed_is_kept(
    clip: Path, server: StoreServer, spec: BatchSpec, out: str
) -> None:
    server.put(BUCKET, key_of(out, "weather.txt"), b"mine")
    ended = run_batch([clip], spec)
    assert "weather.new.txt" in ended.outputs("weather.ogg")
    assert text_of(server, out, "weather.txt") == "mine"
    assert "weather" in text_of(server, out, "weather.new.txt").lower()
    server.put(BUCKET, key_of(out, "weather.srt"), b"corrected")
    creating.delete_object(Layout.of(f"{out}/weather.vtt").output_dir)  # type: ignore[arg-type]
    again = run_batch([clip], spec)
    assert "weather.new.srt" in again.outputs("weather.ogg")
    assert "weather.new-2.txt" not in again.outputs("weather.ogg")
    assert text_of(server, out, "weather.srt") == "corrected"


@pytest.mark.long
def test_what_is_ours_is_replaced_and_what_came_meanwhile_is_kept(
    server: StoreServer, out: str, proxy: StoreProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = Layout.of(out)
    wanted = {"a/b.txt": b"one", "a/b.srt": b"one"}
    assert write_files(layout, "f", wanted) == ["a/b.txt", "a/b.srt"]
    assert proxy.methods() == {"GET": 3, "PUT": 3}
    assert write_files(layout, "f", wanted | {"a/b.txt": b"two"}) == ["a/b.txt", "a/b.srt"]
    assert text_of(server, out, "a/b.txt") == "two"

    # Somebody writes between our look and our writing, where something stands and where nothing does.
    remember = StoredOutputs._remember

    def late(outputs: StoredOutputs, about_to_be: dict[str, bytes]) -> None:
        remember(outputs, about_to_be)
        monkeypatch.setattr(StoredOutputs, "_remember", remember)
        for name in ("a/b.txt", "a/b.vtt"):
            server.put(BUCKET, key_of(out, name), b"theirs")

    monkeypatch.setattr(StoredOutputs, "_remember", late)
    found = write_files(layout, "f", {"a/b.txt": b"three", "a/b.vtt": b"three", "a/b.srt": b"one"})
    assert found == ["a/b.new.txt", "a/b.new.vtt", "a/b.srt"]
    assert [text_of(server, out, name) for name in ("a/b.txt", "a/b.vtt")] == ["theirs", "theirs"]
    assert [text_of(server, out, name) for name in found] == ["three", "three", "one"]
    assert write_files(layout, "f", {"a/b.vtt": b"four"}) == ["a/b.new.vtt"]


@pytest.mark.parametrize("kind", ["409", "lost", "500", "503", "cut"])
@pytest.mark.long
def test_a_file_is_written_once_whatever_became_of_the_first_answer(
    server: StoreServer, out: str, proxy: StoreProxy, kind: str
) -> None:
    for content in (b"one", b"two"):
        proxy.faults = Faults(next_up=["", "", "", kind])  # the note, the file, the note, and then the file itself
        assert write_files(Layout.of(out), f"f-{kind}", {f"{kind}.txt": content}) == [f"{kind}.txt"]
        assert server.get(BUCKET, key_of(out, f"{kind}.txt")) == content


@pytest.mark.long
def test_a_batch_goes_through_one_in_ten_requests_that_fail(
    clip: Path, server: StoreServer, spec: BatchSpec, out: str, proxy: StoreProxy
) -> None:
    proxy.faults = Faults(rate=0.1, seed=3, slow_s=0.01)
    transcribed(spec, clip)
    assert sum(bool(each.fault) for each in proxy.seen) > 3
    assert "weather" in text_of(server, out, "weather.txt").lower()
    assert check(out).problems == ()


@pytest.mark.long
def test_names_that_no_store_takes_are_given_others(
    clip: Path, spec: BatchSpec, server: StoreServer, out: str, tmp_path: Path
) -> None:
    odd = tmp_path / "in"
    odd.mkdir()
    for name in (b"a\nb.ogg", b"a\rb.ogg", b"\xff.ogg"):
        (odd / name.decode("utf-8", "surrogateescape")).write_bytes(clip.read_bytes())
    ended = run_batch([odd], spec)
    assert list(ended.states.values()) == ["succeeded"] * 3
    texts = [key for key in server.keys(BUCKET, key_of(out, "")) if key.endswith(".txt")]
    assert len(texts) == 3


@pytest.mark.long
def test_a_uri_that_was_made_a_path_is_refused_and_not_taken_for_a_folder() -> None:
    with pytest.raises(UsageError, match="was a URI before it was made a Path"):
        create_batch_processor(output_dir=Path("s3://bucket/folder"))
    assert create_batch_processor(output_dir="S3://bucket/a/", model="tiny").spec.output_dir == "s3://bucket/a"


@pytest.mark.long
def test_credentials_in_a_uri_are_refused_and_not_repeated() -> None:
    with pytest.raises(UsageError, match="has no credentials in it") as refused:
        create_batch_processor(output_dir="s3://AKIA:hunter2@bucket/folder")
    assert "hunter2" not in str(refused.value)


@pytest.mark.long
def test_a_job_may_write_to_a_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    assert create_batch_processor(output_dir="s3://bucket/a", model="tiny").spec.name == "a"


@pytest.mark.long
def test_doctor_tries_the_store(out: str, proxy: StoreProxy) -> None:
    said = CliRunner().invoke(app, ["doctor", "--output-dir", out]).output
    assert f"{out}, which creates without overwriting" in said
    assert proxy.methods("preflight")["PUT"] == 2


@pytest.mark.long
def test_converted_audio_that_is_kept_is_sent_whole(clip: Path, server: StoreServer, out: str) -> None:
    server.put(BUCKET, key_of(out, "audio/weather.flac"), b"mine")
    spec = BatchSpec(out, model="pocketsphinx", preprocess=True, keep_audio=True)
    ended = run_batch([clip], spec)
    assert set(ended.states.values()) == {"succeeded"}
    assert server.get(BUCKET, key_of(out, "audio/weather.flac")) == b"mine"
    assert server.get(BUCKET, key_of(out, "audio/weather.new.flac"))[:4] == b"fLaC"
    assert not list((Layout.of(out).work / "audio").rglob("*.flac"))
    creating.delete_object(Layout.of(f"{out}/audio/weather.new.flac").output_dir)  # type: ignore[arg-type]
    again = run_batch([clip], spec)
    assert len(again.attempts) == 1
    assert server.get(BUCKET, key_of(out, "audio/weather.new.flac"))[:4] == b"fLaC"
    assert run_batch([clip], spec).attempts == []


@pytest.mark.long
def test_what_is_fetched_and_kept_is_sent_whole(
    server: StoreServer, out: str, web: MediaServer, weather: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    web.answers["/weather.ogg"] = Answer(weather, "audio/ogg")
    monkeypatch.setattr("trax_ray.store.stored_outputs._LARGE_BYTES", 1000)
    spec = BatchSpec(out, model="pocketsphinx", keep_media=True, allow_private_network=True)
    ended = run_batch([f"{web.url}/weather.ogg"], spec)
    assert set(ended.states.values()) == {"succeeded"}
    assert server.get(BUCKET, key_of(out, "media/weather.ogg")) == weather
    assert "weather" in text_of(server, out, "weather.txt").lower()
    assert not [path for path in (Layout.of(out).work / "media").rglob("*") if path.is_file()]
    asked = len(web.asked)
    assert run_batch([f"{web.url}/weather.ogg"], spec).attempts == []
    assert len(web.asked) == asked
    fetched = run_batch([f"{web.url}/weather.ogg"], BatchSpec(f"{out}/2", task="download", allow_private_network=True))
    assert set(fetched.states.values()) == {"succeeded"}
    assert server.get(BUCKET, key_of(out, "2/media/weather.ogg")) == weather
    assert not [path for path in (Layout.of(f"{out}/2").work / "media").rglob("*") if path.is_file()]


@pytest.mark.long
def test_converted_audio_lies_on_this_machine_until_the_transcript_is_there(
    clip: Path, out: str, server: StoreServer
) -> None:
    spec = BatchSpec(out, model="pocketsphinx", preprocess=True)
    ended = run_batch([clip], spec)
    assert set(ended.states.values()) == {"succeeded"}
    work = Layout.of(out).work
    assert not [path for path in (work / "audio").rglob("*") if path.is_file()]
    assert not [key for key in server.keys(BUCKET, key_of(out, "")) if key.endswith(".flac")]


# The report


@pytest.mark.long
def test_the_report_is_in_the_store_and_can_be_read_from_there(
    clip: Path, server: StoreServer, spec: BatchSpec, out: str, proxy: StoreProxy
) -> None:
    transcribed(spec, clip)
    assert list(read_table(out, "files")["file_name"]) == ["weather.ogg"]
    assert json.loads(text_of(server, out, "report/run.json"))["status"] == "complete"
    page = text_of(server, out, "report/index.html")
    assert "weather.ogg" not in page  # packed
    assert out in page
    found = search(out, "weather")
    assert found.file_count == 1
    proxy.seen.clear()
    assert search(out, "weather").file_count == 1
    assert len(proxy.seen) <= 2  # the index is on this machine; are the tables what they were?
    assert not [key for key in server.keys(BUCKET, key_of(out, "")) if key.endswith(".sqlite")]


@pytest.mark.long
def test_commands_that_look_at_a_batch_take_uris(clip: Path, server: StoreServer, spec: BatchSpec, out: str) -> None:
    transcribed(spec, clip)
    assert "1 of 1 succeeded" in command_line("status", out)
    assert "weather" in command_line("search", out, "weather")
    assert out in command_line("report", out)
    assert '"file_name": "weather.ogg"' in command_line("export", out, "--format", "jsonl")
    assert "1 file beside the transcripts" in command_line("export", out, "--format", "textgrid")
    assert "weather" in text_of(server, out, "weather.TextGrid")
    assert "not running: complete" in command_line("watch", out)
    server.put(BUCKET, key_of(out, ".trax/.tmp-0123456789abcdef"), b"x")
    command_line("clean", out)
    command_line("clean", out, "--everything")
    left = {key.split("/", 1)[1] for key in server.keys(BUCKET, key_of(out, ""))}
    assert [name.partition("0")[0] for name in left if name.startswith(".trax/")] == [".trax/lock."]
    assert sorted({name.split("/")[0] for name in left}) == [
        ".trax",
        "report",
        *(f"weather.{each}" for each in ("TextGrid", "json", "srt", "tsv", "txt", "vtt")),
    ]


@pytest.mark.long
def test_a_report_that_cant_be_sent_leaves_the_old_one_and_no_temporary_files(
    server: StoreServer, out: str, proxy: StoreProxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run_tasks([make_task("t", script=["commit"])], make_spec(out))
    write_report(out, final=True)
    before = {name: text_of(server, out, f"report/{name}") for name in ("run.json", "index.html")}
    run_tasks([make_task("u", script=["commit"])], make_spec(out))
    read_history(out)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setattr("trax_ray.store.credentials._RETRIES", {"max_retries": 0})
    forget_clients()
    proxy.faults = Faults(rate=1.0, kinds=("500",))
    with pytest.raises(NetworkError, match="the store is in trouble"):
        write_history(out, read_history_of(proxy, out), final=True)
    assert list(temporary.iterdir()) == []
    assert {name: text_of(server, out, f"report/{name}") for name in before} == before


def read_history_of(proxy: StoreProxy, out: str) -> History:
    """The history, for which the store is asked without faults."""
    faults, proxy.faults = proxy.faults, Faults()
    try:
        return read_history(out)
    finally:
        proxy.faults = faults


# Steering


@contextmanager
def at_work(out: str) -> Iterator[list[str]]:
    """Holds a folder, and takes up what is asked for, as a coordinator does; gives what was."""
    layout, ended, taken = Layout.of(out), threading.Event(), list[str]()
    lease = Lease(layout.lock, heartbeat=True)
    lease.acquire("batch talks")

    def obey() -> None:
        phase = "running"
        while not ended.wait(0.05):
            for request in inbox.waiting(layout.inbox):
                taken.append(request.command)
                phase = "paused" if request.command == "pause" else "running"
                inbox.remove(layout.inbox, request.name)
            write_status(phase)

    def write_status(phase: str) -> None:
        import os
        import platform

        said = {"batch": "talks", "phase": phase, "pid": os.getpid(), "host": platform.node()}
        write_atomically(layout.status, json.dumps(said | {"updated_at": time.time()}).encode())

    thread = threading.Thread(target=obey)
    thread.start()
    try:
        yield taken
    finally:
        ended.set()
        thread.join()
        lease.release()


@pytest.mark.long
def test_a_batch_that_runs_is_seen_and_steered(
    clip: Path, spec: BatchSpec, out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    monkeypatch.setattr("platform.node", socket.gethostname)
    monkeypatch.setattr("trax_ray.control.STORED_POLL_S", 0.05)
    run_batch([clip], spec)
    with at_work(out) as taken:
        control = BatchControl(out)
        assert control.pause().outcome is Outcome.TAKEN_UP
        assert control.status().phase is Phase.PAUSED
        assert control.resume().outcome is Outcome.TAKEN_UP
        assert taken == ["pause", "resume"]
    assert BatchControl(out).pause().outcome is Outcome.LEFT
    assert BatchControl(out).status().requests == ("pause",)


# The command, with a driver that runs attempts in this process


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    class Driver:
        def __init__(self, spec: BatchSpec, **_: Any) -> None:
            self._spec, self._tasks, self._closed = spec, list[BatchTask](), threading.Event()

        def connect(self, requests: object) -> SimpleNamespace:
            return SimpleNamespace(dashboard_url="")

        def gpus(self) -> float:
            return 0.0

        def check_nodes(self, tasks: list[BatchTask]) -> None:
            with sign(Layout.of(self._spec.output_dir)) as (path, token):
                reason = out_of_reach([], path, token)
            assert not reason

        def open(self) -> None:
            pass

        def add(self, tasks: list[BatchTask]) -> int:
            self._tasks += tasks
            return 100

        def command(self, name: str) -> None:
            self._closed.set()

        def snapshot(self) -> BatchProgress:
            return BatchProgress()

        def seen(self) -> tuple[()]:
            return ()

        def wait(self, timeout_s: float) -> BatchResult | None:
            if not self._closed.wait(timeout_s):
                return None
            ended = run_tasks(self._tasks, self._spec)
            write_report(self._spec.output_dir, final=True)
            return result_of(ended.state, fold(ended.state, ended.state.now, {}), self._spec.output_dir)

        def close(self) -> None:
            pass

    monkeypatch.setattr("trax_ray.cluster.driver.Driver", Driver)


def test_the_command_writes_to_a_store_goes_on_there_and_is_resumed_by_its_name(
    clip: Path, in_process: None, server: StoreServer, out: str, proxy: StoreProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trax_ray.heads.notes.reap_orphans", lambda: 0)
    said = command_line("batch", str(clip), "-o", out, "--model", "pocketsphinx")
    assert f"Transcripts: {out}" in said
    assert f"Report: {out}/report/index.html" in said
    assert "weather" in text_of(server, out, "weather.txt").lower()
    proxy.seen.clear()
    command_line("batch", str(clip), "-o", f"{out}/", "--model", "pocketsphinx")
    assert len(proxy.seen) <= 40
    assert proxy.methods("journal")["PUT"] == 0  # there was nothing to do
    creating.delete_object(Layout.of(f"{out}/weather.srt").output_dir)  # type: ignore[arg-type]
    command_line("resume", out)
    assert text_of(server, out, "weather.srt")
    everything = [server.get(BUCKET, key) for key in server.keys(BUCKET, key_of(out, ""))]
    assert not [data for data in everything if b"AWS_" in data or b"Signature" in data]


# Stores that can't be used


@pytest.mark.long
def test_a_store_that_overwrites_is_refused(
    stores: Callable[[str], StoreServer], reach: Callable[..., StoreProxy]
) -> None:
    server = stores("rclone")
    server.create_bucket(BUCKET)
    reach(server)
    folder = Layout.of(f"s3://{BUCKET}/o").private
    with pytest.raises(StoreError, match="overwrites an object"):
        creating.expect_creation(folder)  # type: ignore[arg-type]
