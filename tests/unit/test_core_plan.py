"""Planning: the same input gives the same task, and a fingerprint changes exactly when the result may."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trax_ray.core.ids import digest, file_id_of, fingerprint_of, is_same_work
from trax_ray.core.spec import BatchSpec, Enhancement, Limits, RetryPolicy
from trax_ray.core.task import BatchTask, ResourceRequest, TaskType
from trax_ray.plan.steps import steps_of
from trax_ray.plan.tasks import InputFile, plan_call, plan_conversion, plan_file
from trax_ray.testing.factories import make_parts, make_task

quick = settings(max_examples=100, deadline=None)

ENTRY = InputFile(
    path="/in/talk.mp3",
    name="talk.mp3",
    output="talk",
    size_bytes=1000,
    mtime_ns=1,
    inode=2,
    reference="/ref/talk.txt",
    reference_mtime_ns=3,
    language=None,
    priority=4,
)
SPEC = BatchSpec("/out", model="tiny")


def plan(entry: InputFile = ENTRY, spec: BatchSpec = SPEC, **fields: Any) -> BatchTask:
    fields.setdefault("provider", "faster-whisper")
    fields.setdefault("resources", ResourceRequest())
    return plan_file(entry, spec, **fields)


def call(task_type: TaskType = TaskType.DOWNLOAD, data: dict[str, Any] | None = None, **changes: Any) -> BatchTask:
    arguments: dict[str, Any] = {
        "priority": 0,
        "depends_on": (),
        "repeat": 0,
        "spec": SPEC,
        "provider": "yt-dlp",
        "resources": ResourceRequest(),
    }
    return plan_call(task_type, {"url": "http://x"} if data is None else data, **(arguments | changes))


def test_the_task_of_a_recording() -> None:
    task = plan(depends_on=["before"], resources=ResourceRequest(2.0, 1024))
    assert task.task_type is TaskType.TRANSCRIBE
    assert task.id == f"transcribe-{task.file_id}"
    assert task.file_id == file_id_of("/in/talk.mp3")
    assert task.data == {
        "file_path": "/in/talk.mp3",
        "name": "talk.mp3",
        "output": "talk",
        "size_bytes": 1000,
        "mtime_ns": 1,
        "reference": "/ref/talk.txt",
    }
    assert (task.priority, task.max_retries, task.depends_on) == (4, 3, ("before",))
    assert (task.provider, task.resources, task.parent, task.chunk) == (
        "faster-whisper",
        ResourceRequest(2.0, 1024),
        "",
        None,
    )
    assert "reference" not in plan(replace(ENTRY, reference="")).data
    assert json.loads(json.dumps(task.data)) == task.data


def test_an_inputs_language_comes_before_the_batchs() -> None:
    assert "language" not in plan().data
    assert plan(spec=replace(SPEC, language="de")).data["language"] == "de"
    assert plan(replace(ENTRY, language="fr"), replace(SPEC, language="de")).data["language"] == "fr"


def test_ids_stay_from_one_version_and_one_process_to_the_next() -> None:
    # Written out: other ids would make every batch that was begun with an earlier version start over.
    assert file_id_of("/in/talk.mp3") == "52bd88ccb7fa7577"
    assert file_id_of("/in/talk.mp3", 1) == "55477a0aaa14f8b9"
    assert file_id_of("/in/\udce9.mp3") == "274066a6d6bc8b5c"
    assert plan().fingerprint == "492717c7e1706d63"
    assert call().id == "download-75efd136440f1f40"
    code = "from trax_ray.plan.tasks import digest; print(digest({'b': [1, None], 'a': 'x'}))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == digest({"a": "x", "b": [1, None]})


@quick
@given(paths=st.sets(st.text(max_size=6) | st.binary(max_size=4).map(lambda b: b.decode("utf-8", "surrogateescape"))))
def test_ids_are_one_to_a_path(paths: set[str]) -> None:
    assert len({file_id_of(path) for path in paths}) == len(paths)
    assert len({file_id_of(path, repeat) for path in paths for repeat in range(3)}) == 3 * len(paths)


CHANGED_ENTRY: dict[str, Any] = {
    "output": "talk.mp3",
    "size_bytes": 1001,
    "mtime_ns": 2,
    "inode": 3,
    "changed_ns": 5,
    "reference": "/other.txt",
    "reference_mtime_ns": 4,
    "language": "de",
    "model": "base",
    "prompt": "Names: Ada.",
    "captions": "/in/talk.srt",
    "captions_mtime_ns": 7,
}
CHANGED_SPEC: dict[str, Any] = {
    "model": "base",
    "language": "de",
    "chunk_size_s": 300,
    "formats": ("txt",),
    "initial_prompt": "Names: Ada.",
    "word_timestamps": True,
    "preprocess": True,
    "channels": "split",
    "audio_track": "de",
    "loudness": True,
    "vad": "high",
    "base_url": "http://127.0.0.1:8000/v1",
    "captions": "prefer",
    "max_line_width": 30,
    "max_line_count": 1,
    "max_words_per_line": 3,
    "subtitle_style": "bbc",
}
OTHER_SPEC: dict[str, Any] = {
    "output_dir": "/elsewhere",
    "name": "other",
    "formats": tuple(reversed(SPEC.formats)),
    "progress_interval_s": 1.0,
    "stall_timeout_s": 1.0,
    "report_interval_s": 1.0,
    "limits": Limits(max_workers=1),
    "retry": RetryPolicy(max_retries=0),
    "log_level": "DEBUG",
    "runner": "a:b",
    "caller": "a:b",
    "task_timeout_s": 60.0,
    "grace_s": 5.0,
    "start_at": 1.0,
    "only_between": "22:00-06:00",
    "keep_audio": True,
    "allow_private_network": True,
    "cookies": "/cookies.txt",
    "keep_media": True,
    "max_items": 3,
    "since": "20260501",
    "match": "Interview",
    "download_archive": "/archive.txt",
    "max_cost_usd": 1.0,
    "reference_dir": "/ref",
    "priority": 3,
    "batch_priority": 3,
    "task": "download",
    "enhance": Enhancement(level="words", model="deepseek-flash"),
}


@pytest.mark.parametrize("name", CHANGED_ENTRY)
def test_what_matters_of_an_input(name: str) -> None:
    assert plan(replace(ENTRY, **{name: CHANGED_ENTRY[name]})).fingerprint != plan().fingerprint
    assert plan(replace(ENTRY, **{name: CHANGED_ENTRY[name]})).id == plan().id


@pytest.mark.parametrize("name", CHANGED_SPEC)
def test_what_matters_of_a_batch(name: str) -> None:
    spec = replace(SPEC, **{name: CHANGED_SPEC[name]})
    assert plan(spec=spec).fingerprint != plan().fingerprint
    assert plan(spec=spec).id == plan().id
    assert call(spec=spec).fingerprint != call().fingerprint


@pytest.mark.parametrize("name", OTHER_SPEC)
def test_what_does_not_matter(name: str) -> None:
    spec = replace(SPEC, **{name: OTHER_SPEC[name]})
    assert plan(spec=spec).fingerprint == plan().fingerprint
    assert call(spec=spec).fingerprint == call().fingerprint


def test_no_field_of_a_spec_is_forgotten_here() -> None:
    assert {entry.name for entry in fields(BatchSpec)} == set(CHANGED_SPEC) | set(OTHER_SPEC)
    assert {entry.name for entry in fields(InputFile)} == set(CHANGED_ENTRY) | {
        "path",
        "name",
        "priority",
        "missing",
        "extra",
        "file_id",
        "entry",
        "listing",
    }


def test_name_priority_order_and_resources_do_not_matter() -> None:
    others = [
        plan(replace(ENTRY, priority=9, name="shown otherwise")),
        plan(depends_on=("x",)),
        plan(resources=ResourceRequest(8.0, 8192)),
        plan(provider="another"),
    ]
    assert {task.fingerprint for task in others} == {plan().fingerprint}


def test_the_same_recording_several_times() -> None:
    first, second = plan(), plan(repeat=1)
    assert first.id != second.id
    assert first.file_id != second.file_id
    assert plan(repeat=1) == second


# Calls


def test_the_task_of_a_call() -> None:
    task = call(data={"url": "http://x", "quality": 3}, priority=2, depends_on=["a"])
    assert task.task_type is TaskType.DOWNLOAD
    assert task.id.startswith("download-")
    assert task.file_id == task.id
    assert (task.data, task.priority, task.depends_on) == ({"url": "http://x", "quality": 3}, 2, ("a",))
    assert (task.provider, task.max_retries) == ("yt-dlp", 3)


def test_ids_of_calls() -> None:
    assert call(data={"a": 1, "b": 2}).id == call(data={"b": 2, "a": 1}).id
    ids = {
        call().id,
        call(TaskType.YOUTUBE).id,
        call(data={"url": "http://y"}).id,
        call(repeat=1).id,
    }
    assert len(ids) == 4
    assert call(priority=9, depends_on=("x",), identity=[1]).id == call().id


def test_fingerprints_of_calls() -> None:
    assert call(identity=[1, 2]).fingerprint != call(identity=[1, 3]).fingerprint
    assert call(data={"url": "u", "language": "de"}).fingerprint != call(data={"url": "u"}).fingerprint
    assert call(priority=9, depends_on=("x",)).fingerprint == call().fingerprint


# Chunks


def test_chunks_of_a_recording() -> None:
    parent = plan(depends_on=("before",))
    first, second, third = make_parts(parent, [(0.0, 600.0), (600.0, 1200.0), (1200.0, 1500.0)])
    assert [first.id, second.id, third.id] == [f"{parent.id}/{number}" for number in range(3)]
    for number, chunk in enumerate((first, second, third)):
        assert (chunk.parent, chunk.chunk, chunk.file_id) == (parent.id, number, parent.file_id)
        assert chunk.depends_on == ("before",), "what its recording was given it gets too"
        assert (chunk.priority, chunk.provider, chunk.resources) == (
            parent.priority,
            parent.provider,
            parent.resources,
        )
        assert "reference" not in chunk.data
        assert chunk.data["file_path"] == "/in/talk.mp3"
    assert (second.data["start_s"], second.data["end_s"]) == (600.0, 1200.0)
    assert [chunk.data["size_bytes"] for chunk in (first, second, third)] == [400, 400, 200]


def test_a_chunks_fingerprint_follows_its_parent_and_its_place() -> None:
    cuts = [(0.0, 10.0), (10.0, 20.0)]
    chunks = make_parts(plan(), cuts)
    assert make_parts(plan(), cuts) == chunks
    assert len({chunk.fingerprint for chunk in chunks}) == 2
    moved = make_parts(plan(), [(0.0, 10.0), (10.0, 20.5)])
    assert moved[0].fingerprint == chunks[0].fingerprint
    assert moved[1].fingerprint != chunks[1].fingerprint
    changed = make_parts(plan(spec=replace(SPEC, model="base")), cuts)
    assert changed[0].fingerprint != chunks[0].fingerprint
    assert changed[0].id == chunks[0].id


def test_a_time_that_earlier_versions_did_not_know_changes_nothing_but_another_time_does() -> None:
    earlier, one, other = (fingerprint_of(["talk", 1], changed_ns=changed_ns) for changed_ns in (0, 5, 6))
    assert earlier == digest(["talk", 1])
    assert is_same_work(earlier, one)
    assert is_same_work(one, earlier)
    assert is_same_work(one, one)
    assert not is_same_work(one, other)
    assert not is_same_work(one, fingerprint_of(["talk", 2], changed_ns=5))
    part, before = (fingerprint_of([0.0, 9.0], of=each) for each in (one, earlier))
    assert before == digest([earlier, 0.0, 9.0])
    assert is_same_work(part, before)
    assert not is_same_work(part, fingerprint_of([0.0, 9.0], of=other))


def test_no_cuts_no_chunks() -> None:
    assert make_parts(plan(), []) == ()
    (one,) = make_parts(plan(replace(ENTRY, size_bytes=0)), [(5.0, 5.0)])
    assert "size_bytes" not in one.data


def test_digests() -> None:
    assert len(digest("x")) == 16
    assert int(digest("x"), 16) >= 0
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest([1, 2]) != digest([2, 1])
    assert digest(["ab", "c"]) != digest(["a", "bc"])
    assert digest("\udce9") != digest("\udcea")


@pytest.mark.parametrize("cuts", [[(0.0, 5.0), (0.0, 9.0)], [(0.0, 5.0), (6.0, 9.0)]])
def test_chunks_neither_overlap_nor_leave_gaps(cuts: list[tuple[float, float]]) -> None:
    with pytest.raises(ValueError, match="gaps or overlaps"):
        make_parts(make_task("t"), cuts)


# Chains


def chain(entry: InputFile = ENTRY, spec: BatchSpec = SPEC, audio: str = "") -> list[BatchTask]:
    steps = steps_of(entry, replace(spec, preprocess=True), ("faster-whisper", ResourceRequest(2.0, 1024)), audio)
    assert steps[0] == plan_conversion(entry, spec, audio)
    return list(steps)


def test_a_recording_that_is_converted_first_is_one_input_of_two_tasks() -> None:
    first, second = chain()
    assert (first.task_type, second.task_type) == (TaskType.PREPROCESS, TaskType.TRANSCRIBE)
    assert first.file_id == second.file_id == file_id_of("/in/talk.mp3")
    assert (first.id, first.depends_on, second.depends_on) == (f"preprocess-{first.file_id}", (), (first.id,))
    size_bytes = first.data["size_bytes"]
    assert 0 < size_bytes < 1000 / 20, "it weighs little beside the transcription"
    assert first.data == {"file_path": "/in/talk.mp3", "name": "talk.mp3", "size_bytes": size_bytes}
    assert second.data == plan().data, "no path is agreed beforehand"
    assert (first.priority, first.max_retries) == (second.priority, second.max_retries) == (4, 3)
    assert (first.provider, first.resources) == ("preprocess", ResourceRequest())
    assert (second.id, second.provider, second.resources) == (plan().id, "faster-whisper", ResourceRequest(2.0, 1024))
    assert json.loads(json.dumps([first.data, second.data])) == [first.data, second.data]


def test_a_transcript_of_converted_audio_is_another_one() -> None:
    assert chain()[1].fingerprint != plan().fingerprint
    assert chain()[1].fingerprint == plan(spec=replace(SPEC, preprocess=True)).fingerprint
    assert chain(audio="audio/talk")[0].data["output"] == "audio/talk"
    assert chain(audio="audio/talk")[1].fingerprint == chain()[1].fingerprint


def test_what_matters_for_a_conversion() -> None:
    (first, _) = chain()
    for name, value in {"size_bytes": 1001, "mtime_ns": 2, "inode": 3}.items():
        assert chain(replace(ENTRY, **{name: value}))[0].fingerprint != first.fingerprint
    assert chain(audio="audio/talk")[0].fingerprint != first.fingerprint
    heard = {"channels": "left", "audio_track": "2", "loudness": True}
    for name, value in heard.items():
        assert chain(spec=replace(SPEC, **{name: value}))[0].fingerprint != first.fingerprint
    for name, value in CHANGED_SPEC.items():
        same = chain(spec=replace(SPEC, **{name: value}))[0].fingerprint == first.fingerprint
        assert same == (name not in heard)
    for changed in ({"output": "talk.mp3"}, {"reference": "/other.txt"}, {"language": "de"}, {"model": "base"}):
        assert chain(replace(ENTRY, **changed))[0].fingerprint == first.fingerprint  # type: ignore[arg-type]


def test_chunks_of_a_recording_that_was_converted_are_told_of_the_same_audio() -> None:
    first, second = chain()
    chunks = make_parts(second, [(0.0, 10.0), (10.0, 20.0)])
    assert [chunk.depends_on for chunk in chunks] == [(first.id,)] * 2


def test_terms_of_a_glossary_matter_for_a_transcript_and_its_rules_dont() -> None:
    rules = replace(SPEC, enhance=Enhancement(level="rules", glossary="kuber netties -> Kubernetes\n"))
    assert plan(spec=rules).fingerprint == plan().fingerprint
    terms = replace(SPEC, enhance=Enhancement(glossary="Kubernetes\n"))
    assert plan(spec=terms).fingerprint != plan().fingerprint
