"""The same command again, over an output folder and inputs that changed meanwhile; without Ray and without a model."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest
import soundfile

from tests.support.in_process import run_batch, run_tasks
from tests.support.media_server import Answer, MediaServer
from trax_ray.codes import FailureCode
from trax_ray.core.spec import BatchSpec
from trax_ray.core.state.events import Dispatch
from trax_ray.core.task import TaskType
from trax_ray.create import create_batch_processor
from trax_ray.errors import FileError, UsageError
from trax_ray.kinds import chunk as chunking
from trax_ray.kinds.failures import failure_of_task
from trax_ray.media import decode
from trax_ray.media.speech import Segment, Span
from trax_ray.plan.planner import make_plan
from trax_ray.report.fold import read_history
from trax_ray.report.write import run_facts, write_report
from trax_ray.store.cleaning import clean_everything
from trax_ray.store.layout import Layout
from trax_ray.testing.factories import make_task


class Counted:
    """An engine that says how many samples it was given, and how loud the first of them is."""

    name = "counted"
    model = "counted-1"
    language = "en"

    def transcribe(self, audio: Any, speech: Sequence[Span], options: Any) -> Iterator[Segment]:
        yield Segment(0.0, 1.0, f"{len(audio)} samples {abs(audio[: len(audio) // 2]).max():.3f}", confidence=0.9)


@pytest.fixture(autouse=True)
def engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunking, "_engine", lambda model, resources: Counted())


@pytest.fixture(scope="module")
def audio(samples: Path) -> Any:
    with decode.stream(samples / "first_test.wav", end_s=3.0) as blocks:
        return blocks.rest()


@pytest.fixture
def talks(tmp_path: Path, audio: Any) -> Path:
    """A folder with two recordings."""
    folder = tmp_path / "talks"
    folder.mkdir()
    for number, name in enumerate(("a.wav", "b.wav")):
        record(folder / name, audio, 0.9 - 0.2 * number)
    return folder


@pytest.fixture
def spec(tmp_path: Path) -> BatchSpec:
    return BatchSpec(str(tmp_path / "out"), model="pocketsphinx", formats=("txt",))


def record(path: Path, audio: Any, loudness: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, audio * loudness, 16_000)


def files_of(spec: BatchSpec) -> list[str]:
    """The names of the files that a user gets."""
    out = Path(spec.output_dir)
    found = [path for path in out.rglob("*") if path.is_file() and ".trax" not in path.parts]
    return sorted(str(path.relative_to(out)) for path in found)


def written(spec: BatchSpec) -> dict[str, str]:
    """Those files by name."""
    return {name: (Path(spec.output_dir) / name).read_text() for name in files_of(spec)}


def test_a_run_without_references_says_whose_accuracy_was_measured(talks: Path, spec: BatchSpec) -> None:
    references = talks.parent / "references"
    references.mkdir()
    (references / "a.txt").write_text("24000 samples\n")
    measured = run_batch([talks], replace(spec, reference_dir=str(references)))
    note = "1 measured against a reference transcript before, and without one now: their accuracy will be an estimate"
    assert measured.plan is not None
    assert note not in measured.plan.notes
    assert note in make_plan([str(talks)], spec).notes
    assert note not in make_plan([str(talks)], measured.plan.spec).notes


# The recordings change


def change_in_place(path: Path, audio: Any) -> None:
    """Give a recording other bytes, and the size and the time that it had."""
    kept = path.stat()
    while path.stat().st_ctime_ns == kept.st_ctime_ns:  # as coarse as the kernel's clock
        record(path, audio, 0.2)
        os.utime(path, ns=(kept.st_atime_ns, kept.st_mtime_ns))
    found = path.stat()
    assert (found.st_size, found.st_mtime_ns, found.st_ino) == (kept.st_size, kept.st_mtime_ns, kept.st_ino)


def test_a_recording_changed_in_place_with_equal_size_and_time_is_done_again(
    talks: Path, spec: BatchSpec, audio: Any
) -> None:
    run_batch([talks], spec)
    first = written(spec)
    change_in_place(talks / "a.wav", audio)
    again = run_batch([talks], spec)
    assert len(again.attempts) == 1
    assert written(spec)["a.txt"] != first["a.txt"]
    assert written(spec)["b.txt"] == first["b.txt"]


def test_a_folder_of_an_earlier_version_which_knows_no_such_times_has_nothing_to_do(
    talks: Path, spec: BatchSpec, audio: Any
) -> None:
    plan = make_plan([str(talks)], spec)
    earlier = [replace(task, fingerprint=task.fingerprint.partition("-")[0]) for task in plan.tasks]
    assert earlier != [*plan.tasks]
    assert len(run_tasks(earlier, spec).attempts) == 2
    assert run_batch([talks], spec).attempts == []
    change_in_place(talks / "a.wav", audio)
    assert len(run_batch([talks], spec).attempts) == 1, "from then on they are known"


# Files that somebody else wrote, or changed


def test_a_transcript_that_was_corrected_is_kept_when_a_format_is_added(talks: Path, spec: BatchSpec) -> None:
    run_batch([talks], spec)
    out = Path(spec.output_dir)
    before = written(spec)
    (out / "a.txt").write_text("As it was said.\n")
    again = run_batch([talks], replace(spec, formats=("txt", "srt")))
    assert written(spec) == {
        **before,
        "a.txt": "As it was said.\n",
        "a.new.txt": before["a.txt"],
        "a.srt": ANY,
        "b.srt": ANY,
    }
    assert again.outputs("a.wav") == ["a.new.txt", "a.srt"]
    assert "output_kept" in again.warnings("a.wav")
    assert "output_kept" not in again.warnings("b.wav")
    facts = run_facts(read_history(out))
    assert (facts["kept_outputs"], facts["kept_outputs_count"]) == (["a.txt"], 1)
    assert "output_kept" in facts["warnings"]


@pytest.mark.parametrize("why", ["a touch", "a deleted sibling", "another recording"])
def test_a_corrected_transcript_is_kept_whyever_it_is_made_again(
    why: str, talks: Path, spec: BatchSpec, audio: Any
) -> None:
    spec = replace(spec, formats=("txt", "srt"))
    out = Path(spec.output_dir)
    run_batch([talks], spec)
    (out / "a.txt").write_text("As it was said.\n")
    for _ in range(3):
        if why == "a touch":
            (talks / "a.wav").touch()
        elif why == "another recording":
            record(talks / "a.wav", audio, 0.3)
        else:
            (out / "a.srt").unlink()
        assert len(run_batch([talks], spec).attempts) == 1
        assert (out / "a.txt").read_text() == "As it was said.\n"
    assert sorted(written(spec)) == ["a.new.txt", "a.srt", "a.txt", "b.srt", "b.txt"], "one new version, not three"


def test_what_we_wrote_and_nobody_changed_is_replaced(talks: Path, spec: BatchSpec, audio: Any) -> None:
    run_batch([talks], spec)
    before = written(spec)
    for loudness in (0.3, 0.2):
        record(talks / "a.wav", audio, loudness)
        again = run_batch([talks], spec)
        assert again.outputs("a.wav") == ["a.txt"]
        assert "output_kept" not in again.warnings("a.wav")
    after = written(spec)
    assert sorted(after) == ["a.txt", "b.txt"]
    assert after["a.txt"] != before["a.txt"]


def test_the_users_own_files_are_kept_where_inputs_and_outputs_share_a_folder(talks: Path, spec: BatchSpec) -> None:
    """A reference, a link, a folder: whatever has the name."""
    spec = replace(spec, output_dir=str(talks), formats=("txt", "srt", "vtt"))
    (talks / "a.txt").write_text("A reference.\n")
    (talks / "notes").write_text("Notes.\n")
    (talks / "a.srt").symlink_to(talks / "notes")
    (talks / "a.vtt").mkdir()
    (talks / "a.new.vtt").write_text("Another.\n")
    ended = run_batch([talks / "a.wav", talks / "b.wav"], spec)
    assert ended.outputs("a.wav") == ["a.new.txt", "a.new.srt", "a.new-2.vtt"]
    assert (talks / "a.txt").read_text() == "A reference.\n"
    assert ((talks / "notes").read_text(), (talks / "a.srt").is_symlink()) == ("Notes.\n", True)
    assert (talks / "a.new.vtt").read_text() == "Another.\n"


def test_a_file_of_the_user_with_the_same_bytes_stays_the_users(talks: Path, spec: BatchSpec, audio: Any) -> None:
    other = replace(spec, output_dir=f"{spec.output_dir}-2")
    run_batch([talks / "a.wav"], spec)
    Path(other.output_dir).mkdir()
    text = written(spec)["a.txt"]
    (Path(other.output_dir) / "a.txt").write_text(text)
    assert run_batch([talks / "a.wav"], other).outputs("a.wav") == ["a.txt"]
    record(talks / "a.wav", audio, 0.3)
    assert run_batch([talks / "a.wav"], other).outputs("a.wav") == ["a.new.txt"]
    assert (Path(other.output_dir) / "a.txt").read_text() == text


def test_a_recording_is_not_replaced_by_audio_that_is_kept(talks: Path, spec: BatchSpec, audio: Any) -> None:
    """The folder `audio` holds the recordings, and the output folder is the one above it."""
    folder = talks / "audio"
    folder.mkdir()
    soundfile.write(folder / "c.flac", audio, 16_000)
    before = (folder / "c.flac").read_bytes()
    spec = replace(spec, output_dir=str(talks), preprocess=True, keep_audio=True)
    first = run_batch([folder / "c.flac"], spec)
    assert (folder / "c.flac").read_bytes() == before
    assert (folder / "c.new.flac").is_file()
    assert set(first.states.values()) == {"succeeded"}
    (folder / "c.flac").touch()
    again = run_batch([folder / "c.flac"], spec)
    assert set(again.states.values()) == {"succeeded"}
    assert (folder / "c.flac").read_bytes() == before
    assert sorted(path.name for path in folder.iterdir()) == ["c.flac", "c.new.flac"]


def test_kept_audio_that_was_changed_is_not_replaced(talks: Path, spec: BatchSpec, audio: Any) -> None:
    spec = replace(spec, preprocess=True, keep_audio=True)
    run_batch([talks / "a.wav"], spec)
    kept = Path(spec.output_dir) / "audio" / "a.flac"
    kept.write_bytes(b"changed by hand")
    record(talks / "a.wav", audio, 0.3)
    run_batch([talks / "a.wav"], spec)
    assert kept.read_bytes() == b"changed by hand"
    assert kept.with_name("a.new.flac").is_file()


def test_a_report_that_somebody_else_wrote_is_refused(talks: Path, spec: BatchSpec) -> None:
    theirs = Path(spec.output_dir) / "report" / "errors.log"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("Errors of ours.\n")
    with pytest.raises(UsageError, match=r"errors\.log isn't a report of trax_ray.*give another --output-dir"):
        make_plan([str(talks)], spec)
    theirs.unlink()
    run_batch([talks], spec)
    write_report(spec.output_dir, final=True)
    clean_everything(Layout(Path(spec.output_dir)), 0.0)
    assert make_plan([str(talks)], spec).tasks, "our own is replaced"


# Recordings that go, and come back


@pytest.mark.parametrize("how", ["unmounted", "an empty mount point"])
@pytest.mark.parametrize("preprocess", [False, True])
def test_a_share_that_vanishes_parks_the_batch_and_the_same_command_continues(
    how: str, preprocess: bool, talks: Path, spec: BatchSpec
) -> None:
    spec = replace(spec, preprocess=preprocess)
    away = talks.with_name("away")

    def unmount(dispatch: Dispatch) -> None:
        if dispatch.task.data["name"] == "b.wav" and talks.exists() and not away.exists():
            talks.rename(away)
            if how != "unmounted":
                talks.mkdir()

    first = run_batch([talks], spec, before=unmount)
    assert (first.state.finished, first.codes()) == ("parked", {})
    (failure,) = first.state.parked.values()
    assert (failure.code, failure.failure_class.value) == ("folder_away", "config")
    assert f"{talks} isn't there any more" in failure.message
    if talks.exists():
        talks.rmdir()
    away.rename(talks)
    again = run_batch([talks], spec)
    assert (again.state.finished, set(again.states.values())) == ("complete", {"succeeded"})
    assert sorted(written(spec)) == ["a.txt", "b.txt"]
    assert run_batch([talks], spec).attempts == []


def test_parts_of_a_recording_on_a_share_that_vanishes_park_the_batch_too(
    samples: Path, talks: Path, spec: BatchSpec
) -> None:
    shutil.copy(samples / "stories" / "the_river.ogg", talks / "c.ogg")
    spec = replace(spec, chunk_size_s=20)
    away = talks.with_name("away")

    def unmount(dispatch: Dispatch) -> None:
        if dispatch.task.chunk == 1 and talks.exists():
            talks.rename(away)

    first = run_batch([talks / "c.ogg"], spec, before=unmount)
    assert (first.state.finished, first.codes()) == ("parked", {})
    away.rename(talks)
    again = run_batch([talks / "c.ogg"], spec)
    assert set(again.states.values()) == {"succeeded"}


def test_a_recording_that_was_deleted_fails_alone_and_is_done_when_it_is_back(talks: Path, spec: BatchSpec) -> None:
    kept = (talks / "a.wav").read_bytes()
    first = run_batch([talks], spec, before=lambda dispatch: (talks / "a.wav").unlink(missing_ok=True))
    assert (first.states, first.codes()) == ({"a.wav": "failed", "b.wav": "succeeded"}, {"a.wav": "not_found"})
    listed = [talks / "a.wav", talks / "b.wav"]
    still = run_batch(listed, spec)
    assert still.states["a.wav"] == "failed"
    assert run_batch(listed, spec).attempts == [], "it isn't looked for again and again"
    (talks / "a.wav").write_bytes(kept)
    assert set(run_batch(listed, spec).states.values()) == {"succeeded"}


def test_a_recording_that_was_not_found_and_is_there_unchanged_is_done(talks: Path, spec: BatchSpec) -> None:
    """Its size, its time and its inode are those that the plan of the run saw in which it was away."""
    away = talks.with_name("away.wav")

    def hide(dispatch: Dispatch) -> None:
        if dispatch.task.data["name"] == "a.wav":
            os.link(talks / "a.wav", away)
            (talks / "a.wav").unlink()

    assert run_batch([talks], spec, before=hide).codes() == {"a.wav": "not_found"}
    away.rename(talks / "a.wav")
    assert set(run_batch([talks], spec).states.values()) == {"succeeded"}


def test_a_recording_that_is_back_by_the_time_one_looks_is_tried_again(talks: Path) -> None:
    task = make_task("t", data={"file_path": str(talks / "a.wav")})
    gone = FileError("can't read a.wav", code=FailureCode.NOT_FOUND)
    failure = failure_of_task(gone, task)
    assert (failure.code, failure.failure_class.value) == ("file_busy", "transient")
    missing = replace(task, data={**task.data, "reference": str(talks / "none.txt")})
    assert failure_of_task(gone, missing).code == "not_found", "it is the reference that is gone"
    elsewhere = replace(task, data={"file_path": str(talks / "none" / "a.wav"), "missing": True})
    assert failure_of_task(gone, elsewhere).code == "not_found", "a name that was wrong from the start parks nothing"
    assert failure_of_task(gone, make_task("t")).code == "not_found"


@pytest.mark.parametrize("preprocess", [False, True])
def test_a_finished_recording_that_was_archived_keeps_its_result(
    preprocess: bool, talks: Path, spec: BatchSpec, tmp_path: Path
) -> None:
    spec = replace(spec, preprocess=preprocess)
    listed = [talks / "a.wav", talks / "b.wav"]
    run_batch(listed, spec)
    (talks / "a.wav").rename(tmp_path / "archived.wav")
    again = run_batch(listed, spec)
    assert (again.attempts, set(again.states.values())) == ([], {"succeeded"})
    assert again.plan is not None
    assert f"1 not there any more, whose transcripts stay, such as {talks / 'a.wav'}" in again.plan.notes
    (talks / "b.wav").unlink()
    talks.rmdir()
    last = run_batch(listed, spec)
    assert (last.attempts, set(last.states.values())) == ([], {"succeeded"}), "where all of them were archived too"
    with pytest.raises(UsageError, match="no such file"):
        run_batch([talks / "c.wav"], spec)


# Recordings that are elsewhere now


@pytest.mark.parametrize("how", ["mounted elsewhere", "copied with their times", "copied"])
@pytest.mark.parametrize("preprocess", [False, True])
def test_a_folder_that_was_moved_doubles_nothing(how: str, preprocess: bool, talks: Path, spec: BatchSpec) -> None:
    spec = replace(spec, preprocess=preprocess, keep_audio=preprocess)
    first = run_batch([talks], spec)
    before = files_of(spec)
    moved = talks.with_name("elsewhere") / "usb"
    moved.parent.mkdir()
    if how == "mounted elsewhere":
        talks.rename(moved)
    else:
        shutil.copytree(talks, moved, copy_function=shutil.copy2 if "times" in how else shutil.copy)
        for path in moved.iterdir():
            if how == "copied":
                os.utime(path, (1e9, 1e9))
        shutil.rmtree(talks)
    again = run_batch([moved], spec)
    assert again.states == first.states
    assert files_of(spec) == before
    assert all("duplicate_of" not in each.metrics for each in again.state.records.values())
    assert len(again.state.records) == len(first.state.records)
    assert run_batch([moved], spec).attempts == []
    if how == "mounted elsewhere":
        moved.rename(talks)
        assert run_batch([talks], spec).states == first.states, "and back again"
        assert files_of(spec) == before


def test_a_copy_elsewhere_and_another_recording_of_that_name_are_inputs_of_their_own(
    talks: Path, spec: BatchSpec, audio: Any
) -> None:
    run_batch([talks], spec)
    copy = talks.with_name("copy")
    shutil.copytree(talks, copy)
    assert set(run_batch([copy], spec).states) == {"a.wav", "b.wav"}
    assert sorted(written(spec)) == ["a.txt", "a.wav.txt", "b.txt", "b.wav.txt"], "the first one is still there"
    other = talks.with_name("other")
    record(other / "a.wav", audio, 0.1)
    os.utime(other / "a.wav", (1e9, 1e9))
    shutil.rmtree(talks)
    assert (other / "a.wav").stat().st_size == (copy / "a.wav").stat().st_size
    run_batch([other], spec)
    assert len(written(spec)) == 5, "of the same name and size, and not the same"


def test_what_is_back_where_something_was_moved_from_is_an_input_of_its_own(
    talks: Path, spec: BatchSpec, audio: Any
) -> None:
    run_batch([talks], spec)
    before = written(spec)
    moved = talks.with_name("moved")
    talks.rename(moved)
    run_batch([moved], spec)
    record(talks / "a.wav", audio, 0.1)
    for _ in range(2):
        ended = run_batch([talks, moved], spec)
        assert len(ended.state.ledger.run.inputs) == 3
        after = written(spec)
        assert {name: after[name] for name in before} == before
        assert len(after) == 3


def test_what_failed_is_tried_where_it_is_now(talks: Path, spec: BatchSpec) -> None:
    def break_it(dispatch: Dispatch) -> None:
        if dispatch.task.data["name"] == "a.wav":
            (talks / "a.wav").unlink(missing_ok=True)

    kept = (talks / "a.wav").read_bytes()
    status = (talks / "a.wav").stat()
    assert run_batch([talks], spec, before=break_it).states["a.wav"] == "failed"
    moved = talks.with_name("moved")
    talks.rename(moved)
    (moved / "a.wav").write_bytes(kept)
    os.utime(moved / "a.wav", ns=(status.st_atime_ns, status.st_mtime_ns))
    again = run_batch([moved], spec)
    assert set(again.states.values()) == {"succeeded"}
    assert sorted(written(spec)) == ["a.txt", "b.txt"]


async def test_a_call_for_a_recording_that_was_moved_is_the_same(talks: Path, spec: BatchSpec) -> None:
    run_batch([talks / "a.wav"], spec)
    moved = talks.with_name("moved.d")
    talks.rename(moved)
    batch = create_batch_processor(output_dir=spec.output_dir, model="pocketsphinx", formats="txt")
    ids = [await batch.add_task(TaskType.TRANSCRIBE, {"file_path": str(moved / "a.wav")}) for _ in range(2)]
    planned = make_plan([str(moved / "a.wav")], spec)
    assert ids[0] == planned.tasks[0].id
    assert ids[1] != ids[0], "the same call again is another one"


# What is on the web


def test_what_was_fetched_once_is_known_in_the_next_run(web: MediaServer, weather: bytes, spec: BatchSpec) -> None:
    web.answers["/weather.ogg"] = Answer(weather, "audio/ogg")
    spec = replace(spec, allow_private_network=True)
    url = f"{web.url}/weather.ogg"
    first = run_batch([url], spec)
    assert len(first.attempts) == 2, "it is fetched and transcribed"
    asked = len(web.asked)
    again = run_batch([url], spec)
    assert (again.attempts, len(web.asked)) == ([], asked)
    assert set(again.state.records) == set(first.state.records), "it is the same recording"
