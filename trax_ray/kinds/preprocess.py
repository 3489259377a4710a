"""PREPROCESS: a recording as 16 kHz mono FLAC, and what can be heard of its quality."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from trax_ray.codes import WarningCode
from trax_ray.core.task import Outcome, TaskType
from trax_ray.kinds.assignment import Assignment, Progress
from trax_ray.kinds.base import Kind
from trax_ray.kinds.codec import to_json
from trax_ray.kinds.conversion import KIND, convert, holds, key_of, private_audio
from trax_ray.kinds.fetched import downloaded, fetch_again, media_of
from trax_ray.kinds.form import Form
from trax_ray.kinds.known import captions_of_site
from trax_ray.store.artifacts import ArtifactStore, content_hash, hash_of
from trax_ray.store.layout import Layout
from trax_ray.store.outputs import Outputs, beside, stored_outputs
from trax_ray.store.uris import place_of

__all__ = ["PREPROCESS", "PreprocessData", "preprocess"]


@dataclass(frozen=True, slots=True)
class PreprocessData:
    """What a PREPROCESS task is given.

    Args:
        file_path: Absolute path of the recording; empty for the one that a task which this one depends on fetched.
        name: What people see.
        output: Path of the FLAC file below the output folder, without suffix. Empty for a private file, which is there
            until the input's transcript is; it isn't made again where its figures are known: who needs it makes it, and
            often nobody does.
        size_bytes: What it weighs in the estimate of the time still to go.
        missing: It couldn't be looked at when it was planned: it isn't there, or its disk isn't.
        audio_s: How long its header says that it is, seconds; None where nobody looked, or it doesn't say.
    """

    file_path: str
    name: str = ""
    output: str = ""
    size_bytes: int = 0
    missing: bool = False
    audio_s: float | None = None


def preprocess(assignment: Assignment) -> Iterator[Progress | Outcome]:
    """Convert and analyse one recording.

    Yields:
        Progress, then one Outcome whose metrics are a `Converted`. Where the input has other steps its `warnings`
        leave out what the transcription says too.

    Raises:
        FileError: The recording can't be read, or the file can't be written; permanent.
        MediaError: There is nothing to decode; permanent.
    """
    yield Progress(0.0)
    task, data = assignment.task, PREPROCESS.read(assignment.task)
    layout, form = Layout.of(assignment.spec.output_dir), Form.of(assignment.spec)
    store = ArtifactStore(layout.artifacts)
    if captions_of_site(assignment, store) is not None and not data.output:
        yield Outcome(metrics={"cached": True})  # they are the transcript: nobody needs the audio
        return
    fetched = None if data.file_path else downloaded(assignment)
    source = hash_of(place_of(data.file_path), layout.hashes) if fetched is None else media_of(layout, fetched)
    cached = store.has(key_of(store, source.content, form))
    if fetched is not None and not cached:
        if not source.path.exists():
            yield from fetch_again(assignment, layout, store, fetched)
        source = hash_of(source.path, layout.hashes)
    written = Outputs(layout, task.file_id)
    wanted = f"{data.output}.flac"
    stored = stored_outputs(layout, task.file_id) if data.output else None
    if data.output and stored is None:
        name = written.place(wanted, lambda path: cached and holds(path, source.content, form))
        target = layout.here / name
    else:
        target = private_audio(layout, task.file_id)
    key, converted = yield from convert(
        store,
        source,
        target,
        layout.hashes,
        form=form,
        needed=bool(data.output),
        before=lambda content: written.remember({name: content}) if data.output and stored is None else None,
    )
    warnings = converted.warnings
    if task.file_id != task.id:
        said_later = {*converted.media_warnings, WarningCode.NO_SPEECH}
        warnings = tuple(name for name in warnings if name not in said_later)
    as_it_is = converted.as_it_is and not data.output
    audio = "" if as_it_is else str(target.relative_to(layout.here))
    output = audio
    if stored is not None:
        output = stored.put_made(wanted, target, content_hash(target), beside(wanted))
        if task.file_id == task.id or assignment.spec.task == KIND:
            target.unlink()  # nobody reads it here
    kept = (wanted,) if data.output and output != wanted else ()
    if kept:
        warnings = tuple(sorted({*warnings, WarningCode.OUTPUT_KEPT}))
    outputs = (output,) if data.output else ()
    figures = replace(
        converted,
        warnings=warnings,
        media_warnings=(),
        as_it_is=as_it_is,
        audio=audio,
        content=source.content,
        outputs=outputs,
        kept_outputs=kept,
        cached=cached,
    )
    yield Outcome(artifact_key=key, metrics=to_json(figures))


PREPROCESS = Kind(
    name=KIND,
    task_type=TaskType.PREPROCESS,
    data=PreprocessData,
    runs=preprocess,
    needs="file_path",
)
