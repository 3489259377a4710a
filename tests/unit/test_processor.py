"""What the processor does before it needs Ray. A driver that runs nothing stands where Ray is."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from trax_ray import TaskType, create_batch_processor
from trax_ray.cli.app import app
from trax_ray.core.policy.prediction import Observation
from trax_ray.core.progress import BatchProgress
from trax_ray.core.spec import BatchSpec
from trax_ray.core.state.events import AttemptEnded, CoordinatorStarted, Revived, Started, TasksAdded
from trax_ray.core.task import BatchTask, Outcome
from trax_ray.errors import QueueFull, SetupError, UsageError
from trax_ray.plan.models import pin_model, pinned_model, provider_for, resolve_model
from trax_ray.plan.plan import Plan
from trax_ray.plan.planner import Planner
from trax_ray.processor import BatchProcessor
from trax_ray.report.result import BatchResult
from trax_ray.store import epochs
from trax_ray.store.batch_journal import BatchJournal
from trax_ray.store.layout import Layout


class Ran:
    """What drivers were given, and what they leave behind."""

    def __init__(self) -> None:
        self.starts = 0
        self.gpus = 0.0
        self.tasks: list[BatchTask] = []
        self.requests: set[Any] = set()
        self.succeed = False
        self.opening = False
        self.at_close: list[BatchTask] = []

    def named(self, kind: TaskType = TaskType.TRANSCRIBE) -> dict[str, BatchTask]:
        """The tasks of a kind by the names that people see."""
        return {str(task.data["name"]): task for task in self.tasks if task.task_type is kind}


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> Ran:
    """Batches get as far as their coordinator, which journals what it is given, and runs nothing."""
    seen = Ran()

    class Driver:
        def __init__(self, spec: BatchSpec, **_: Any) -> None:
            self._spec, self._closed = spec, threading.Event()

        def connect(self, requests: Any) -> Any:
            seen.starts += 1
            seen.tasks, seen.requests = [], set(requests)
            return SimpleNamespace(dashboard_url="")

        def gpus(self) -> float:
            return seen.gpus

        def check_nodes(self, tasks: list[BatchTask]) -> None:
            pass

        def open(self) -> None:
            seen.opening = True
            self._book = BatchJournal.open(Layout(Path(self._spec.output_dir)), "a test", 0.0)
            seen.opening = False
            run = f"run {self._book.epoch}"
            self._book.commit([CoordinatorStarted(self._book.epoch, self._spec.to_dict(), run=run)], 1.0)

        def add(self, tasks: list[BatchTask]) -> int:
            new = [task for task in tasks if task.id not in self._book.state.records]
            if new:
                self._book.commit([TasksAdded(tuple(new))], 2.0)
            seen.tasks += tasks
            return 9

        def command(self, name: str) -> None:
            if name in ("close", "stop"):
                seen.at_close = [*seen.tasks]
                self._closed.set()

        def snapshot(self) -> BatchProgress:
            return BatchProgress()

        def seen(self) -> tuple[Observation, ...]:
            return ()

        def wait(self, timeout_s: float) -> BatchResult | None:
            if not self._closed.wait(timeout_s):
                return None
            left = [task for task in seen.tasks if not self._book.state.records[task.id].state.terminal]
            for task in left if seen.succeed else ():
                self._book.commit([Started(((task.id, 1),))], 3.0)
                self._book.commit([AttemptEnded(task.id, self._book.epoch, 1, Outcome())], 4.0)
            return BatchResult()

        def close(self) -> None:
            self._book.close()

    monkeypatch.setattr("trax_ray.cluster.driver.Driver", Driver)
    return seen


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def processor(tmp_path: Path, **options: Any) -> BatchProcessor:
    return create_batch_processor(output_dir=tmp_path / "out", **{"model": "pocketsphinx", **options})


# Calls


async def test_on_a_cluster_with_gpus_a_model_that_can_use_one_asks_for_it(tmp_path: Path, ran: Ran) -> None:
    batch = processor(tmp_path, model="tiny")
    await batch.add_task(TaskType.TRANSCRIBE, {"file_path": "a.wav"})
    await batch.add_task(TaskType.TRANSCRIBE, {"file_path": "b.wav", "model": "pocketsphinx"})
    await batch.add_task(TaskType.PREPROCESS, {"file_path": "a.wav"})
    ran.gpus = 2.0
    await batch.start()
    assert [task.resources.num_gpus for task in ran.tasks] == [1.0, 0.0, 0.0]


async def test_languages_are_taken_by_their_names_and_refused_before_any_work(tmp_path: Path, ran: Ran) -> None:
    batch = create_batch_processor(output_dir=str(tmp_path / "out"), model="small", language="German")
    assert batch.spec.language == "de"
    assert create_batch_processor(output_dir=str(tmp_path / "out"), language="auto").spec.language is None
    await batch.add_task(TaskType.TRANSCRIBE, {"file_path": "a.wav", "language": "Welsh"})
    with pytest.raises(UsageError, match=r"data\['language'\]: expected the code of a language such as de"):
        await batch.add_task(TaskType.TRANSCRIBE, {"file_path": "b.wav", "language": "xx"})
    await batch.start()
    (task,) = ran.tasks
    assert task.data["language"] == "cy"
    with pytest.raises(UsageError, match="got 'xx'"):
        create_batch_processor(output_dir=str(tmp_path / "out"), language="xx")


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_progress_callback_that_raises_is_noted_once_and_the_batch_goes_on(
    tmp_path: Path, ran: Ran, caplog: pytest.LogCaptureFixture, is_async: bool
) -> None:
    told = []

    def fails(progress: BatchProgress) -> None:
        told.append(progress)
        raise ZeroDivisionError("of the user's own")

    async def fails_later(progress: BatchProgress) -> None:
        fails(progress)

    batch = processor(tmp_path, progress_interval=0.01)
    await batch.add_task(TaskType.TRANSCRIBE, {"file_path": "a.wav"})
    await batch.start(progress_callback=fails_later if is_async else fails)
    assert len(told) > 1
    assert len([record for record in caplog.records if "progress callback failed" in record.message]) == 1
    assert "of the user's own" in caplog.text


async def test_a_model_of_its_own_decides_on_provider_memory_and_language(tmp_path: Path, ran: Ran) -> None:
    batch = processor(tmp_path)
    await batch.add_task(TaskType.TRANSCRIBE, {"file_path": "a.wav", "model": "small", "language": "de"})
    with pytest.raises(UsageError, match="pocketsphinx"):
        await batch.add_task(TaskType.TRANSCRIBE, {"file_path": "b.wav", "language": "de"})
    await batch.start()
    (task,) = ran.tasks
    assert (task.provider, task.resources.memory_mb, task.data["language"]) == ("faster-whisper", 1024, "de")


async def test_the_same_calls_give_the_same_ids_in_the_next_run(tmp_path: Path) -> None:
    async def ids() -> list[str]:
        batch = processor(tmp_path)
        calls = [
            (TaskType.TRANSCRIBE, {"file_path": "a.wav"}),
            (TaskType.TRANSCRIBE, {"file_path": "a.wav"}),
            (TaskType.YOUTUBE, {"url": "https://example.org"}),
            (TaskType.YOUTUBE, {"url": "https://example.org"}),
        ]
        return [await batch.add_task(kind, data) for kind, data in calls]

    first = await ids()
    assert len(set(first)) == 4
    assert await ids() == first


async def test_a_call_that_is_refused_leaves_no_trace(tmp_path: Path, ran: Ran) -> None:
    batch = processor(tmp_path)
    with pytest.raises(UsageError):
        await batch.add_task(TaskType.TRANSCRIBE, {"file_path": "a.wav", "language": "de"})
    await batch.add_task(TaskType.TRANSCRIBE, {"file_path": "a.wav"})
    await batch.start()
    assert [task.data["output"] for task in ran.tasks] == ["a"]


@pytest.mark.parametrize("refusal", ["a full queue", "too little memory", "given up while it waits"])
async def test_a_call_that_is_refused_uses_up_no_name(tmp_path: Path, ran: Ran, refusal: str) -> None:
    batch = processor(tmp_path, queue_size=1)
    call = TaskType.TRANSCRIBE, {"file_path": "cards.wav"}
    if refusal == "too little memory":
        with pytest.raises(SetupError, match="give --memory-limit"):
            await batch.add_task(TaskType.TRANSCRIBE, {"file_path": "cards.wav", "model": "large-v3"})
    else:
        await batch.add_task(TaskType.YOUTUBE, {"url": "https://example.org"})
        for _ in range(3):
            with pytest.raises(QueueFull):
                await batch.add_task(*call)
    if refusal == "given up while it waits":
        batch._intake.running = True
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(batch.add_task(*call), 0.01)
        batch._intake.running = False
    if refusal != "too little memory":
        await batch.start()
    await batch.add_task(*call)
    await batch.start()
    assert [task.data.get("output") for task in ran.tasks] == ["cards"]


@pytest.mark.parametrize("way", ["a call", "an input"])
async def test_what_is_added_again_after_a_stop_is_the_same(folder: Path, ran: Ran, way: str) -> None:
    touch(folder, "cards.wav")
    batch = create_batch_processor(output_dir=folder / "out", model="pocketsphinx")
    ids = []
    for _ in range(3):
        if way == "a call":
            ids += [await batch.add_task(TaskType.TRANSCRIBE, {"file_path": "cards.wav"})]
        else:
            ids += await batch.add("cards.wav")
        running = asyncio.create_task(batch.start())
        while not ran.tasks:
            await asyncio.sleep(0)
        batch.stop()
        await running
        assert [task.data["output"] for task in ran.tasks] == ["cards"]
        ran.tasks = []
    assert len(set(ids)) == 1


@pytest.mark.parametrize("priority", [1.5, -1, True, "high"])
async def test_a_priority_is_a_whole_number(tmp_path: Path, priority: Any) -> None:
    batch = processor(tmp_path)
    with pytest.raises(UsageError, match=r"priority \(--priority\): expected a"):
        await batch.add_task(TaskType.TRANSCRIBE, {"file_path": "a.wav"}, priority=priority)
    assert batch.get_progress().total_tasks == 0


# Names


async def outputs(batch: BatchProcessor, ran: Ran, *calls: tuple[TaskType, str]) -> dict[tuple[str, str], str]:
    """The names of the outputs of calls, by kind and path, as they reach the coordinator."""
    for kind, path in calls:
        await batch.add_task(kind, {"file_path": path})
    await batch.start()
    here = str(Path.cwd())
    return {
        (task.task_type.value, str(task.data["file_path"]).removeprefix(f"{here}/")): task.data["output"]
        for task in ran.tasks
    }


async def test_outputs_keep_the_names_that_earlier_runs_gave_them(tmp_path: Path, folder: Path, ran: Ran) -> None:
    """In another order, and with others that would have had these names."""
    calls = [
        (TaskType.TRANSCRIBE, "a/talk.mp3"),
        (TaskType.PREPROCESS, "a/talk.mp3"),
        (TaskType.PREPROCESS, "b/talk.mp3"),
        (TaskType.PREPROCESS, "b/talk.wav"),
        (TaskType.TRANSCRIBE, "b/talk.mp3"),
    ]
    first = await outputs(processor(tmp_path), ran, *calls)
    assert len(set(first.values())) == len(calls)
    assert first["transcribe", "a/talk.mp3"] == "talk"
    assert first["preprocess", "a/talk.mp3"] == "audio/talk"
    more = [(TaskType.TRANSCRIBE, "c/talk.mp3"), (TaskType.PREPROCESS, "c/talk.mp3")]
    second = await outputs(processor(tmp_path), ran, *more, *reversed(calls))
    assert {call: second[call] for call in first} == first
    assert len(set(second.values())) == len(calls) + 2


async def test_inputs_keep_the_names_that_calls_gave_them(tmp_path: Path, folder: Path, ran: Ran) -> None:
    touch(folder, "a/talk.mp3", "b/talk.mp3")
    first = await outputs(processor(tmp_path), ran, (TaskType.TRANSCRIBE, "b/talk.mp3"))
    assert set(first.values()) == {"talk"}
    batch = processor(tmp_path)
    await batch.add(["a/talk.mp3", "b/talk.mp3"])
    await batch.start()
    names = {Path(task.data["file_path"]).parent.name: task.data["output"] for task in ran.tasks}
    assert names == {"a": "talk.mp3", "b": "talk"}


async def test_a_recording_that_is_added_twice_overwrites_no_other(tmp_path: Path, ran: Ran) -> None:
    batch = processor(tmp_path)
    for path in ("talk-2.mp3", "talk.mp3", "talk.mp3"):
        await batch.add_task(TaskType.TRANSCRIBE, {"file_path": path})
    await batch.start()
    names = [task.data["output"] for task in ran.tasks]
    assert names[:2] == ["talk-2", "talk"]
    assert names[2] not in names[:2]


# Inputs


def test_all_that_the_command_line_takes_makes_the_same_tasks(tmp_path: Path, folder: Path, ran: Ran) -> None:
    touch(folder, "a.mp3", "sub/b.mp3", "c.wav", "e.wav", "f.wav", "h/i/j.wav", "sub/notes.txt")
    (folder / "m.csv").write_text("file_name,priority,language,prompt,speaker\ne.wav,2,EN,Bo,Ada\ngone.wav,,,,\n")
    (folder / "list").write_text("f.wav\n")
    touch(folder, "ref/a.txt", "ref/i/j.txt")
    inputs = ["a.mp3", "sub", "c*", "m.csv", "h/**/*.wav"]
    options: dict[str, Any] = {"preprocess": True, "keep_audio": True, "max_retries": 1, "formats": "txt"}

    async def by_python() -> list[str]:
        batch = processor(tmp_path, model="tiny", **options, reference="ref", priority=5)
        ids = await batch.add([Path("a.mp3"), *inputs[1:]], lists="list")
        assert batch.get_progress().total_tasks == len(ids) == 7
        await batch.start()
        return ids

    ids = asyncio.run(by_python())
    mine = ran.tasks
    assert [
        ran.named()[name].id for name in ("a.mp3", "b.mp3", "c.wav", "e.wav", "gone.wav", "i/j.wav", "f.wav")
    ] == ids
    own = ["--preprocess", "--keep-audio", "--max-retries", "1", "-f", "txt", "--reference", "ref", "--priority", "5"]
    own += ["--model", "tiny", "-o", str(tmp_path / "other"), "-a", "list"]
    done = CliRunner().invoke(app, ["batch", *inputs, *own, "-q"])
    assert done.exit_code == 0, done.output
    assert ran.tasks == mine
    task = ran.named()["e.wav"]
    assert (task.priority, task.data["language"], task.data["prompt"]) == (2, "EN", "Bo")
    assert task.data["extra"] == {"speaker": "Ada"}
    assert [name for name, task in ran.named().items() if task.data.get("reference")] == ["a.mp3", "i/j.wav"]
    assert {task.priority for task in mine} == {2, 5}


async def test_one_input_or_several_with_their_own_reference_and_priority(
    tmp_path: Path, folder: Path, ran: Ran
) -> None:
    touch(folder, "a.mp3", "b.mp3", "ref/b.txt")
    batch = processor(tmp_path, priority=5)
    (first,) = await batch.add("a.mp3")
    (second,) = await batch.add(Path("b.mp3"), reference=folder / "ref", priority=1)
    await batch.start()
    a, b = (ran.named()[name] for name in ("a.mp3", "b.mp3"))
    assert (a.id, a.priority, a.data.get("reference")) == (first, 5, None)
    assert (b.id, b.priority, b.data["reference"]) == (second, 1, str(folder / "ref" / "b.txt"))
    assert batch.spec.priority == 5
    assert batch.spec.reference_dir == ""


@pytest.mark.parametrize(
    ("inputs", "options", "message"),
    [
        ([], {}, "nothing to transcribe: give an INPUT"),
        ("", {}, "an input is empty"),
        ("gone.mp3", {}, "nothing to transcribe: .*gone.mp3: no such file"),
        ("a.mp3", {"priority": 1.5}, "--priority"),
        ("a.mp3", {"reference": "gone"}, "gone is no folder"),
        ("a.mp3", {"reference": "../out"}, "lies in the output folder"),
        ("m.csv", {}, "m.csv, line 2: pocketsphinx only knows en"),
    ],
)
async def test_what_add_refuses(
    tmp_path: Path, folder: Path, inputs: Any, options: dict[str, Any], message: str
) -> None:
    touch(folder, "a.mp3", "../out/x")
    (folder / "m.csv").write_text("file_name,language\na.mp3,de\n")
    batch = processor(tmp_path)
    with pytest.raises(UsageError, match=message):
        await batch.add(inputs, **options)
    assert batch.get_progress().total_tasks == 0


async def test_a_recording_that_was_added_is_the_same_one_and_a_call_is_another(
    tmp_path: Path, folder: Path, ran: Ran
) -> None:
    touch(folder, "a.mp3", "b.mp3")
    batch = processor(tmp_path)
    ids = await batch.add("a.mp3")
    assert await batch.add(".") == [*ids, (await batch.add("b.mp3"))[0]]
    called = await batch.add_task(TaskType.TRANSCRIBE, {"file_path": "a.mp3"}, depends_on=ids)
    assert called not in ids
    assert batch.get_progress().total_tasks == 3
    await batch.start()
    assert sorted(task.data["output"] for task in ran.tasks) == ["a", "a-2", "b"]


async def test_thousands_of_inputs_pass_a_small_queue_and_calls_wait_for_it(
    tmp_path: Path, folder: Path, ran: Ran
) -> None:
    touch(folder, *(f"{number:03}.wav" for number in range(250)))
    batch = processor(tmp_path, queue_size=1)
    await batch.add(".")
    await batch.add_task(TaskType.TRANSCRIBE, {"file_path": "000.wav"})
    with pytest.raises(QueueFull):
        await batch.add_task(TaskType.TRANSCRIBE, {"file_path": "001.wav"})
    await batch.start()
    assert len(ran.tasks) == 251


async def test_inputs_may_come_while_the_batch_runs_and_it_waits_for_who_plans(
    tmp_path: Path, folder: Path, ran: Ran, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(folder, "a.wav", "b.wav")
    batch = processor(tmp_path)
    await batch.add("a.wav")
    planning = threading.Event()
    real = Planner.inputs

    def slow(*arguments: Any, **options: Any) -> Plan:
        assert planning.wait(10)
        return real(*arguments, **options)

    monkeypatch.setattr(Planner, "inputs", slow)
    monkeypatch.setattr("trax_ray.processor.run.LAST_TASK_S", 0.0)
    adding = asyncio.create_task(batch.add("b.wav"))
    await asyncio.sleep(0)
    running = asyncio.create_task(batch.start())
    while not ran.tasks:
        await asyncio.sleep(0)
    for _ in range(1000):
        await asyncio.sleep(0)
    assert not ran.at_close
    planning.set()
    await adding
    await running
    assert [task.data["name"] for task in ran.at_close] == ["a.wav", "b.wav"]


async def test_a_recording_that_needs_more_memory_than_there_is_stops_all(tmp_path: Path, folder: Path) -> None:
    touch(folder, "a.wav", "b.wav")
    (folder / "m.csv").write_text("file_name,model\na.wav,\nb.wav,large-v3\n")
    batch = processor(tmp_path)
    with pytest.raises(SetupError, match="give --memory-limit"):
        await batch.add("m.csv")
    assert batch.get_progress().total_tasks == 0


async def test_with_preprocess_calls_are_converted_first_too(tmp_path: Path, ran: Ran) -> None:
    batch = processor(tmp_path, preprocess=True, keep_audio=True)
    before = await batch.add_task(TaskType.DOWNLOAD, {"url": "https://example.org/a.mp3"})
    ids = [await batch.add_task(TaskType.TRANSCRIBE, {"file_path": "a.mp3"}, depends_on=(before,)) for _ in range(2)]
    assert batch.get_progress().total_tasks == 3
    await batch.start()
    _, first, second, third, fourth = ran.tasks
    assert [task.task_type.value for task in ran.tasks[1:]] == ["preprocess", "transcribe"] * 2
    assert [second.id, fourth.id] == ids
    assert (first.depends_on, second.depends_on) == ((before,), (first.id,))
    assert (first.file_id, third.file_id) == (second.file_id, fourth.file_id)
    assert [task.data["output"] for task in (first, third)] == ["audio/a", "audio/a-2"]
    assert len({task.id for task in ran.tasks}) == 5


async def test_a_server_and_a_model_of_this_machine_contradict_each_other(tmp_path: Path) -> None:
    batch = processor(tmp_path, model="tiny", base_url="http://127.0.0.1:1")
    with pytest.raises(UsageError, match="--base-url is the address of a server, and the model tiny runs on this"):
        await batch.add_task(TaskType.TRANSCRIBE, {"file_path": "a.mp3"})


# The journal


@pytest.fixture
def reads(ran: Ran, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The segments that were read beyond their opening, each time; by coordinators apart, who have to for safety."""
    seen: list[str] = []
    real = epochs.iter_segment

    def counted(path: Path, *limit: Any) -> Iterator[Any]:
        for number, group in enumerate(real(path, *limit)):
            if number == 1 and not ran.opening:
                seen.append(path.name)
            yield group

    monkeypatch.setattr(epochs, "iter_segment", counted)
    return seen


async def start_by_python(folder: Path, *, call: bool = False) -> None:
    batch = create_batch_processor(output_dir=folder / "out", model="pocketsphinx", preprocess=True, keep_audio=True)
    await batch.add("a.wav")
    if call:
        await batch.add_task(TaskType.PREPROCESS, {"file_path": "a.wav"})
    await batch.start()


def start_by_line(folder: Path, *options: str) -> None:
    own = ["--preprocess", "--keep-audio", "--model", "pocketsphinx", *options]
    done = CliRunner().invoke(app, ["batch", "a.wav", "-o", str(folder / "out"), "-q", *own])
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize("way", ["the command line", "python"])
def test_a_start_reads_the_journal_once(way: str, folder: Path, ran: Ran, reads: list[str]) -> None:
    """Names, what is left to do, and where converted audio goes all follow from one reading."""
    touch(folder, "a.wav")
    asyncio.run(start_by_python(folder))
    reads.clear()
    if way == "python":
        asyncio.run(start_by_python(folder, call=True))
    else:
        start_by_line(folder, "--language", "en")
    assert ran.starts == 2
    assert reads == ["000001.jsonl"]


@pytest.mark.parametrize("way", ["the command line", "python"])
def test_so_does_one_that_has_nothing_left_to_do(way: str, folder: Path, ran: Ran, reads: list[str]) -> None:
    touch(folder, "a.wav")
    ran.succeed = True
    asyncio.run(start_by_python(folder))
    asyncio.run(start_by_python(folder))  # writes the report, which has the journal to read
    reads.clear()
    if way == "python":
        asyncio.run(start_by_python(folder))
    else:
        start_by_line(folder)
    assert ran.starts == 1
    assert reads == ["000001.jsonl"]


async def test_what_was_read_counts_no_more_once_the_journal_has_grown(
    folder: Path, ran: Ran, reads: list[str]
) -> None:
    touch(folder, "a.wav")
    ran.succeed = True
    await start_by_python(folder)
    batch = create_batch_processor(output_dir=folder / "out", model="pocketsphinx", preprocess=True, keep_audio=True)
    await batch.add("a.wav")
    book = BatchJournal.open(Layout(folder / "out"), "another one", 0.0)
    book.commit([CoordinatorStarted(book.epoch, batch.spec.to_dict(), run="another")], 5.0)
    (name,) = [name for name in book.state.records if name.startswith("transcribe")]
    book.commit([Revived((book.state.records[name].task,))], 6.0)
    book.close()
    await batch.start()
    assert ran.starts == 2, "it isn't transcribed any more"


async def test_a_processor_may_be_started_again(folder: Path, ran: Ran) -> None:
    touch(folder, "a.wav", "b.wav")
    ran.succeed = True
    batch = create_batch_processor(output_dir=folder / "out", model="pocketsphinx")
    for name in ("a.wav", "b.wav"):
        await batch.add(name)
        await batch.start()
        assert list(ran.named()) == [name]
    assert ran.starts == 2


async def test_what_comes_while_it_is_seen_that_nothing_is_left_is_not_lost(
    folder: Path, ran: Ran, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(folder, "a.wav", "b.wav")
    ran.succeed = True
    await start_by_python(folder)
    batch = create_batch_processor(output_dir=folder / "out", model="pocketsphinx", preprocess=True, keep_audio=True)
    await batch.add("a.wav")
    running = asyncio.create_task(batch.start())
    await asyncio.sleep(0)
    await batch.add("b.wav")
    await running
    assert "b.wav" in ran.named()


# Models


def test_the_model_is_pinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert pinned_model(str(tmp_path)) is None
    assert resolve_model("tiny", str(tmp_path)) == "tiny"
    monkeypatch.chdir(tmp_path.parent)
    assert resolve_model(f"./{tmp_path.name}", str(tmp_path)) == str(tmp_path)
    pin_model(str(tmp_path), "pocketsphinx")
    assert pinned_model(str(tmp_path)) == "pocketsphinx"
    monkeypatch.setattr("trax_ray.providers.choice.choose_model", lambda language: "pocketsphinx")
    assert resolve_model(None, str(tmp_path)) == "pocketsphinx"
    monkeypatch.setattr("trax_ray.providers.choice.choose_model", lambda language: "base")
    with pytest.raises(SetupError, match="--model pocketsphinx to go on"):
        resolve_model(None, str(tmp_path))
    assert resolve_model("base", str(tmp_path)) == "base"


@pytest.mark.parametrize(
    ("model", "base_url", "refused"),
    [
        ("whisper-1", "", False),
        ("gpt-4o-mini-transcribe-2025-12-15", "http://127.0.0.1:1/v1", False),
        ("my-whisper", "http://127.0.0.1:1/v1", True),
    ],
)
def test_a_limit_of_costs_needs_a_price(
    model: str, base_url: str, refused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-0123456789")
    provider_for(model, BatchSpec(str(tmp_path), model=model, base_url=base_url))
    spec = BatchSpec(str(tmp_path), model=model, base_url=base_url, max_cost_usd=1.0)
    if refused:
        with pytest.raises(UsageError, match=r"--max-cost can't be kept: what my-whisper costs isn't known"):
            provider_for(model, spec)
    else:
        provider_for(model, spec)


async def test_what_a_download_fetches_may_be_transcribed_without_naming_a_file(tmp_path: Path) -> None:
    batch = create_batch_processor(output_dir=tmp_path / "out", model="pocketsphinx")
    with pytest.raises(UsageError, match="file_path"):
        await batch.add_task(TaskType.TRANSCRIBE, {})
    fetched = await batch.add_task(TaskType.DOWNLOAD, {"url": "https://example.org/talk.mp3"})
    for kind in (TaskType.PREPROCESS, TaskType.TRANSCRIBE):
        assert (await batch.add_task(kind, {}, depends_on=(fetched,))).startswith(kind.value)
